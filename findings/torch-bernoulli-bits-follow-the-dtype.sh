#!/usr/bin/env bash
# Binarising in float64 gives other bits than in float32, with one seed.
#
# Packages: torch 2.15.0 on the CPU
# Expected: torch.bernoulli(p) with one seed gives the same 0s and 1s, whatever the
#   floating type of the same probabilities, except where p is within rounding.
# Seen: the two share no random numbers: they agree as two independent draws do.
#   bernoulli_(0.5) is a third stream, other than that of a tensor full of 0.5.
# Why it matters: a test set that was "binarised once from seed 0" is another test set
#   after a harmless-looking .double(), and its NLL another number. Store the bits, or
#   name the dtype beside the seed.
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


def seeded():
    return torch.Generator().manual_seed(0)


p = torch.rand(100_000, generator=torch.Generator().manual_seed(1))
single = torch.bernoulli(p, generator=seeded())
double = torch.bernoulli(p.double(), generator=seeded())
same = (single == double).double().mean().item()
independent = (p**2 + (1 - p) ** 2).mean().item()
print(f"equal bits, float32 and float64: {same:.4f}")
print(f"equal bits of independent draws: {independent:.4f}")
must(abs(same - independent) < 0.01, "the bits of float32 and float64 are related")

half = torch.full((100_000,), 0.5)
tensor = torch.bernoulli(half, generator=seeded())
scalar = torch.empty_like(half).bernoulli_(0.5, generator=seeded())
same = (tensor == scalar).double().mean().item()
print(f"equal bits, tensor of 0.5 and the number 0.5: {same:.4f}")
must(abs(same - 0.5) < 0.01, "a tensor of 0.5 and the number 0.5 give related bits")
EOF
