#!/usr/bin/env bash
# antialias=True changes a bicubic enlargement, where nothing can alias.
#
# Packages: torch 2.15.0, pillow 13.0.0
# Expected: antialias widens the filter when a picture is made smaller. When it is made
#   larger, or stays as large, the filter is as it was, and so is the result; for
#   bilinear it is.
# Seen: for bicubic the flag also chooses another curve, a = -0.5 in place of -0.75. An
#   edge from 0 to 1 that is made twice as wide overshoots to 1.105 without and to 1.070
#   with it, which is what Pillow gives. The page says that the results match Pillow
#   when a picture is made smaller, and nothing of this.
# Why it matters: F.interpolate has the flag off, torchvision's Resize on: the same
#   words enlarge a data set to two sets of pixels. Overshoot is no probability, either;
#   clamp before a Bernoulli likelihood.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(torch==2.15.0 pillow==13.0.0 numpy==2.4.6)

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
from PIL import Image
from torch.nn.functional import interpolate


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


edge = torch.zeros(10, 10)
edge[:, 5:] = 1
filters = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
for mode, pillow in filters.items():
    plain, smooth = (
        interpolate(edge[None, None], size=(20, 20), mode=mode, antialias=flag)[0, 0]
        for flag in (False, True)
    )
    other = np.array(Image.fromarray(edge.numpy()).resize((20, 20), pillow))
    print(
        f"{mode}, 10 to 20 pixels: largest value {plain.max():.3f} without antialias, "
        f"{smooth.max():.3f} with it, {other.max():.3f} in Pillow"
    )
    must(np.allclose(smooth, other, atol=1e-5), f"{mode} with it is not Pillow's")
    same = torch.allclose(plain, smooth, atol=1e-5)
    must(same == (mode == "bilinear"), f"{mode}: the flag changes nothing: {same}")
EOF
