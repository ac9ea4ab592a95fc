#!/usr/bin/env bash
# Pillow ignores the filter when a black-and-white picture is made smaller.
#
# Packages: pillow 13.0.0
# Expected: image.resize((28, 28), Image.Resampling.LANCZOS), or BOX, averages.
# Seen: for mode 1 (and P) any filter is replaced by NEAREST without a word. Strokes
#   of one pixel vanish whole, others grow. After convert("L") the same call keeps the
#   ink.
# Why it matters: Omniglot's files are black-and-white, 105 x 105, and are used at 28
#   x 28. Whoever forgets the conversion trains on broken characters and gets another
#   NLL. The data set's name does not tell which of the two was used.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(pillow==13.0.0 numpy==2.4.6)

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


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


white = np.ones((105, 105), bool)
white[:, 50] = False  # one vertical and one horizontal stroke, a pixel thick
white[30, :] = False
picture = Image.fromarray(white)
ink = (~white).sum()
for name in ("NEAREST", "BOX", "LANCZOS"):
    how = Image.Resampling[name]
    binary = np.array(picture.resize((28, 28), how).convert("L"))
    grey = np.array(picture.convert("L").resize((28, 28), how))
    amount = [
        (255 - a.astype(float)).sum() / 255 * (105 / 28) ** 2 / ink
        for a in (binary, grey)
    ]
    print(f"{name}: ink kept, mode 1: {amount[0]:.2f}; mode L: {amount[1]:.2f}")
    must(picture.mode == "1", f"the picture's mode is {picture.mode}")
    nearest = np.array(picture.resize((28, 28), Image.Resampling.NEAREST).convert("L"))
    must((binary == nearest).all(), f"{name} is used on mode 1")
    must((binary < 255).sum() == 28, "both strokes survive in mode 1")
    if name != "NEAREST":
        must(abs(amount[1] - 1) < 0.15, f"{name} loses ink on mode L too")
print(
    "pixels with ink, mode 1:", (binary < 255).sum(), "- one stroke of the two is gone"
)
EOF
