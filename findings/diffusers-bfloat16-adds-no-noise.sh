#!/usr/bin/env bash
# The noise schedule of a diffusion model begins without noise in half precision.
#
# Packages: diffusers 0.42.1, torch 2.15.0
# Expected: DDPMScheduler().add_noise adds noise of the scale sqrt(1 - alpha_bar_t) at
#   every step t, rounded to the dtype of the images.
# Seen: alpha_bar is rounded to the images' dtype before it is subtracted from 1. In
#   bfloat16 the first 10 of 1000 steps add nothing at all (2 in float16; 21 and 4 with
#   the squared cosine), where 0.01 to 0.04 is right, and 1000 noise levels become 190.
#   The others of the first 100 steps are off by up to a third.
# Why it matters: a network is asked for noise that its input does not have, at the
#   steps that decide about fine detail and, in a variational bound, weigh most. Add
#   the noise in float32, then cast.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(diffusers==0.42.1 torch==2.15.0 numpy==2.4.6)

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
from diffusers import DDPMScheduler


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


steps = torch.arange(1000)
none = {}
for schedule in ("linear", "squaredcos_cap_v2"):
    scheduler = DDPMScheduler(beta_schedule=schedule)
    right = (1 - scheduler.alphas_cumprod.double()).sqrt()
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        black = torch.zeros(1000, 1, dtype=dtype)
        scale = scheduler.add_noise(black, black + 1, steps)[:, 0].double()
        none[schedule, dtype] = int((scale == 0).sum())
        some = (scale > 0) & (steps < 100)
        off = ((scale - right).abs() / right)[some].max().item()
        print(
            f"{schedule}, {dtype}: {none[schedule, dtype]} steps without noise, "
            f"{len(scale.unique())} levels; off by up to {off:.0%} below step 100; "
            f"step 8 {scale[8]:.4f}, right {right[8]:.4f}"
        )
counts = list(none.values())
must(counts == [0, 2, 10, 0, 4, 21], f"the steps without noise are {counts}")
EOF
