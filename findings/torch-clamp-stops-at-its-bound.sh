#!/usr/bin/env bash
# clamp has no gradient at its bound any more, unless the bound is a tensor.
#
# Packages: torch 2.15.0
# Expected: a value that lies on the bound is inside the closed range: clamp(x, 0, 1)
#   passes the gradient at x = 0 and at x = 1, as torch 2.13.0 does; and whether a
#   bound is a number or a tensor does not matter.
# Seen: with numbers as bounds the gradient on them is 0. With tensors of the same
#   values it is 0.5. relu and hardtanh give 0, maximum 0.5, where() whatever the
#   comparison says. torch.compile gives the same. The page of clamp says nothing; the
#   rule, and so the change, follows from the notes on autograd.
# Why it matters: a black canvas, a log variance or a gate that starts on its bound
#   learnt with the older torch, and with this one never moves; nothing is raised. Start
#   inside, or choose the slope with where().
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
from torch.nn import functional as F


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


zero, one = torch.tensor(0.0), torch.tensor(1.0)
slopes = {
    "clamp(x, 0, 1)": (lambda x: x.clamp(0, 1), 0.0),
    "clamp(x, tensor(0), tensor(1))": (lambda x: x.clamp(zero, one), 0.5),
    "clamp(x, min=0)": (lambda x: x.clamp(min=0), 0.0),
    "clamp(x, min=tensor(0))": (lambda x: x.clamp(min=zero), 0.5),
    "maximum(x, tensor(0))": (lambda x: torch.maximum(x, zero), 0.5),
    "hardtanh(x, 0, 1)": (lambda x: F.hardtanh(x, 0, 1), 0.0),
    "relu(x)": (torch.relu, 0.0),
    "where(x >= 0, x, 0)": (lambda x: torch.where(x >= 0, x, zero), 1.0),
}
for name, (function, want) in slopes.items():
    x = torch.tensor(0.0, requires_grad=True)
    function(x).backward()
    print(f"{name}: slope {x.grad.item():g} at x = 0")
    must(x.grad.item() == want, f"{name} has slope {x.grad.item()} at its bound")

# What it means: a canvas that starts black, and a target that is grey.
canvas = torch.zeros(4, requires_grad=True)
descent = torch.optim.SGD([canvas], lr=0.1)
for _ in range(100):
    descent.zero_grad()
    (canvas.clamp(0, 1) - 0.5).square().sum().backward()
    descent.step()
print("a black canvas after 100 steps towards grey:", canvas.tolist())
must(bool((canvas == 0).all()), "the canvas moved")
EOF
