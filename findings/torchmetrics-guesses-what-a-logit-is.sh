#!/usr/bin/env bash
# The accuracy of a prediction depends on the others in its batch.
#
# Packages: torchmetrics 1.9.0, torch 2.15.0
# Expected: binary_accuracy treats a score as a logit or as a probability, and the
#   same way for each.
# Seen: a batch is taken for logits when any value lies outside [0, 1], else for
#   probabilities. The logit 0.3 means class 1 in the one batch and class 0 in the
#   other. The mean over batches is not the accuracy over the set.
# Why it matters: attribute classifiers on latent codes, and pixel accuracies early in
#   training, have logits near 0, so small batches flip at random. Give probabilities.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(torchmetrics==1.9.0 torch==2.15.0 numpy==2.4.6)

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
from torchmetrics.classification import BinaryAccuracy
from torchmetrics.functional.classification import binary_accuracy


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


target = torch.ones(4, dtype=torch.int)
few = torch.tensor([0.3, 0.4, 0.2, 0.1])
with_one_outside = torch.tensor([0.3, 0.4, 0.2, 1.1])
scores = {}
for name, logits in {"all in [0, 1]": few, "one above 1": with_one_outside}.items():
    scores[name] = binary_accuracy(logits, target).item()
    exact = ((logits > 0).int() == target).float().mean().item()
    print(f"{name}: {logits.tolist()}: accuracy {scores[name]}, as logits {exact}")
must(scores["all in [0, 1]"] == 0.0, "logits between 0 and 0.5 are not all class 0")
must(scores["one above 1"] == 1.0, "one value above 1 does not turn the others")

both, single = torch.cat([few, with_one_outside]), BinaryAccuracy()
for part in (few, with_one_outside):
    single.update(part, target)
whole = binary_accuracy(both, torch.cat([target, target])).item()
print(f"the same eight: {single.compute().item()} in two batches, {whole} in one")
must(single.compute().item() == 0.5 and whole == 1.0, "batches no longer matter")
EOF
