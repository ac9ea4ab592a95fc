#!/usr/bin/env bash
# ContinuousBernoulli has a negative variance near p = 0.5.
#
# Packages: torch 2.15.0
# Expected: the mean and the variance of the continuous Bernoulli are smooth in p;
#   near 0.5 they are close to 0.5 and 1/12, as the class switches to a Taylor series
#   there.
# Seen: between 0.48 and the series (0.499 to 0.501) the closed form is used in
#   float32, where it cancels: the variance is off by up to 0.8, and at 16 of 1000
#   evenly spaced p it is negative and stddev is nan. In float64 it is right.
# Why it matters: 0.5 is where an untrained decoder starts, and this is the usual
#   likelihood for grey pictures: means and spreads shown at the start of training are
#   noise. Compute moments in float64.
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
from torch.distributions import ContinuousBernoulli


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


p = torch.linspace(0.48, 0.4989, 1000)
single, double = ContinuousBernoulli(p), ContinuousBernoulli(p.double())
wrong = (single.variance < 0).sum().item()
print(
    f"float32: variance from {single.variance.min():.3f} to {single.variance.max():.3f}"
)
print(
    f"float64: variance from {double.variance.min():.5f} to {double.variance.max():.5f}"
)
print(f"negative at {wrong} of 1000 p; nan stddev at {single.stddev.isnan().sum()}")
print(f"largest error of the mean: {(single.mean - double.mean).abs().max():.4f}")
must(wrong > 0, "no variance is negative any more")
must((double.variance - 1 / 12).abs().max() < 1e-3, "float64 is wrong as well")
must((single.mean - double.mean).abs().max() > 1e-3, "the mean is right to 0.001")
EOF
