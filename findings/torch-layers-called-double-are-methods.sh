#!/usr/bin/env bash
# A layer may be called `double`, until somebody calls it.
#
# Packages: torch 2.15.0
# Expected: assigning a submodule to a name that nn.Module needs for itself is refused,
#   as add_module refuses it, or the submodule is what the name then means.
# Seen: `self.double = nn.Linear(2, 2)` is accepted. The layer is registered: it is among
#   the children, its weights are trained and saved. But `self.double(x)` is still the
#   method that casts the model to float64, which takes no argument and raises a
#   TypeError about arguments. add_module with such a name raises a KeyError.
# Why it matters: `half`, `type`, `float`, `double` are natural names for layers. Where
#   the layer is only looped over, nothing ever shows; where it is called, the error
#   speaks of something else.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(torch==2.15.0 numpy==2.4.6)

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
from torch import nn


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.double = nn.Linear(2, 2)


model = Model()
print("children:", [name for name, _ in model.named_children()])
print("weights:", [name for name, _ in model.named_parameters()])
must("double" in dict(model.named_children()), "the layer is not registered")
try:
    model.double(torch.zeros(1, 2))
    told = ""
except TypeError as error:
    told = str(error)
print("model.double(x): TypeError:", told)
must("argument" in told, "the name means the layer now, or is refused at assignment")
try:
    nn.Module().add_module("double", nn.Linear(2, 2))
    told = ""
except KeyError as error:
    told = str(error)
print("add_module: KeyError:", told)
must("already exists" in told, "add_module accepts the name")
EOF
