#!/usr/bin/env bash
# A resumed training has a tenth of its learning rate, until its end.
#
# Packages: torch 2.15.0
# Expected: after load_state_dict of the optimiser and of its scheduler a training goes
#   on with the rates it would have had, whatever the order of the lines.
# Seen: making a scheduler already changes the optimiser's rate: LinearLR, alone or
#   inside SequentialLR, multiplies it by start_factor, here 0.1. If the optimiser was
#   loaded before the scheduler was made, neither state mends that, and as each rate is
#   computed from the one before, warm-up and cosine stay ten times too low: 0.100 in
#   place of 0.946 at the new start, 0.0026 in place of 0.0245 at the end.
#   ExponentialLR is not hit. (The page of the optimiser's load_state_dict has a
#   warning.)
# Why it matters: "build the optimiser, load it, build the scheduler, load it" is the
#   natural order, and nothing but the curve shows it. Make both, then load both; or
#   compute the rate from the step.
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
import copy
import warnings

import torch
from torch.optim import lr_scheduler as schedules


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


def warm_cosine(optimizer):
    parts = [
        schedules.LinearLR(optimizer, start_factor=0.1, total_iters=5),
        schedules.CosineAnnealingLR(optimizer, 20),
    ]
    return schedules.SequentialLR(optimizer, parts, milestones=[5])


def rates(make, resumed_at, optimizer_first):
    """The learning rates of 24 steps, with a stop and a new start before one."""

    def fresh():
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)

    seen, optimizer = [], fresh()
    scheduler = make(optimizer)
    for at in range(24):
        if at == resumed_at:
            saved = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
            optimizer = fresh()
            if optimizer_first:
                optimizer.load_state_dict(saved[0])
                scheduler = make(optimizer)
            else:
                scheduler = make(optimizer)
                optimizer.load_state_dict(saved[0])
            scheduler.load_state_dict(saved[1])
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


warnings.simplefilter("error")
for name, make in {
    "LinearLR": lambda o: schedules.LinearLR(o, start_factor=0.1, total_iters=5),
    "LinearLR, then cosine": warm_cosine,
    "ExponentialLR": lambda o: schedules.ExponentialLR(o, 0.9),
}.items():
    whole = rates(make, None, False)
    for first in (False, True):
        again = rates(make, 8, first)
        print(
            f"{name}, optimiser loaded {'first' if first else 'last'}: "
            f"rates {again[8]:.3f}, {again[9]:.3f} ... {again[-1]:.4f}, "
            f"uninterrupted {whole[8]:.3f}, {whole[9]:.3f} ... {whole[-1]:.4f}"
        )
        ratios = [a / w for a, w in zip(again[8:], whole[8:], strict=True)]
        low, high = min(ratios), max(ratios)
        if first and name.startswith("LinearLR"):
            must(0.09 < low <= high < 0.11, f"{name}: {low:.3f} to {high:.3f} times")
        else:
            must(again == whole, f"{name} resumes with other rates")
EOF
