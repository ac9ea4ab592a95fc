"""The Ladder VAE (Sønderby et al. 2016): several latent layers, merged on the way down.

Layers are counted from the bottom, as in the paper: z_1 touches the image, z_L is the
top. Every tuple of this module (``z``, ``hidden``, ``noise``, the columns of ``kl``)
runs from bottom to top. The merge itself is `drawlib.gaussian.merge`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from drawlib.bound import (
    Bound,
    Images,
    LatentModel,
    Noise,
    Source,
    evaluation_mode,
    images_for,
)
from drawlib.config import Config, at_least, one_of
from drawlib.gaussian import Gaussian, GaussianHead, merge, standard
from drawlib.layers import ACTIVATIONS, linear
from drawlib.likelihood import likelihood

__all__ = ["LadderConfig", "LadderVAE", "Rung"]


@dataclass(frozen=True)
class LadderConfig(Config):
    """Sizes of a fully connected Ladder VAE, from the bottom layer to the top one.

    ``hidden[i]`` is the width of d_i on the way up and of the network that computes
    p(z_i given z_{i+1}) on the way down; ``decoder`` lists the widths from z_1 to the
    image; ``depth`` is how many layers of each of these widths follow each other (two
    in the paper). ``floor`` is added to every variance under ``softplus`` (σ >= 0.01
    unless told otherwise: our choice) and unused under ``exp``.

    The preset ``source`` has the sizes of the public table that the course
    reproduces (simonamtoft's repository, whose decoder widths are not reversed).
    ``paper`` has the five layers of the paper; its widths are from memory and not
    checked against it (another public account gives 32, not 64, for the top one).

    Example:
        >>> LadderConfig.preset("source").z
        (64, 32, 32)
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    hidden: tuple[int, ...] = (512, 256, 256)
    z: tuple[int, ...] = (64, 32, 32)
    decoder: tuple[int, ...] = (512, 256, 256)
    activation: str = "leaky-relu"
    norm: bool = True
    variance: str = "softplus"
    floor: float = 1e-4
    likelihood: str = "bernoulli"
    depth: int = 1

    LATER: ClassVar[tuple[str, ...]] = ("depth",)
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "source": {},
        "paper": {
            "hidden": (512, 256, 128, 64, 64),
            "z": (64, 32, 16, 8, 4),
            "decoder": (512,),
        },
        "tiny": {"hidden": (32, 16), "z": (6, 3), "decoder": (32,)},
    }

    def check(self) -> None:
        at_least(self, 1, "image_shape", "hidden", "z", "decoder", "depth")
        at_least(self, 0, "floor")
        one_of(self, "activation", tuple(ACTIVATIONS))
        one_of(self, "variance", ("softplus", "exp"))
        one_of(self, "likelihood", ("bernoulli", "discretised-logistic"))
        if not len(self.z) == len(self.hidden) >= 1:
            raise ValueError(
                f"LadderConfig has {len(self.hidden)} hidden widths for {len(self.z)} "
                "latent layers; allowed: one width per layer, one layer or more"
            )
        if not self.decoder:
            raise ValueError("LadderConfig.decoder is (); allowed: one width or more")


class Rung(NamedTuple):
    """One latent layer of one inference pass: its sample, posterior and prior.

    Example:
        >>> model = LadderVAE(LadderConfig.preset("tiny"))
        >>> bottom = model.infer(torch.zeros(5, 1, 28, 28), model.noise(5))[0]
        >>> bottom.z.shape, bottom.q.mu.shape
        (torch.Size([5, 6]), torch.Size([5, 6]))
    """

    z: Float[Tensor, "batch z"]
    q: Gaussian
    p: Gaussian


def block(a: int, b: int, activation: str, norm: bool, depth: int = 1) -> nn.Sequential:
    """Affine map, batch normalisation where ``norm`` says so, activation; repeated.

    Example:
        >>> [type(part).__name__ for part in block(8, 4, "leaky-relu", True)]
        ['Linear', 'BatchNorm1d', 'LeakyReLU']
    """
    parts: list[nn.Module] = []
    for width in (a, *[b] * (depth - 1)):
        parts.append(affine := linear(width, b))
        if norm:
            # The normalisation subtracts any constant and adds its own shift.
            affine.register_parameter("bias", None)
            parts.append(nn.BatchNorm1d(b))
        parts.append(ACTIVATIONS[activation]())
    return nn.Sequential(*parts)


