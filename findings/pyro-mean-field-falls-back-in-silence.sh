#!/usr/bin/env bash
# TraceMeanField_ELBO turns into plain Monte Carlo without a word.
#
# Packages: pyro-ppl 1.9.1, torch 2.15.0
# Expected: TraceMeanField_ELBO uses the analytic KL; where none is known it says so.
# Seen: where torch has no formula for a pair it estimates the term from the one
#   sample. For a mixture prior (as in VampPrior and mixture-of-Gaussians models) no
#   warning is given, even with warnings as errors, and the loss of the same guide
#   varies by many nats.
# Why it matters: the reader believes to have the low-variance estimator of the VAE
#   paper and compares its noise with other models. Test: two calls that differ by
#   more than rounding had no analytic KL.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(pyro-ppl==1.9.1 torch==2.15.0 numpy==2.4.6)

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
import warnings

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceMeanField_ELBO


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


warnings.simplefilter("error")
pyro.set_rng_seed(0)
units = 50
zeros = torch.zeros(units)
centres = torch.stack([zeros - 2, zeros + 2])
priors = {
    "Normal": dist.Normal(zeros, 1.0).to_event(1),
    "MultivariateNormal": dist.MultivariateNormal(zeros, torch.eye(units)),
    "mixture of two Normals": dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2)), dist.Normal(centres, 1.0).to_event(1)
    ),
}
posterior = dist.Normal(zeros + 0.5, 0.8).to_event(1)
for name, prior in priors.items():
    losses = [
        TraceMeanField_ELBO().loss(
            lambda prior=prior: pyro.sample("z", prior),
            lambda: pyro.sample("z", posterior),
        )
        for _ in range(6)
    ]
    spread = max(losses) - min(losses)
    print(f"{name}: KL {losses[0]:.3f}, {losses[1]:.3f}, ...; spread {spread:.3f} nats")
    noisy = name.startswith("mixture")
    must((spread > 1) == noisy, f"the KL to a {name} has a spread of {spread:.3f}")
EOF
