#!/usr/bin/env bash
# The KL of a video's latents is that of one column of each.
#
# Packages: diffusers 0.42.1, torch 2.15.0
# Expected: latent_dist.kl() is the KL of each item of the batch, as it is for
#   AutoencoderKL: shape (batch,), the sum over all latents.
# Seen: it sums dimensions 1, 2 and 3. The latents of a video have five, so that a
#   column of the picture is left: shape (batch, width). Its mean is the KL divided by
#   the width of the latents: 28.6 in place of 685.7 nats for 24 columns, and 45.5 in
#   place of 727.4 for 16, where the videos lie on their side. The class is shared by
#   CogVideoX, Wan, LTX, Mochi and others; no error, no warning.
# Why it matters: loss = reconstruction + weight * posterior.kl().mean() has a weight
#   that depends on the width of the crop. Sum kl() over all but the first dimension.
#
# PYTHON=... reuses an environment that already has the pinned versions below.
set -euo pipefail
pins=(diffusers==0.42.1 torch==2.15.0 numpy==2.4.6)

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
from diffusers import AutoencoderKL, AutoencoderKLCogVideoX
from torch.distributions import Normal, kl_divergence


def must(holds, otherwise):
    if not holds:
        raise SystemExit("changed: " + otherwise)


def sizes(down, up):
    return dict(
        in_channels=1,
        out_channels=1,
        down_block_types=(down,) * 2,
        up_block_types=(up,) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )


torch.manual_seed(0)
picture = AutoencoderKL(**sizes("DownEncoderBlock2D", "UpDecoderBlock2D"))
video = AutoencoderKLCogVideoX(
    **sizes("CogVideoXDownBlock3D", "CogVideoXUpBlock3D"), temporal_compression_ratio=1
)
x = torch.randn(3, 1, 5, 32, 48)
for name, model, data in (
    ("pictures", picture, x[:, :, 0]),
    ("videos", video, x),
    ("videos on their side", video, x.mT),
):
    with torch.no_grad():
        posterior = model.eval().encode(data).latent_dist
    exact = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0))
    exact, kl = exact.flatten(1).sum(1), posterior.kl()
    print(
        f"{name}: latents {tuple(posterior.mean.shape)}, kl() {tuple(kl.shape)} with "
        f"the mean {kl.mean():.1f}; the KL is {exact.mean():.1f} nats per item"
    )
    if model is picture:
        must(torch.allclose(kl, exact, rtol=1e-3), "a picture's KL is wrong as well")
    else:
        width = posterior.mean.shape[-1]
        must(kl.shape == (3, width), f"the KL has the shape {tuple(kl.shape)}")
        must(torch.allclose(kl.sum(1), exact, rtol=1e-3), "its sum is another number")
EOF
