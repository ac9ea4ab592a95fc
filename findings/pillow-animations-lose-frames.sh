#!/usr/bin/env bash
# An animation that is saved with seven frames is read back with three.
#
# Packages: pillow 13.0.0 (GIF, PNG, WebP)
# Expected: what is saved with append_images is what n_frames counts and seek finds; a
#   duration of 25 ms stays 25 ms.
# Seen: frames equal to the one before are dropped and their time is added to it, in
#   all three formats. GIF also keeps hundredths of a second only: 25 ms is written as
#   20 ms.
# Why it matters: an animation of a canvas, step by step, has as many frames as steps
#   only if every step changed a byte. Frame t is then not step t: index by time, or
#   compare before saving.
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

"$PYTHON" - "$work" <<'EOF'
import sys

import numpy as np
from PIL import Image


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


folder, levels = sys.argv[1], (0, 0, 0, 100, 100, 200, 200)
frames = [Image.fromarray(np.full((8, 8), v, np.uint8)) for v in levels]


def read(kind, frames, milliseconds):
    file = f"{folder}/canvas.{kind}"
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=milliseconds)
    with Image.open(file) as animation:
        times = []
        for i in range(animation.n_frames):
            animation.seek(i)
            animation.load()
            times.append(round(animation.info["duration"]))
    return times


for kind in ("gif", "png", "webp"):
    times = read(kind, frames, 100)
    print(f"{kind}: {len(frames)} frames of 100 ms saved, read back: {times} ms")
    must(times == [300, 200, 200], f"{kind} keeps equal frames, or other times")
times = read("gif", frames[::3], 25)
print(f"gif: 3 different frames of 25 ms saved, read back: {times} ms")
must(times == [20, 20, 20], "GIF writes 25 ms otherwise")
EOF
