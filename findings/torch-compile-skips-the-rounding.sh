#!/usr/bin/env bash
# A compiled function does not round to bfloat16.
#
# Packages: torch 2.15.0, on the CPU; needs a C++ compiler
# Expected: x.bfloat16().float() keeps 8 bits of each number, compiled or not; and
#   x.half().float() makes 70000 infinite.
# Seen: torch.compile takes a cast there and back for none at all, and returns x as it
#   was: the error of the rounding is exactly 0, and 70000 stays 70000. A rounding that
#   is left alone, x.bfloat16(), is done. (Issues 176565 and 185337;
#   emulate_precision_casts, an option that is off by default, is about this.)
# Why it matters: whoever rounds on purpose, to see what a number format costs or to
#   train with the rounding in the loop, measures no cost at all once it is compiled.
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

export TORCHINDUCTOR_CACHE_DIR=$work/inductor
"$PYTHON" - <<'EOF'
import torch


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


def rounded(x):
    return x.bfloat16().float()


def halved(x):
    return x.half().float()


def kept_in_bfloat16(x):
    return x.bfloat16()


x = torch.tensor([1.001, 3.14159, 70000.0])
for function in (rounded, halved, kept_in_bfloat16):
    eager, compiled = function(x), torch.compile(function)(x)
    print(f"{function.__name__}: eager {eager.tolist()}, compiled {compiled.tolist()}")
    if function is kept_in_bfloat16:
        must(torch.equal(eager, compiled), "a cast that is not undone differs too")
    else:
        must(torch.equal(compiled, x), "the compiled function rounds")
        must(not torch.equal(eager, x), "the eager function does not round")
noise = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
for name, function in {"eager": rounded, "compiled": torch.compile(rounded)}.items():
    error = (function(noise) - noise).abs().mean().item()
    print(f"mean error of rounding 100000 normal numbers, {name}: {error:.5f}")
    must((error == 0) == (name == "compiled"), f"the error is {error} ({name})")
EOF
