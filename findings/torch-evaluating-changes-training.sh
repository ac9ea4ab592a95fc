#!/usr/bin/env bash
# Looping over a DataLoader that shuffles nothing changes the later noise.
#
# Packages: torch 2.15.0
# Expected: a DataLoader with shuffle=False and no workers uses no random numbers.
# Seen: every loop over it takes one number from the global generator (a seed for
#   workers that it does not have). A loader with a generator of its own leaves the
#   global one alone.
# Why it matters: a run that evaluates every epoch, and one that does not, train on
#   different noise from the first evaluation on, so that they end in different
#   weights: adding a print of the validation ELBO changes the result.
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
from torch.utils.data import DataLoader, TensorDataset


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


def noise(**options):
    """The noise that follows one loop over a loader, from seed 0."""
    torch.manual_seed(0)
    if options:
        loader = DataLoader(TensorDataset(torch.arange(6.0)), batch_size=3, **options)
        for _ in loader:
            pass
    return torch.randn(3)


without = noise()
after = noise(shuffle=False, num_workers=0)
own = noise(shuffle=False, num_workers=0, generator=torch.Generator())
print("no loop:                     ", without.tolist())
print("after a loop:                ", after.tolist())
print("loop with its own generator: ", own.tolist())
must(not torch.equal(without, after), "a loop leaves the global generator alone")
must(torch.equal(without, own), "a loader with its own generator takes global numbers")
EOF
