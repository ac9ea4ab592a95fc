#!/usr/bin/env bash
# pythae's MIWAE takes the number of estimates for the number of samples.
#
# Packages: pythae 0.1.2, torch 2.15.0
# Expected: MIWAE is the mean of number_gradient_estimates = M bounds of number_samples
#   = K samples each: an IWAE for M = 1, and a VAE for K = 1.
# Seen: the weights are normalised over the M estimates, not over the K samples. (M, K)
#   = (1, 100) has the loss and the slope of a VAE, 10.0 and -1.00; (100, 1) those of an
#   IWAE of 100 samples, 4.0 and -0.06. Losses and gradients are those of (K, M), and
#   no shape tells.
# Why it matters: a comparison of M and K finds the opposite of what it measures, and
#   the defaults, (5, 10), are 10 bounds of 5 samples. Name them the other way round.
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
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import IWAE, MIWAE, VAE, IWAEConfig, MIWAEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


SIZE = 10


class Encoder(BaseEncoder):
    """q(z | x) = N(shift, I), for all x."""

    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(SIZE))

    def forward(self, x):
        mean = self.shift.expand(len(x), SIZE)
        return ModelOutput(embedding=mean, log_covariance=torch.zeros_like(mean))


class Decoder(BaseDecoder):
    """p(x | z) = N(z, I), less a constant."""

    def forward(self, z):
        return ModelOutput(reconstruction=z)


data = BaseDataset(torch.ones(2000, SIZE), torch.zeros(2000))


def loss(model, config, **counts):
    """The loss, and the slope of it along one coordinate of the encoder's mean."""
    torch.manual_seed(0)
    config = config(
        input_dim=(SIZE,), latent_dim=SIZE, reconstruction_loss="mse", **counts
    )
    encoder = Encoder()
    value = model(config, encoder, Decoder())(data[:]).loss
    value.backward()
    return value.item(), encoder.shift.grad.mean().item()


vae = loss(VAE, VAEConfig)
print(f"VAE: loss {vae[0]:.2f}, slope {vae[1]:.3f}")
iwae = loss(IWAE, IWAEConfig, number_samples=100)
print(f"IWAE with 100 samples: loss {iwae[0]:.2f}, slope {iwae[1]:.3f}")
for m, k in ((1, 100), (100, 1)):
    seen = loss(MIWAE, MIWAEConfig, number_gradient_estimates=m, number_samples=k)
    print(f"MIWAE, {m} estimates of {k}: loss {seen[0]:.2f}, slope {seen[1]:.3f}")
    other = vae if m == 1 else iwae
    near = abs(seen[0] - other[0]) < 0.3 and abs(seen[1] - other[1]) < 0.05
    must(near, f"{m} estimates of {k} samples have the loss {seen}")
must(abs(vae[0] - iwae[0]) > 3, "a VAE and an IWAE have the same loss")
must(abs(vae[1] - iwae[1]) > 0.2, "a VAE and an IWAE have the same slope")
EOF
