#!/usr/bin/env bash
# A black-and-white image that is made smaller gets four times the ink.
#
# Packages: torchvision 0.29.2, torch 2.15.0
# Expected: resizing a bool image keeps the share of its pixels that are on, or
#   refuses; a pixel is on where its average is above a half, as it is for rotate.
# Seen: resize takes the average and then turns all that is not exactly zero into
#   True: the pixels with the faintest trace of a stroke are on. A stroke over 4.4 %
#   of a 105 x 105 image covers 18 % of the 28 x 28 one, and 35 % with bicubic, whose
#   negative values count as ink too. Both versions of the transforms do so. rotate
#   rounds. A tv_tensors.Mask is taken by the nearest pixel and is right.
# Why it matters: Omniglot's 105 x 105 strokes are usually made 28 x 28; as bool they
#   become blots, and a likelihood on them is that of another data set. Convert to
#   float first and keep the greys.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(torchvision==0.29.2 torch==2.15.0 numpy==2.4.6)

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
from torchvision import transforms, tv_tensors
from torchvision.transforms import v2
from torchvision.transforms import InterpolationMode as Mode


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


rows, columns = torch.meshgrid(torch.arange(105), torch.arange(105), indexing="ij")
radius = ((rows - 52.0) ** 2 + (columns - 52.0) ** 2).sqrt()
stroke = ((radius - 30).abs() < 1.3)[None]  # a circle, three pixels wide


def ink(image):
    return image.double().mean().item()


def resized(kind, mode, image):
    return ink(kind.Resize([28, 28], interpolation=mode, antialias=True)(image))


whole = ink(stroke)
print(f"ink of the 105 x 105 image: {whole:.3f}")
for mode, least in ((Mode.BILINEAR, 3), (Mode.BICUBIC, 6)):
    for name, kind in (("transforms", transforms), ("v2", v2)):
        bits = resized(kind, mode, stroke)
        greys = resized(kind, mode, stroke.float())
        print(f"{name}, {mode.value}: bool {bits:.3f}, float {greys:.3f}")
        must(bits > least * whole, f"{bits:.3f} of a bool image is ink")
        must(abs(greys - whole) < 0.002, f"{greys:.3f} of a float image is ink")
mask = resized(v2, Mode.BILINEAR, tv_tensors.Mask(stroke))
turned = ink(v2.functional.rotate(stroke, 33, interpolation=Mode.BILINEAR))
print(f"v2, as a Mask: {mask:.3f}; turned by 33 degrees: {turned:.3f}")
must(abs(mask - whole) < 0.01, "a Mask has other ink")
must(abs(turned - whole) < 0.005, "a turned bool image has other ink")
EOF
