#!/usr/bin/env bash
# GroupNorm refuses one image in evaluation mode, and accepts two.
#
# Packages: torch 2.15.0
# Expected: group normalisation never mixes images, so what a model answers for one
#   image does not depend on whether another one lies beside it, least of all after
#   eval(). (Its statistics are those of the image itself, in either mode.)
# Seen: with one value in a group, GroupNorm raises "Expected more than 1 value per
#   channel when training" for a batch of one, in evaluation mode too. With two images
#   in the batch the same module runs, and answers nearly 0 for both.
# Why it matters: a convolutional model that ends in 1 x 1 maps with a group for each
#   channel trains, and evaluates in batches; it fails on the last image of a data set,
#   or when somebody draws one picture. Give each group more than one value.
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


norm = nn.GroupNorm(8, 8).eval()
torch.manual_seed(0)
two = torch.randn(2, 8, 1, 1)
with torch.no_grad():
    answer = norm(two)
    print("two images: largest answer", answer.abs().max().item())
    must(answer.abs().max() < 1e-3, "two images are normalised to something else")
    try:
        print("one image:", norm(two[:1]).abs().max().item())
        raised = ""
    except ValueError as error:
        raised = str(error)
        print("one image: ValueError:", raised[:70])
must("when training" in raised and not norm.training, "one image is accepted")
print("in training mode:", norm.training)
EOF