# Pictures never touch the batch statistics, in whatever mode the model is.
running_statistics = evaluation_mode


class LadderVAE(LatentModel):
    r"""A deep generative model whose posterior corrects its own prior on the way down.

    Generative: p(z_L) = N(0, I), p(z_i given z_{i+1}) = N(μ_p, σ_p²), p(x given z_1).
    Inference: d_i = act(BN(W d_{i−1})) with d_0 = x, and heads (μ̂_i, σ̂_i²) on d_i;
    then from the top, q(z_L given x) = N(μ̂_L, σ̂_L²) and below it the
    precision-weighted product of N(μ̂_i, σ̂_i²) with p(z_i given z_{i+1}), at the
    z_{i+1} drawn from q. The bound at one sample is, in nats,
    ELBO = log p(x given z_1) − Σ_i KL(q(z_i given z_{i+1}, x) ‖ p(z_i given z_{i+1})),
    each KL analytic given the sampled z_{i+1} (Sønderby et al. 2016).

    In training mode the normalisation uses the statistics of the batch, so a bound is
    a function of the whole batch and one image alone is refused; in evaluation mode,
    and for pictures always, it uses the running ones.

    Raises:
        ValueError: from PyTorch, for a training batch of one image with ``norm``.

    Example:
        >>> model = LadderVAE(LadderConfig.preset("tiny"))
        >>> bound = model(torch.zeros(5, 1, 28, 28))
        >>> bound.elbo.shape, bound.kl.shape
        (torch.Size([5]), torch.Size([5, 2]))
        >>> model.generate(3).shape
        torch.Size([3, 1, 28, 28])
    """

    def __init__(self, config: LadderConfig | None = None) -> None:
        super().__init__()
        self.config = config = LadderConfig.given(config)
        self.image_shape = config.image_shape
        self.layers = len(config.z)
        pixels = math.prod(config.image_shape)
        make = partial(
            block, activation=config.activation, norm=config.norm, depth=config.depth
        )
        head = partial(GaussianHead, variance=config.variance, floor=config.floor)

        below = (pixels, *config.hidden[:-1])
        self.up = nn.ModuleList(map(make, below, config.hidden))
        self.up_heads = nn.ModuleList(map(head, config.hidden, config.z))
        # The top layer's prior is N(0, I) and has no network.
        self.priors = nn.ModuleList(
            nn.Sequential(make(above, width), head(width, z))
            for above, width, z in zip(
                config.z[1:], config.hidden[:-1], config.z[:-1], strict=True
            )
        )
        widths = (config.z[0], *config.decoder)
        self.decoder = nn.Sequential(*map(make, widths[:-1], widths[1:]))
        self.output = linear(widths[-1], pixels)
        self.likelihood = likelihood(config.likelihood, config.image_shape[0])

    def matrices(self) -> list[Tensor]:
        """All but the map from the pixels, the first, and that to them, the last.

        These stay with Adam: they are the largest by far, and Muon's step costs the
        more the larger a matrix is, whatever the batch.
        """
        return super().matrices()[1:-1]

    def noise_shapes(self, n: int) -> tuple[tuple[int, ...], ...]:
        return tuple((n, z) for z in self.config.z)

    def bottom_up(self, x: Images) -> list[Float[Tensor, "batch _"]]:
        """The deterministic features d_1 … d_L."""
        d, features = x.flatten(1), []
        for up in self.up:
            d = up(d)
            features.append(d)
        return features

    def prior(self, i: int, above: Float[Tensor, "batch z_above"]) -> Gaussian:
        """p(z_i given z_{i+1}), with i counted from 0 and below the top."""
        return self.priors[i](above)

    def rung(
        self,
        i: int,
        d: Float[Tensor, "batch hidden"],
        above: Float[Tensor, "batch z_above"] | None,
        noise: Float[Tensor, "batch z"],
    ) -> Rung:
        """Layer i of the posterior, given the z drawn from q one layer above.

        One Gaussian p serves both the merge and the KL, and the z that goes down is
        the draw from q: two places where public code differs from the model.
        """
        q_hat = self.up_heads[i](d).to(noise.dtype)
        if above is None:
            return Rung(q_hat.sample(noise), q_hat, standard(q_hat.mu))
        p = self.prior(i, above).to(noise.dtype)
        q = merge(q_hat, p)
        return Rung(q.sample(noise), q, p)

    def infer(self, x: Images, noise: Noise) -> list[Rung]:
        """One draw from q(z_1 … z_L given x): the rungs, from bottom to top."""
        features, each = self.bottom_up(x), as_tuple(noise)
        rungs: list[Rung] = []
        above = None
        for i in reversed(range(self.layers)):
            rungs.append(self.rung(i, features[i], above, each[i]))
            above = rungs[-1].z
        return rungs[::-1]

    def decode(self, z: Float[Tensor, "batch z"]) -> Images:
        """The canvas c(z_1): the logits of p(x given z_1)."""
        return self.output(self.decoder(z)).unflatten(1, self.image_shape)

    def bound(self, x: Images, noise: Noise) -> Bound:
        rungs = self.infer(x, noise)
        log_likelihood = self.likelihood(self.decode(rungs[0].z), x)
        kl = torch.stack([q.kl(p) for _, q, p in rungs], dim=1)
        # log w = log p(x|z_1) + Σ_i [log p(z_i|z_{i+1}) − log q(z_i|z_{i+1}, x)]
        log_weight = log_likelihood
        for z, q, p in rungs:
            log_weight = log_weight + p.log_prob(z) - q.log_prob(z)
        return Bound(log_likelihood, kl, log_weight)

    def draw_top(self, noise: Noise) -> Float[Tensor, "batch z_top"]:
        """z_L ~ p(z_L) = N(0, I): generation starts at the top, with its noise."""
        return as_tuple(noise)[-1]

    def latents(self, noise: Noise) -> tuple[Images, tuple[Tensor, ...]]:
        each = as_tuple(noise)
        z = [self.draw_top(noise)]
        for i in reversed(range(self.layers - 1)):
            z.append(self.prior(i, z[-1]).sample(each[i]))
        return self.decode(z[-1]), tuple(z[::-1])

    def noise_of(self, x: Images, z: tuple[Tensor, ...]) -> Noise:
        features, above = self.bottom_up(x), (*z[1:], None)
        q = [self.rung(i, features[i], above[i], z[i]).q for i in range(self.layers)]
        noise = tuple(q_i.noise_of(z_i) for q_i, z_i in zip(q, z, strict=True))
        return noise if len(noise) > 1 else noise[0]

    @torch.no_grad()
    def generate(
        self, n: int, *, noise: Noise | None = None, generator: Source = None
    ) -> Images:
        noise = self.take_noise(n, noise, generator)
        with running_statistics(self):
            return self.likelihood.mean(self.latents(noise)[0])

    @torch.no_grad()
    def reconstruct(
        self, x: Images, *, noise: Noise | None = None, generator: Source = None
    ) -> Images:
        x = images_for(self, x)
        noise = self.take_noise(len(x), noise, generator)
        with running_statistics(self):
            return self.likelihood.mean(self.decode(self.infer(x, noise)[0].z))

    @torch.no_grad()
    def start_at(self, mean: Float[Tensor, "channels height width"]) -> None:
        self.output.bias.copy_(torch.logit(mean.flatten(), eps=1e-2))


def as_tuple(noise: Noise) -> tuple[Tensor, ...]:
    """The noise of each layer; a model of one layer may be given its tensor bare.

    Example:
        >>> len(as_tuple(torch.zeros(2, 3)))
        1
    """
    return noise if isinstance(noise, tuple) else (noise,)
