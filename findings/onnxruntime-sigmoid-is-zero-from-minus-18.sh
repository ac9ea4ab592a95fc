#!/usr/bin/env bash
# In onnxruntime a sigmoid is exactly 0 from a logit of -18 on.
#
# Packages: onnx 1.23.2, onnxruntime 1.32.0
# Expected: sigmoid(-18) = 1.5e-8, which float32 can hold as well as all down to -87, as
#   torch and onnx's reference do; its logarithm is -18.
# Seen: on the CPU it is 0, and the logarithm -inf. Before that it is coarse: 116 % too
#   large at -17, 17 % at -15. In float64 it is right, and so is Softplus in float32.
#   (Issue 22557, open, has values just below 0 at -18 on other machines.)
# Why it matters: an exported decoder ends in a sigmoid, and a pixel that it is wrongly
#   sure to be black costs infinitely many nats, or whatever the clamp says, where it
#   cost 18. Export the logits, and take softplus of them.
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


def runtimes(operator, number):
    """onnxruntime's and the reference's function of one operator."""
    kind = getattr(TensorProto, number)
    graph = helper.make_graph(
        [helper.make_node(operator, ["logits"], ["out"])],
        "decoder",
        [helper.make_tensor_value_info("logits", kind, [None])],
        [helper.make_tensor_value_info("out", kind, [None])],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    reference = ReferenceEvaluator(model)
    return (
        lambda x: session.run(None, {"logits": x})[0].astype(np.float64),
        lambda x: reference.run(None, {"logits": x})[0].astype(np.float64),
    )


logits = np.array([-30, -20, -18, -17, -15, -10, -5, 5])
for number, dtype in {"FLOAT": np.float32, "DOUBLE": np.float64}.items():
    runtime, reference = runtimes("Sigmoid", number)
    got, right = runtime(logits.astype(dtype)), reference(logits.astype(dtype))
    truth = 1 / (1 + np.exp(-logits))
    must(np.allclose(right, truth, rtol=1e-5), "the reference differs, too")
    for logit, value, true in zip(logits.tolist(), got, truth):
        print(f"{number}, {logit}: {value:.3g} in onnxruntime, {true:.3g} is right")
    if number == "FLOAT":
        must((got[logits <= -18] < 1e-9).all(), "-18 has a sigmoid")
        error = got / truth - 1
        must(error[logits == -17] > 0.5, f"at -17 the error is {error}")
        must(abs(error[logits >= -10]).max() < 1e-3, f"the errors are {error}")
    else:
        must(np.allclose(got, truth, rtol=1e-9), "float64 is wrong as well")
softplus, _ = runtimes("Softplus", "FLOAT")
x = logits.astype(np.float32)
with np.errstate(divide="ignore", invalid="ignore"):
    first = np.log(runtimes("Sigmoid", "FLOAT")[0](x))
print(f"log of the sigmoid: {np.round(first, 2).tolist()}")
print(f"minus softplus of -logits: {np.round(-softplus(-x), 2).tolist()}")
must(np.allclose(-softplus(-x), -np.logaddexp(0, -logits)), "softplus is wrong, too")
EOF
