#!/usr/bin/env bash
# ToTensor reads the white of a 16-bit grey picture as -1.
#
# Packages: torchvision 0.29.2, pillow 13.0.0
# Expected: ToTensor gives a float tensor in [0, 1] for a grey picture, or at least
#   the pixel values.
# Seen: a 16-bit grey picture (mode I;16, as PNG and TIFF scans have it) comes back as
#   int16, unscaled, and wrapped: 65535 becomes -1 and 32768 becomes -32768.
#   pil_to_tensor and v2.to_image in the same package give the right numbers.
# Why it matters: medical and microscopy pictures are 16-bit. Their brightest half
#   turns negative without a warning, and a likelihood on [0, 1] is meaningless. Use
#   pil_to_tensor and divide.
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

"$PYTHON" - <<'EOF'
import numpy as np
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor, to_tensor
from torchvision.transforms.v2.functional import to_image


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


image = Image.fromarray(np.array([[0, 1000, 32768, 65535]], np.uint16))
old, right, new = to_tensor(image), pil_to_tensor(image), to_image(image)
print("mode:", image.mode)
print("to_tensor:    ", old.dtype, old.flatten().tolist())
print("pil_to_tensor:", right.dtype, right.flatten().tolist())
print("v2.to_image:  ", new.dtype, new.flatten().tolist())
must(image.mode == "I;16", f"pillow reads 16-bit grey as {image.mode}")
must(old.flatten().tolist() == [0, 1000, -32768, -1], "to_tensor no longer wraps")
for t in (right, new):
    must(
        t.flatten().tolist() == [0, 1000, 32768, 65535], "its neighbours are wrong too"
    )
EOF
