#!/usr/bin/env bash
# One package turns a float pixel into three different bytes.
#
# Packages: torchvision 0.29.2, pillow 13.0.0
# Expected: save_image, to_pil_image and v2.to_dtype(uint8, scale=True) turn 0.5 and
#   0.9999 into the same bytes, and clamp what lies outside [0, 1].
# Seen: 0.5 becomes 128, 127, 127; 0.9999 becomes 255, 254, 255. to_pil_image does not
#   clamp: 1.01 becomes 1, so an overshooting white pixel is saved as black.
# Why it matters: pictures that were saved and read again are not what the model gave,
#   each in its own way; FID, MSE and discretised likelihoods computed from files
#   depend on the writer.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 pillow==13.0.0)

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

"$PYTHON" - "$work/image.png" <<'EOF'
import sys

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image
from torchvision.transforms.v2.functional import to_dtype
from torchvision.utils import save_image


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


values = torch.tensor([0.5, 0.9999, 1.01])
image = values.view(1, 1, 3)
save_image(image, sys.argv[1], padding=0)
found = {
    "save_image": np.array(Image.open(sys.argv[1]))[0, :, 0].tolist(),
    "to_pil_image": np.array(to_pil_image(image))[0].tolist(),
    "v2.to_dtype": to_dtype(image, torch.uint8, scale=True).flatten().tolist(),
}
for name, row in found.items():
    print(f"{name}: {values.tolist()} -> {row}")
must(found["save_image"] == [128, 255, 255], "save_image rounds otherwise")
must(found["to_pil_image"] == [127, 254, 1], "to_pil_image rounds or clamps otherwise")
must(found["v2.to_dtype"][:2] == [127, 255], "v2.to_dtype rounds otherwise")
EOF
