#!/usr/bin/env bash
# With a minibatch, Pyro's importance-weighted bound lies above the likelihood.
#
# Packages: pyro-ppl 1.9.2, torch 2.15.0
# Expected: RenyiELBO(alpha=0) is the importance-weighted bound, so its mean never
#   exceeds log p(data); plate(..., subsample_size=B) makes it a noisier estimate of
#   the same number, and vectorize_particles changes the speed only.
# Seen: for 1000 numbers with log p(data) = -1794.5 and 20 particles the whole plate
#   gives -1798.7. With subsample_size=10 the mean is -996, and -1450 with
#   vectorize_particles. The factor N / B that a minibatch puts before a log density
#   is inside the exponential, and each particle of the loop has a minibatch of its
#   own, so that the luckiest one counts. One particle, Trace_ELBO and NumPyro are
#   right. Not documented; a warning against minibatches was removed in 2019.
# Why it matters: training an importance-weighted VAE follows another objective than
#   the one written down, and its log shows a likelihood that no model has. Evaluate
#   without subsample_size.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(pyro-ppl==1.9.2 torch==2.15.0 numpy==2.4.6)

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
import math

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import RenyiELBO


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


pyro.set_rng_seed(0)
N = 1000
data = torch.randn(N) * math.sqrt(2)
truth = dist.Normal(0.0, math.sqrt(2)).log_prob(data).sum().item()
print(f"log p(data) = {truth:.1f}")


def model(size):
    with pyro.plate("data", N, subsample_size=size) as index:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=data[index])


def guide(size):
    with pyro.plate("data", N, subsample_size=size) as index:
        pyro.sample("z", dist.Normal(data[index] / 2, 1.0))


for size, particles, vectorized, times in [
    (N, 20, True, 100),
    (10, 1, False, 400),
    (10, 20, False, 50),
    (10, 20, True, 400),
]:
    bound = RenyiELBO(
        num_particles=particles, max_plate_nesting=1, vectorize_particles=vectorized
    )
    values = torch.tensor([-bound.loss(model, guide, size) for _ in range(times)])
    mean, error = values.mean().item(), values.std().item() / math.sqrt(times)
    print(
        f"minibatch {size}, {particles} particles, vectorized {vectorized}: "
        f"{mean:.1f} (standard error {error:.1f})"
    )
    above = mean > truth + 5 * error
    must(above == (size < N and particles > 1), "the bound moved across the truth")
EOF
