#!/usr/bin/env bash
# One confident wrong pixel has three likelihoods, and two have no gradient.
#
# Packages: torch 2.15.0
# Expected: a logit of 17 for a pixel that is 0 costs 17 nats, with gradient 1,
#   whether one calls binary_cross_entropy_with_logits, Bernoulli(probs) or
#   binary_cross_entropy.
# Seen: 17, 15.94 and 100 nats. In float32 the sigmoid of 17 is 1; Bernoulli then
#   clamps the probability, and binary_cross_entropy clamps the logarithm at -100. The
#   last two give no gradient at all: the most wrong pixel is the one that is not
#   learnt. At a logit of 16 the three gradients are 1, 0 and 1.
# Why it matters: a decoder that ends in a sigmoid reports a finite, arbitrary NLL in
#   its tails, and two correct-looking programs disagree by 83 nats a pixel. Keep
#   logits.
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
from torch.distributions import Bernoulli
from torch.nn import functional as F


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


def losses(logit):
    """Loss and gradient of a pixel that is 0, three ways."""
    ways = {
        "with_logits": lambda a: F.binary_cross_entropy_with_logits(a, 0 * a.detach()),
        "Bernoulli(probs)": lambda a: -Bernoulli(a.sigmoid()).log_prob(0 * a.detach()),
        "binary_cross_entropy": lambda a: F.binary_cross_entropy(
            a.sigmoid(), 0 * a.detach()
        ),
    }
    found = []
    for name, way in ways.items():
        a = torch.tensor(float(logit), requires_grad=True)
        loss = way(a)
        loss.backward()
        found.append((round(loss.item(), 2), round(a.grad.item(), 2)))
        print("logit {}, {}: {} nats, gradient {}".format(logit, name, *found[-1]))
    return found


must(losses(5) == [(5.01, 0.99)] * 3, "the three already differ at a logit of 5")
want = [(16.0, 1.0), (15.94, 0.0)]
must(losses(16)[:2] == want, "at a logit of 16 the first two are not 16 and 15.94")
want = [(17.0, 1.0), (15.94, 0.0), (100.0, 0.0)]
must(losses(17) == want, f"at a logit of 17 they are not {want}")
EOF
