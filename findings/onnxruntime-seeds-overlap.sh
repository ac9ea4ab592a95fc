#!/usr/bin/env bash
# Neighbouring seeds share their noise, and so can two steps of one seed.
#
# Packages: onnx 1.23.2, onnxruntime 1.32.0
# Expected: another seed, other noise; each RandomNormalLike node draws its own.
# Seen: node i of the graph draws from a generator whose seed is the given one plus i.
#   So of nodes side by side the second has under seed 1 the noise that the first has
#   under seed 2; of nodes five apart, under seeds five apart. With seed 0 the first
#   two nodes draw the same numbers, as that generator takes 0 for 1. Uniform numbers
#   begin with (seed + i) * 16807 / 2**31, so all first ones up to seed 999 lie below
#   0.01. Without a seed all sessions of a process start with the same noise.
# Why it matters: a recurrent model is exported with a node for each step's noise. Its
#   "five seeds" can be one noise, shifted by a step each, and an error bar over them
#   too small. Give the noise as an input, or take seeds that are a million apart.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6)

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
import onnxruntime
from onnx import TensorProto, helper


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


steps, zeros = 4, {"x": np.zeros((1, 100), np.float32)}


def draw(kind, seed=None):
    """The noise of each step, of a new session."""
    noise = [f"noise{i}" for i in range(steps)]
    floats = {"elem_type": TensorProto.FLOAT, "shape": [1, 100]}
    graph = helper.make_graph(
        [helper.make_node(kind, ["x"], [name]) for name in noise],
        "unrolled",
        [helper.make_tensor_value_info("x", **floats)],
        [helper.make_tensor_value_info(name, **floats) for name in noise],
    )
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    if seed is not None:
        onnxruntime.set_seed(seed)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, zeros)


again = np.array_equal(draw("RandomNormalLike"), draw("RandomNormalLike"))
print(f"no seed, two sessions: equal noise is {again}")
must(again, "two sessions differ")
one, two = draw("RandomNormalLike", 1), draw("RandomNormalLike", 2)
shared = np.array_equal(one[1:], two[:-1])
print(f"steps 2 to {steps} of seed 1 are steps 1 to {steps - 1} of seed 2: {shared}")
must(shared, "neighbouring seeds do not overlap")
zero = draw("RandomNormalLike", 0)
print(f"seed 0: steps 1 and 2 have the same noise: {np.array_equal(zero[0], zero[1])}")
must(np.array_equal(zero[0], zero[1]), "with seed 0 the first two steps differ")
first = [float(draw("RandomUniformLike", s)[0][0, 0]) for s in range(0, 1000, 111)]
print("first uniform number of seeds 0, 111, ..., 999:", [round(u, 4) for u in first])
must(max(first) < 0.01, "uniform numbers begin elsewhere")
EOF
