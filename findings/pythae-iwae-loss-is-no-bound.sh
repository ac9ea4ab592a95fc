#!/usr/bin/env bash
# The loss of pythae's IWAE lies below minus the log-likelihood.
#
# Packages: pythae 0.1.2, torch 2.15.0
# Expected: the loss is minus the importance-weighted bound of K samples: on average at
#   least -log p(x), and closer to it the larger K is.
# Seen: it is minus the mean of the log weights, each weighed by its own weight. In a
#   linear model with -log p(x) = 5.97 nats it is 10 with one sample, 5.3 with ten and
#   3.8 with a thousand: 2.2 nats better than the truth. Minus the bound, from the same
#   weights, is 10, 6.7 and 5.97. (Their gradients are equal, as the weights are
#   detached. The values differ by KL(weights || uniform), which can be log K.)
# Why it matters: the trainer logs this loss, keeps the best model by it, and shows it
#   beside the loss of a VAE, which is a bound. Compare models with log-mean-exp.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(
    pythae==0.1.2 torch==2.15.0 numpy==2.4.6 pydantic==2.14.4
    scikit-learn==1.9.1 imageio==2.38.1 cloudpickle==3.1.2
)

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

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import IWAE, IWAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


SIZE = 10


class Encoder(BaseEncoder):
    """q(z | x) = N(shift, I), for all x; the shift is 0."""

    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(SIZE))

    def forward(self, x):
        mean = self.shift.expand(len(x), SIZE)
        return ModelOutput(embedding=mean, log_covariance=torch.zeros_like(mean))


class Same(BaseDecoder):
    """p(x | z) = exp(-|x - z|^2 / 2): pythae leaves the constant out."""

    def forward(self, z):
        seen.append(z)
        return ModelOutput(reconstruction=z)


x = torch.ones(1000, SIZE)
truth = SIZE / 2 * math.log(2) + SIZE / 4  # of exp(-|x|^2 / 4) / 2^(SIZE / 2)
data = BaseDataset(x, torch.zeros(len(x)))
for samples in (1, 10, 1000):
    torch.manual_seed(0)
    config = IWAEConfig(
        input_dim=(SIZE,), latent_dim=SIZE, number_samples=samples,
        reconstruction_loss="mse",
    )
    seen, encoder = [], Encoder()
    loss = IWAE(config, encoder, Same())(data[:]).loss
    z = seen[0].reshape(len(x), samples, SIZE)
    log_q = -(z - encoder.shift).square() / 2
    log_w = (-(x[:, None] - z).square() / 2 - z.square() / 2 - log_q).sum(-1)
    bound = -(log_w.logsumexp(1) - math.log(samples)).mean()
    slopes = [
        torch.autograd.grad(value, encoder.shift, retain_graph=True)[0].mean().item()
        for value in (loss, bound)
    ]
    loss, bound = loss.item(), bound.item()
    print(
        f"K = {samples}: loss {loss:.2f}, minus the bound from the same samples "
        f"{bound:.2f}, -log p(x) {truth:.2f}; slopes {slopes[0]:.3f}, {slopes[1]:.3f}"
    )
    must(bound > truth - 0.05, f"with {samples} samples the bound is {bound}")
    if samples == 1:
        must(abs(loss - bound) < 1e-3, f"with one sample the loss is {loss}")
    else:
        must(loss < truth - 0.5, f"with {samples} samples the loss is {loss}")
    must(abs(slopes[0] - slopes[1]) < 1e-2, f"the slopes are {slopes}")
EOF
