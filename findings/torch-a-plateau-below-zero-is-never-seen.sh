#!/usr/bin/env bash
# ReduceLROnPlateau takes a negative objective that stands still for progress.
#
# Packages: torch 2.15.0
# Expected: a bound that stays at -90 nats, or falls, has stopped increasing, and the
#   rate is reduced after patience, as it is for a loss of 90 that stays or rises.
# Seen: by default a value must beat best * (1 + threshold) in mode max, and
#   best * (1 - threshold) in mode min. For a negative best both bars lie on the wrong
#   side of it, so that a value equal to the best, or a little worse, is a new best each
#   time: 200 epochs at -90, and 200 epochs that lose 0.005 nats each, leave the rate
#   as it was. The page gives the formulas, and no word on signs; threshold_mode="abs"
#   is right. (Issue 47513 has asked for this since 2020.)
# Why it matters: an ELBO is negative, and so is minus the log-density of grey pictures:
#   the rate of such a training never falls.
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
from torch.optim.lr_scheduler import ReduceLROnPlateau


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


def rate(values, mode, threshold_mode="rel"):
    """The learning rate after the values of all epochs, from 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    plateau = ReduceLROnPlateau(optimizer, mode, threshold_mode=threshold_mode)
    for value in values:
        plateau.step(value)
    return optimizer.param_groups[0]["lr"]


still, worse = [90.0] * 200, [90.0 + 0.005 * epoch for epoch in range(200)]
for name, loss in {"stands still": still, "gets worse": worse}.items():
    below = [-v for v in loss]  # a bound, to be made larger
    shifted = [v - 1000 for v in loss]  # a loss, to be made smaller
    seen = {
        "loss 90, mode min": rate(loss, "min"),
        "bound -90, mode max": rate(below, "max"),
        "loss -910, mode min": rate(shifted, "min"),
        "bound -90, mode max, abs": rate(below, "max", "abs"),
    }
    for what, lr in seen.items():
        print(f"{what}, {name} for 200 epochs: rate 1 becomes {lr:.3g}")
    lost = [lr == 1 for lr in seen.values()]
    must(lost == [False, True, True, False], f"{name}: the rates are {seen}")
EOF
