#!/usr/bin/env bash
# safetensors.numpy writes a transposed array wrong, without an error.
#
# Packages: safetensors 0.8.0, numpy 2.4.6, scipy 1.17.1
# Expected: load_file returns what save_file was given; or, as safetensors.torch does
#   for such a tensor, save_file refuses.
# Seen: for an array that is not C-contiguous (a transpose, or Fortran order)
#   safetensors.numpy writes the memory as it lies under the shape as it is: the
#   numbers come back in another order, silently. scipy.io.loadmat gives Fortran
#   order, so every matrix of a MATLAB file is hit.
# Why it matters: the 28 x 28 Omniglot of many papers is a MATLAB file, and weights
#   are transposed between libraries. np.ascontiguousarray before saving helps.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(safetensors==0.8.0 numpy==2.4.6 scipy==1.17.1)

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
import scipy.io
from safetensors.numpy import load_file, save_file


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


folder = sys.argv[1]


def round_trip(array):
    save_file({"x": array}, f"{folder}/x.safetensors")
    return load_file(f"{folder}/x.safetensors")["x"]


x = np.arange(6, dtype=np.float32).reshape(2, 3)
scipy.io.savemat(f"{folder}/x.mat", {"x": x})
cases = {
    "as it is": (x, True),
    "transposed": (x.T, False),
    "read from a MATLAB file": (scipy.io.loadmat(f"{folder}/x.mat")["x"], False),
    "transposed, made contiguous": (np.ascontiguousarray(x.T), True),
}
for name, (array, kept) in cases.items():
    back = round_trip(array)
    print(f"{name}: saved {array.tolist()}, loaded {back.tolist()}")
    must(back.shape == array.shape, f"the shape of the case '{name}' changes")
    must(np.array_equal(back, array) == kept, f"the case '{name}' behaves otherwise")
EOF
