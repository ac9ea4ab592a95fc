#!/usr/bin/env bash
# Muon moves a matrix ten times as far as its transpose.
#
# Packages: torch 2.15.0
# Expected: an optimiser's step does not depend on whether a layer stores its weights
#   as (out, in) or as (in, out): the step of the transpose is the transpose of the
#   step. That is so for SGD and Adam.
# Seen: with the default adjust_lr_fn, Muon multiplies the step by sqrt(max(1, rows /
#   columns)): (1000, 10) moves ten times as far as (10, 1000) with the same gradient.
#   With match_rms_adamw the two agree.
# Why it matters: a learning rate for Muon does not carry over from a library that
#   stores x W to one that stores W x, nor between an encoder's wide and a decoder's
#   tall layer, nor to a weight kept transposed for speed.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(torch==2.15.0 numpy==2.4.6)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$work/venv"
    PYTHON=$work/venv/bin/python
    "$PYTHON" -m pip install -q "${pins[@]}"
fi
"$PYTHON" -c 'import sys, importlib.metadata as m
for name, want in (pin.split("==") for pin in sys.argv[1:]):
    if m.version(name).split("+")[0] != want:
        sys.exit(f"{name}=={want} is needed, {m.version(name)} is here")' "${pins[@]}"

"$PYTHON" - <<'EOF'
import torch


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


def step(gradient, **options):
    weight = torch.nn.Parameter(torch.zeros_like(gradient))
    weight.grad = gradient.clone()
    torch.optim.Muon([weight], lr=1.0, weight_decay=0.0, **options).step()
    return weight.detach()


def ratio(gradient, **options):
    tall, wide = step(gradient, **options), step(gradient.T.contiguous(), **options)
    apart = (tall / tall.norm() - wide.T / wide.norm()).norm().item()
    must(apart < 0.05, "the two steps do not even point the same way")
    return (tall.norm() / wide.norm()).item()


gradient = torch.randn(1000, 10, generator=torch.Generator().manual_seed(0))
plain, matched = ratio(gradient), ratio(gradient, adjust_lr_fn="match_rms_adamw")
print(f"step of (1000, 10) over step of (10, 1000): {plain:.2f} by default")
print(f"with match_rms_adamw: {matched:.2f}")
must(
    abs(plain - 10) < 0.2,
    "the default no longer moves the tall matrix ten times as far",
)
must(abs(matched - 1) < 0.02, "match_rms_adamw also depends on which way it lies")
EOF
