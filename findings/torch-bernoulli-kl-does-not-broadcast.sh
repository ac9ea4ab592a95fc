#!/usr/bin/env bash
# KL of Bernoulli codes and a shared prior: an error, or the wrong image.
#
# Packages: torch 2.15.0
# Expected: kl_divergence broadcasts: a posterior (batch, units) and a prior (units,)
#   give (batch, units), as they do for Normal and Categorical.
# Seen: for Bernoulli it raises IndexError, unless batch equals units. Then it runs,
#   and a prior unit that is always off makes the KL of one image infinite at all
#   units, in place of that unit of all images.
# Why it matters: a model with binary codes works at one batch size by chance and
#   gives wrong numbers without a word. Expand the prior by hand.
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
from torch.distributions import Bernoulli, Normal, kl_divergence


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


def kl(batch, expand):
    posterior = Bernoulli(torch.full((batch, 10), 0.3))
    prior = torch.cat([torch.zeros(1), torch.full((9,), 0.5)])  # the first unit is off
    return kl_divergence(
        posterior, Bernoulli(prior.expand(batch, 10) if expand else prior)
    )


normal = kl_divergence(Normal(torch.zeros(4, 10), 1.0), Normal(torch.zeros(10), 1.0))
print("Normal, batch 4:", tuple(normal.shape))
must(normal.shape == (4, 10), "Normal does not broadcast")
try:
    print("Bernoulli, batch 4:", tuple(kl(4, False).shape))
    raised = False
except IndexError as error:
    print("Bernoulli, batch 4: IndexError:", error)
    raised = True
must(raised, "a prior that is shared by 4 images raises no error")
found, right = kl(10, False), kl(10, True)
print("Bernoulli, batch 10: infinite terms per image", found.isinf().sum(1).tolist())
print("with the prior expanded:                     ", right.isinf().sum(1).tolist())
must(right.isinf().sum(1).tolist() == [1] * 10, "the expanded prior is not right")
must(found.isinf().sum(1).tolist() == [10] + [0] * 9, "batch 10 is no longer wrong")
EOF
