#!/usr/bin/env bash
# Half of a 64-bit seed is thrown away.
#
# Packages: torch 2.15.0 on the CPU, numpy 2.4.6
# Expected: manual_seed takes seeds of 64 bits, so that seeds that differ give other
#   numbers, as they do in NumPy.
# Seen: on the CPU only the lower 32 bits count. Seeds 0, 2**32 and 7 * 2**32 give the
#   same numbers, without a warning, and initial_seed() tells them apart. (The
#   documentation allows 64 bits and says that any 32-bit integer is valid.)
# Why it matters: (run << 32) + step is an obvious way to give each step of each run
#   its own seed. On the CPU all runs then are one run: their spread is exactly zero.
#   Hash to 32 bits, or keep seeds below 2**32.
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


def own(seed):
    return torch.randn(2, generator=torch.Generator().manual_seed(seed)).tolist()


def shared(seed):
    torch.manual_seed(seed)
    must(torch.initial_seed() == seed, "initial_seed tells another seed")
    return torch.rand(2).tolist()


def numpy(seed):
    return np.random.default_rng(seed).random(2).tolist()


step = 3
seeds = [(run << 32) + step for run in (0, 1, 7)]
for name, draw in {"generator": own, "global": shared, "NumPy": numpy}.items():
    drawn = [draw(seed) for seed in seeds]
    different = len({tuple(each) for each in drawn})
    print(f"{name}: 3 seeds, {different} different draws, first {drawn[0]}")
    must(different == (3 if name == "NumPy" else 1), f"{name}: {different} draws")
must(own(step) != own(step + 1), "neighbouring seeds give one draw")
EOF
