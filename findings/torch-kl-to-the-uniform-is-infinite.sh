#!/usr/bin/env bash
# The KL of a continuous Bernoulli to the uniform distribution on [0, 1] is infinite.
#
# Packages: torch 2.15.0
# Expected: q lives on [0, 1] and the uniform density there is 1, so KL(q, uniform) is
#   minus the entropy of q: 0.029 nats at p = 0.3.
# Seen: inf, silently. It is inf for each uniform that begins at 0 or ends at 1, and
#   finite for one that reaches beyond both, as if touching an end were leaving it. The
#   KL of a Beta is right.
# Why it matters: the continuous Bernoulli is the answer to grey pixels sold as bits,
#   and the uniform on [0, 1] is what its pixels are compared with, or its prior. One
#   such term makes the ELBO -inf and the gradient useless. Use -entropy().
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
from torch.distributions import Beta, ContinuousBernoulli, Uniform, kl_divergence


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


q = ContinuousBernoulli(torch.tensor(0.3, dtype=torch.float64))
beta = Beta(*torch.tensor([2.0, 3.0], dtype=torch.float64))
torch.manual_seed(0)
for low, high in ((0.0, 1.0), (-0.1, 1.0), (0.0, 1.1), (-0.1, 1.1)):
    ends = torch.tensor([low, high], dtype=torch.float64)
    uniform = Uniform(*ends)
    right = (ends[1] - ends[0]).log() - q.entropy()
    kl = kl_divergence(q, uniform)
    print(f"KL(q, uniform on [{low}, {high}]) = {kl:.4f}; it should be {right:.4f}")
    touches = low == 0 or high == 1
    must(kl.isinf() == touches, f"on [{low}, {high}] the KL is {kl:.4f}")
    must(touches or torch.isclose(kl, right), "the finite KL is another")
unit = Uniform(*torch.tensor([0.0, 1.0], dtype=torch.float64))
other = kl_divergence(beta, unit)
print(f"KL(Beta, uniform) = {other:.4f}, minus its entropy {-beta.entropy():.4f}")
must(torch.isclose(other, -beta.entropy()), "the KL of a Beta is another")
samples = q.sample((100_000,))
estimate = q.log_prob(samples).mean() - unit.log_prob(samples).mean()
print(f"from samples of q: {estimate:.4f}")
must(abs(estimate + q.entropy()) < 0.01, "samples of q tell another KL")
EOF
