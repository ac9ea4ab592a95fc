#!/usr/bin/env bash
# Checkpointing differentiates another sample than the one it computed.
#
# Packages: torch 2.15.0
# Expected: torch.utils.checkpoint recomputes a step with the same random numbers, as
#   preserve_rng_state=True, its default, says: memory is saved, the gradient stays.
# Seen: only the global random state is put back. A torch.Generator that is passed to
#   the step goes on, so the backward pass draws new noise: for y = sum(x * noise) the
#   gradient is not the noise that y has, in either variant, without a warning. (The
#   documentation warns of functions that change in general, not of generators.)
# Why it matters: noise from a generator that is passed in is the careful way to make
#   a training repeatable, and long recurrent models are what checkpointing is for.
#   Both together train on gradients of another sample than that of the loss. Draw the
#   noise outside, and pass the tensor.
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
import warnings

import torch
from torch.utils.checkpoint import checkpoint


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


def step(x, generator):
    return x * torch.randn(x.shape, generator=generator)


warnings.simplefilter("error")
for reentrant in (False, True):
    for own in (False, True):
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0) if own else None
        x = torch.ones(4, requires_grad=True)
        y = checkpoint(step, x, generator, use_reentrant=reentrant)
        y.sum().backward()
        noise = [f"{e:.2f}" for e in y.tolist()]
        slope = [f"{e:.2f}" for e in x.grad.tolist()]
        print(f"reentrant {reentrant}, generator of its own {own}:")
        print(f"  noise    {noise}\n  gradient {slope}")
        must((noise != slope) == own, f"with a generator {own} the noise is {noise}")
EOF
