"""The variational autoencoder (Kingma & Welling 2014; Rezende et al. 2014)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from drawlib.bound import Bound, Images, LatentModel, Noise, Source, images_for
from drawlib.config import Config, at_least, one_of
from drawlib.gaussian import Gaussian, GaussianHead, standard
from drawlib.layers import ACTIVATIONS, linear, mlp
from drawlib.likelihood import likelihood

__all__ = ["VAE", "VAEConfig"]


@dataclass(frozen=True)
class VAEConfig(Config):
    """Sizes of a fully connected VAE.

    ``encoder`` and ``decoder`` list hidden widths from input to output. The preset
    ``source`` has the sizes of the public table that the course reproduces
    (simonamtoft's repository: 784-512-256-128-64, z 64, tanh decoder), with a free σ
    in place of its softplus; ``gated`` is ours, two layers of 512 gated units.

    Example:
        >>> VAEConfig.preset("source").encoder
        (512, 256, 128, 64)
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    encoder: tuple[int, ...] = (512, 256, 128, 64)
    decoder: tuple[int, ...] = (64, 128, 256, 512)
    z: int = 64
    encoder_activation: str = "relu"
    decoder_activation: str = "tanh"
    variance: str = "exp"
    likelihood: str = "bernoulli"

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "source": {},
        "gated": {
            "encoder": (512, 512),
            "decoder": (512, 512),
            "z": 40,
            "encoder_activation": "gated",
            "decoder_activation": "gated",
        },
        "tiny": {"encoder": (32,), "decoder": (32,), "z": 4},
    }

    def check(self) -> None:
        at_least(self, 1, "image_shape", "encoder", "decoder", "z")
        for name in ("encoder", "decoder"):
            if not getattr(self, name):
                raise ValueError(f"VAEConfig.{name} is (); allowed: one width or more")
        one_of(self, "encoder_activation", (*ACTIVATIONS, "gated"))
        one_of(self, "decoder_activation", (*ACTIVATIONS, "gated"))
        one_of(self, "variance", ("exp", "softplus"))
        one_of(self, "likelihood", ("bernoulli", "discretised-logistic"))


class VAE(LatentModel):
    r"""p(z) = N(0, I); p(x given z) = Bern(sigmoid c(z)); q(z given x) = N(μ(x), σ(x)²)

    The bound at one reparametrised sample z = μ + σ ε is, in nats,
    ELBO = log p(x given z) − KL(q(z given x) ‖ N(0, I))
    (Kingma & Welling 2014, eqs. 3 and 10).

    Example:
        >>> model = VAE(VAEConfig.preset("tiny"))
        >>> bound = model(torch.zeros(5, 1, 28, 28))
        >>> bound.elbo.shape, bound.kl.shape
        (torch.Size([5]), torch.Size([5, 1]))
        >>> model.generate(3).shape
        torch.Size([3, 1, 28, 28])
    """

    def __init__(self, config: VAEConfig | None = None) -> None:
        super().__init__()
        self.config = config = VAEConfig.given(config)
        self.image_shape = config.image_shape
        pixels = math.prod(config.image_shape)
        self.encoder = mlp((pixels, *config.encoder), config.encoder_activation)
        self.head = GaussianHead(config.encoder[-1], config.z, config.variance)
        self.decoder = mlp((config.z, *config.decoder), config.decoder_activation)
        self.output = linear(config.decoder[-1], pixels)
        self.likelihood = likelihood(config.likelihood, config.image_shape[0])

    def matrices(self) -> list[Tensor]:
        """All but the map from the pixels, the first, and that to them, the last.

        These stay with Adam: they are the largest by far, and Muon's step costs the
        more the larger a matrix is, whatever the batch.
        """
        return super().matrices()[1:-1]

    def noise_shapes(self, n: int) -> tuple[tuple[int, ...], ...]:
        return ((n, self.config.z),)

    def encode(self, x: Images) -> Gaussian:
        """q(z given x), each of shape (batch, z)."""
        return self.head(self.encoder(x.flatten(1)))

    def decode(self, z: Float[Tensor, "batch z"]) -> Images:
        """The canvas c(z): the logits of p(x given z)."""
        return self.output(self.decoder(z)).unflatten(1, self.image_shape)

    def bound(self, x: Images, noise: Noise) -> Bound:
        q = self.encode(x).to(x.dtype)
        z = q.sample(noise)
        log_likelihood = self.likelihood(self.decode(z), x)
        # log w = log p(x|z) + log p(z) − log q(z|x), at the sampled z
        log_weight = log_likelihood + standard(z).log_prob(z) - q.log_prob(z)
        return Bound(log_likelihood, q.kl().unsqueeze(1), log_weight)

    def latents(self, noise: Noise) -> tuple[Images, Tensor]:
        return self.decode(noise), noise

    def noise_of(self, x: Images, z: Tensor) -> Noise:
        return self.encode(x).to(x.dtype).noise_of(z)

    @torch.no_grad()
    def generate(
        self, n: int, *, noise: Noise | None = None, generator: Source = None
    ) -> Images:
        taken = self.take_noise(n, noise, generator)
        return self.likelihood.mean(self.latents(taken)[0])

    @torch.no_grad()
    def reconstruct(
        self, x: Images, *, noise: Noise | None = None, generator: Source = None
    ) -> Images:
        x = images_for(self, x)
        z = self.encode(x).sample(self.take_noise(len(x), noise, generator))
        return self.likelihood.mean(self.decode(z))

    @torch.no_grad()
    def start_at(self, mean: Float[Tensor, "channels height width"]) -> None:
        self.output.bias.copy_(torch.logit(mean.flatten(), eps=1e-2))
