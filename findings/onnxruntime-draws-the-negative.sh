#!/usr/bin/env bash
# An exported decoder draws black where it should draw white.
#
# Packages: onnx 1.23.2, onnxruntime 1.32.0
# Expected: ONNX's Bernoulli gives 1 with probability p, as its page says and as
#   torch.bernoulli does, which torch.onnx.export turns into this node.
# Seen: onnxruntime gives 1 with probability 1 - p, on the CPU: at p = 0.1 nine pixels
#   of ten are on, at p = 0 all of them. onnx's own reference evaluator is right. The
#   runtime has no code for this node and takes the one that comes with onnx, which
#   compares the wrong way round. At p = 0.5, where one tests first, nothing is to be
#   seen.
# Why it matters: a VAE or DRAW that samples its pixels, exported for a page or a
#   phone, draws negatives, and a likelihood measured on them is that of other images.
#   Export the probabilities and draw outside, or write rand_like(p) < p, which is
#   exported right.
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
from onnx.reference import ReferenceEvaluator


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


onnxruntime.set_seed(1)
floats = {"elem_type": TensorProto.FLOAT, "shape": [1000, 28]}
graph = helper.make_graph(
    [helper.make_node("Bernoulli", ["p"], ["pixels"])],
    "decoder",
    [helper.make_tensor_value_info("p", **floats)],
    [helper.make_tensor_value_info("pixels", **floats)],
)
model = helper.make_model(
    graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9
)
session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
)
reference = ReferenceEvaluator(model)
for p in (0.0, 0.1, 0.5, 0.9, 1.0):
    given = {"p": np.full((1000, 28), p, np.float32)}
    drawn = session.run(None, given)[0].mean()
    right = reference.run(None, given)[0].mean()
    print(f"p = {p}: on are {drawn:.3f} in onnxruntime, {right:.3f} in onnx's reference")
    must(abs(drawn - (1 - p)) < 0.02, "onnxruntime draws 1 with another probability")
    must(abs(right - p) < 0.02, "the reference draws 1 with another probability")
EOF
