#!/usr/bin/env bash
# pythae's get_nll: the sign, and how many samples it really draws.
#
# Packages: pythae 0.1.2, torch 2.15.0
# Expected: VAE.get_nll(data, n_samples=K, batch_size=B) is the negative log-
#   likelihood in nats, from K importance samples per image; batch_size only saves
#   memory.
# Seen: it returns the log-likelihood (a negative number). K below B draws B samples;
#   K above B draws K rounded down to a multiple of B. With B = 100, its default,
#   get_nll(data, 1) is a bound from 100 samples and 199 means 100.
# Why it matters: the importance-weighted bound depends on K, and a table that says K
#   = 1 (the ELBO) or 150 shows another K, and is tighter or looser than it claims.
#   Ask for a multiple of batch_size, and turn the sign.
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
from pythae.models import VAE, VAEConfig


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


torch.manual_seed(0)
config = VAEConfig(input_dim=(1, 8, 8), latent_dim=2, reconstruction_loss="bce")
model = VAE(config).eval()
drawn = []
model.encoder.register_forward_hook(lambda _, args, out: drawn.append(len(args[0])))
data = (torch.rand(1, 1, 8, 8) < 0.5).float()
with torch.no_grad():
    for asked, want in {1: 100, 50: 100, 100: 100, 199: 100, 250: 200}.items():
        drawn.clear()
        value = model.get_nll(data, n_samples=asked, batch_size=100)
        print(f"n_samples={asked}: {sum(drawn)} drawn, get_nll = {value:.2f}")
        must(sum(drawn) == want, f"n_samples={asked} draws {sum(drawn)}")
        must(value < 0, "get_nll is positive, as its name says")
print(f"for comparison, 64 pixels at p = 1/2 cost {64 * math.log(2):.2f} nats")
EOF
