#!/usr/bin/env bash
# The noise of an image depends on how many images are drawn with it.
#
# Packages: torch 2.15.0 on the CPU, numpy 2.4.6
# Expected: with one seed, torch.randn(3, 100) is the beginning of torch.randn(20,
#   100), as in NumPy.
# Seen: the last 16 numbers differ whenever the count is not a multiple of 16 (they
#   are drawn anew), and below 16 numbers all of them do.
# Why it matters: the first image's sample, and so its ELBO, changes when it is
#   evaluated alone or in the last, shorter batch, though the seed is the same. Draw
#   the noise for all images once and slice it.
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
import numpy as np
import torch


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


def first(draw, rows, columns):
    """Does a draw of fewer rows begin as a draw of 20 rows? Where it does not."""
    few, many = draw(rows, columns).ravel(), draw(20, columns).ravel()[: rows * columns]
    return np.flatnonzero(few != many)


def torch_draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).numpy()


def numpy_draw(*shape):
    return np.random.default_rng(0).standard_normal(shape)


for rows, columns in ((1, 10), (3, 100), (4, 100)):
    here, there = (first(d, rows, columns) for d in (torch_draw, numpy_draw))
    where = f"{here[0]} to {here[-1]}" if len(here) else "nowhere"
    print(
        f"{rows} rows of {columns}: torch differs {where}, numpy at {len(there)} places"
    )
    must(len(there) == 0, "numpy's shorter draw is no longer a prefix either")
    size = rows * columns
    last = range(max(size - 16, 0), size) if size % 16 else []
    must(here.tolist() == list(last), f"another part of a draw of {size} differs")
EOF
