"""A diffusion model: a deep ladder whose posterior is fixed.

Ho et al. (2020, arXiv:2006.11239, "DDPM") and Kingma et al. (2021, arXiv:2107.00630,
"VDM"; its numbers from memory). Levels are counted as there: z_0 touches the image,
z_T is nearly noise, and a drawing goes down from z_T to z_0.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from drawlib.bound import Bound, Images, LatentModel, Noise, Source, images_for
from drawlib.config import Config, at_least, one_of
from drawlib.gaussian import Gaussian, standard
from drawlib.likelihood import likelihood

__all__ = ["Diffusion", "DiffusionConfig", "cosine_log_snr", "snr_steps"]

Level = Int[Tensor, "batch"]
FREQUENCIES = 6  # with which a log SNR is told to the network: 1/16 … 2


@dataclass(frozen=True)
class DiffusionConfig(Config):
    """Sizes of a diffusion model with a small convolutional network.

    ``T`` steps lead from z_T to z_0; the network's weights do not depend on it.
    ``log_snr`` are log(α²/σ²) at z_0 and at z_T, fixed; between them the schedule is a
    cosine (``cosine_log_snr``). z_0 is left as noisy as that because the network, and
    not a fixed rounding, gives p(x given z_0): the last bits cost less there.

    ``channels`` are the network's at half and at a quarter of the image's resolution,
    ``blocks`` its residual blocks at each of them on the way down and up.

    Example:
        >>> DiffusionConfig.preset("course").T
        64
        >>> DiffusionConfig(log_snr=(-8.0, 3.0))
        Traceback (most recent call last):
        ValueError: DiffusionConfig.log_snr is (-8.0, 3.0); allowed: two falling numbers
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    T: int = 64
    log_snr: tuple[float, float] = (1.0, -7.0)
    channels: tuple[int, int] = (32, 64)
    blocks: int = 1
    likelihood: str = "bernoulli"

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "course": {},
        "tiny": {"T": 4, "channels": (4, 4)},
    }

    def check(self) -> None:
        at_least(self, 1, "image_shape", "T", "channels", "blocks")
        one_of(self, "likelihood", ("bernoulli", "categorical"))
        first, last = self.log_snr
        if not math.inf > first > last > -math.inf:
            raise ValueError(
                f"DiffusionConfig.log_snr is {self.log_snr}; allowed: two falling "
                "numbers"
            )


def cosine_log_snr(T: int, first: float, last: float) -> tuple[float, ...]:
    """log SNR of z_0 … z_T: α = cos φ and σ = sin φ, with φ in T equal steps.

    Example:
        >>> [round(v, 2) for v in cosine_log_snr(2, 3.0, -3.0)]
        [3.0, 0.0, -3.0]
    """
    low, high = (math.atan(math.exp(-v / 2)) for v in (first, last))
    angles = (low + (high - low) * t / T for t in range(T + 1))
    return tuple(-2 * math.log(math.tan(angle)) for angle in angles)


def snr_steps(log_snr: Float[Tensor, "levels"]) -> Float[Tensor, "levels"]:
    """SNR(t−1) − SNR(t) for t = 0 … T: the weights of the bound; 0 for t = 0.

    Example:
        >>> snr_steps(torch.tensor([8.0, 2.0, 0.5]).log())
        tensor([0.0000, 6.0000, 1.5000])
    """
    snr = log_snr.exp()
    return torch.cat([snr.new_zeros(1), snr[:-1] - snr[1:]])


class Diffusion(LatentModel):
    r"""Noise is taken away in T steps; the posterior only ever adds it.

    With x̃ = 2x − 1, α_t² + σ_t² = 1 and SNR(t) = α_t²/σ_t², which falls with t:

    - posterior, fixed: q(z_t given x) = N(α_t x̃, σ_t² I), and q(z_{t−1} given z_t, x)
      is the Gaussian that follows from it;
    - prior: p(z_T) = N(0, I), p(z_{t−1} given z_t) = q(z_{t−1} given z_t, x = x̂), where
      x̂(z_t; t) is the network's guess of the image's mean;
    - p(x given z_0): independent bits (or letters), with the network's logits at z_0.

    ELBO = log p(x given z_0) − KL(q(z_T given x) ‖ p(z_T))
    − Σ_t KL(q(z_{t−1} given z_t, x) ‖ p(z_{t−1} given z_t)) (DDPM, eq. 5; VDM, eq. 11).

    The columns of ``kl`` are in the order of drawing: z_T, z_{T−1}, … z_0. A pass costs
    T + 1 evaluations of the network. Since no posterior depends on an earlier one, one
    of the terms can be computed alone: ``training_bound`` does so.

    Example:
        >>> model = Diffusion(DiffusionConfig.preset("tiny"))
        >>> bound = model(torch.zeros(5, 1, 28, 28))
        >>> bound.elbo.shape, bound.kl.shape
        (torch.Size([5]), torch.Size([5, 5]))
        >>> model.generate_steps(3).shape
        torch.Size([5, 3, 1, 28, 28])
    """

    def __init__(self, config: DiffusionConfig | None = None) -> None:
        super().__init__()
        self.config = config = DiffusionConfig.given(config)
        self.image_shape = config.image_shape
        self.log_snr = cosine_log_snr(config.T, *config.log_snr)
        self.network = Denoiser(config.image_shape[0], config.channels, config.blocks)
        self.bias = nn.Parameter(torch.zeros(config.image_shape))
        self.likelihood = likelihood(config.likelihood, config.image_shape[0])

    # The two sides of a step.

    def log_snrs(self, like: Tensor) -> Float[Tensor, "levels"]:
        """log SNR of all levels, in the type and on the device of ``like``."""
        return torch.tensor(self.log_snr, dtype=like.dtype, device=like.device)

    def diffused(self, target: Images, t: Level) -> Gaussian:
        """q(z_t given x) = N(α_t x̃, σ_t² I)."""
        log_snr = per_pixel(self.log_snrs(target)[t])
        log_sigma = 0.5 * F.logsigmoid(-log_snr)
        # DDPM, eq. (4)
        return Gaussian(alpha(log_snr) * target, log_sigma.expand_as(target))

    def step_down(self, z: Images, t: Level, target: Images) -> Gaussian:
        r"""q(z_{t−1} given z_t, x) for t ≥ 1; with x̂ for x̃ it is p(z_{t−1} given z_t).

        With r = SNR(t)/SNR(t−1): mean r α_{t−1}/α_t z_t + (1 − r) α_{t−1} x̃,
        variance (1 − r) σ_{t−1}².
        """
        log_snr = self.log_snrs(z)
        above, below = per_pixel(log_snr[t]), per_pixel(log_snr[t - 1])
        r, rest = (above - below).exp(), -torch.expm1(above - below)
        # DDPM, eq. (7), in terms of the SNR
        mean = r * alpha(below) / alpha(above) * z + rest * alpha(below) * target
        log_sigma = 0.5 * (rest.log() + F.logsigmoid(-below))
        return Gaussian(mean, log_sigma.expand_as(z))

    def canvas(self, z: Images, t: Level) -> Images:
        """The logits of x given z_t.

        If the pixels were independent, with prior logits b, Bayes' rule would give
        b + 2 α_t z_t / σ_t². The network adds what pixels say about each other.
        """
        log_snr = self.log_snrs(z)[t]
        alone = 2 * per_pixel(log_snr).exp() / alpha(per_pixel(log_snr)) * z
        return self.bias + alone + self.network(z, log_snr).to(z.dtype)

    def guess(self, canvas: Images) -> Images:
        """x̂ = 2 E[x] − 1 of a canvas."""
        return 2 * self.likelihood.mean(canvas) - 1

    # The contract.

    def noise_shapes(self, n: int) -> tuple[tuple[int, ...], ...]:
        return ((n, self.config.T + 1, *self.image_shape),)

    def level(self, t: int, x: Tensor) -> Level:
        """The level t for every image."""
        return torch.full((len(x),), t, device=x.device)

    def steps(self, x: Images, noise: Noise) -> Iterator[tuple[Tensor, Tensor, Images]]:
        """For z_T … z_0: its KL, log p − log q at its draw from q, and its canvas."""
        target, T = 2 * x - 1, self.config.T
        q, p = self.diffused(target, self.level(T, x)), standard(x)
        for down, eps in enumerate(noise.unbind(1)):
            t = self.level(T - down, x)
            z = q.sample(eps)
            canvas = self.canvas(z, t)
            # DDPM, eq. (5); for log w the densities at z
            ratio = per_image(p.log_prob(z) - q.log_prob(z))
            yield per_image(q.kl(p)), ratio, canvas
            if down < T:
                q = self.step_down(z, t, target)
                p = self.step_down(z, t, self.guess(canvas))

    def bound(self, x: Images, noise: Noise) -> Bound:
        kl, log_ratio = [], []
        for paid, ratio, canvas in self.steps(x, noise):
            kl.append(paid)
            log_ratio.append(ratio)
            last = canvas
        log_likelihood = self.likelihood(last, x)
        log_weight = log_likelihood + torch.stack(log_ratio, 1).sum(1)
        return Bound(log_likelihood, torch.stack(kl, 1), log_weight)

    def training_noise(self, n: int, generator: Source = None) -> Noise:
        """For each image one number in [0, 1), which names its term, and one ε.

        The numbers of a batch have equal distances and one common start (VDM,
        appendix I.1): each is uniform, and together they cover all the steps evenly.
        """
        start, eps = self.draws(((1,), (n, *self.image_shape)), generator)
        spread = torch.arange(n, device=eps.device, dtype=eps.dtype) / n
        return (torch.special.ndtr(start) + spread) % 1, eps

    def training_bound(self, x: Images, noise: Noise) -> Bound:
        r"""One of the T + 1 terms that have a network in them, times T + 1.

        An unbiased estimate of the bound for one evaluation of the network: z_t comes
        straight from q(z_t given x), without the steps before it. It has no
        ``log_weight`` (NaN): a weight needs the whole chain.
        """
        u, eps = noise
        target, T = 2 * x - 1, self.config.T
        t = (u * (T + 1)).long()  # below T + 1: no u < 1 rounds up to it
        z = self.diffused(target, t).sample(eps)
        canvas = self.canvas(z, t)
        # VDM, eq. (13): KL_t = ½ (SNR(t−1) − SNR(t)) ‖x̃ − x̂‖²
        weight = (T + 1) / 2 * snr_steps(self.log_snrs(x))[t]
        step = weight * per_image((target - self.guess(canvas)) ** 2)
        prior = per_image(self.diffused(target, self.level(T, x)).kl())
        last = torch.where(t == 0, (T + 1) * self.likelihood(canvas, x), 0.0)
        kl = torch.stack([prior, step], 1)
        return Bound(last, kl, torch.full_like(prior, math.nan))

    def descend(self, p: Gaussian, noise: Tensor) -> Iterator[tuple[Images, Images]]:
        """z_t ~ p, then z_{t−1} … z_0 of the model; each with its canvas.

        ``noise`` is ``(batch, t + 1, …)``. DDPM, algorithm 2.
        """
        for down, eps in enumerate(noise.unbind(1)):
            t = self.level(noise.shape[1] - 1 - down, noise)
            z = p.sample(eps)
            canvas = self.canvas(z, t)
            yield z, canvas
            if down + 1 < noise.shape[1]:
                p = self.step_down(z, t, self.guess(canvas))

    def dream(self, noise: Noise) -> Iterator[tuple[Images, Images]]:
        """z_T … z_0 of a drawing from the prior, each with its canvas."""
        return self.descend(standard(noise[:, 0]), noise)

    def latents(self, noise: Noise) -> tuple[Images, Tensor]:
        chain = list(self.dream(noise))
        return chain[-1][1], torch.stack([z for z, _ in chain], 1)

    def noise_of(self, x: Images, z: Tensor) -> Noise:
        target, T, noise = 2 * x - 1, self.config.T, []
        q = self.diffused(target, self.level(T, x))
        for down, z_t in enumerate(z.unbind(1)):
            noise.append(q.noise_of(z_t))
            if down < T:
                q = self.step_down(z_t, self.level(T - down, x), target)
        return torch.stack(noise, 1)

    @torch.no_grad()
    def generate(
        self, n: int, *, noise: Noise | None = None, generator: Source = None
    ) -> Images:
        taken = self.take_noise(n, noise, generator)
        ((_, canvas),) = deque(self.dream(taken), maxlen=1)
        return self.likelihood.mean(canvas)

    @torch.no_grad()
    def generate_steps(
        self, n: int, *, noise: Noise | None = None, generator: Source = None
    ) -> Float[Tensor, "levels n channels height width"]:
        """The network's mean of x given z_T … z_0; the last one is the image.

        Each is what the model would answer if it had to stop at that level: a mean over
        many digits at first.
        """
        chain = self.dream(self.take_noise(n, noise, generator))
        return torch.stack([self.likelihood.mean(canvas) for _, canvas in chain])

    @torch.no_grad()
    def reconstruct(
        self, x: Images, *, noise: Noise | None = None, generator: Source = None
    ) -> Images:
        """x with noise up to the middle level, T // 2, and drawn anew from there.

        z_0 holds nearly every bit of x, and z_T none: neither would show anything.
        """
        x = images_for(self, x)
        taken, middle = self.take_noise(len(x), noise, generator), self.config.T // 2
        q = self.diffused(2 * x - 1, self.level(middle, x))
        chain = self.descend(q, taken[:, self.config.T - middle :])
        ((_, canvas),) = deque(chain, maxlen=1)
        return self.likelihood.mean(canvas)

    @torch.no_grad()
    def start_at(self, mean: Float[Tensor, "channels height width"]) -> None:
        self.bias.copy_(self.likelihood.canvas_of(mean[None])[0])


class Denoiser(nn.Module):
    """A small U-Net on half and on a quarter of the resolution; it starts as zero.

    Example:
        >>> network = Denoiser(1, (8, 8), 1)
        >>> network(torch.randn(2, 1, 5, 7), torch.zeros(2)).abs().sum()
        tensor(0., grad_fn=<SumBackward0>)
    """

    def __init__(self, channels: int, width: tuple[int, int], blocks: int) -> None:
        super().__init__()
        wide, deep = width
        features = 2 * deep
        self.embed = nn.Sequential(nn.Linear(2 * FREQUENCIES, features), nn.SiLU())

        def side(c: int, count: int) -> nn.ModuleList:
            return nn.ModuleList(Block(c, features) for _ in range(count))

        self.enter = nn.Conv2d(channels, wide, 5, stride=2, padding=2)
        self.down = side(wide, blocks)
        self.shrink = nn.Conv2d(wide, deep, 3, stride=2, padding=1)
        self.middle = side(deep, 2 * blocks)
        self.enlarge = nn.Conv2d(deep, 4 * wide, 1)
        self.up = side(wide, blocks)
        self.leave = nn.Conv2d(wide, 4 * channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, z: Images, log_snr: Float[Tensor, "batch"]) -> Images:
        rates = 2.0 ** torch.arange(FREQUENCIES, device=z.device, dtype=z.dtype) / 16
        angles = log_snr[:, None] * rates
        told = self.embed(torch.cat([angles.sin(), angles.cos()], 1))
        h = self.enter(z)
        if not torch.is_grad_enabled():
            # A third of the time of an evaluation is saved, and none of a training.
            h = h.contiguous(memory_format=torch.channels_last)
        for block in self.down:
            h = block(h, told)
        beside, h = h, self.shrink(h)
        for block in self.middle:
            h = block(h, told)
        h = beside + larger(self.enlarge(h), beside)
        for block in self.up:
            h = block(h, told)
        return larger(self.leave(F.silu(h)), z)


class Block(nn.Module):
    """h + conv(silu(scale · conv(silu(norm h)) + shift)), both told by the log SNR.

    Example:
        >>> Block(8, 4)(torch.randn(2, 8, 3, 3), torch.zeros(2, 4)).shape
        torch.Size([2, 8, 3, 3])
    """

    def __init__(self, c: int, features: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, c)
        self.first = nn.Conv2d(c, c, 3, padding=1)
        self.told = nn.Linear(features, 2 * c)
        self.second = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.told(told)[:, :, None, None].chunk(2, 1)
        inner = self.first(F.silu(self.norm(h)))
        return h + self.second(F.silu(inner * (1 + scale) + shift))


def larger(h: Tensor, like: Tensor) -> Tensor:
    """Four channels to two by two pixels, cut to the size of ``like``.

    Example:
        >>> larger(torch.zeros(1, 8, 3, 2), torch.zeros(1, 9, 5, 4)).shape
        torch.Size([1, 2, 5, 4])
    """
    return F.pixel_shuffle(h, 2)[..., : like.shape[-2], : like.shape[-1]]


def alpha(log_snr: Tensor) -> Tensor:
    """α = √(SNR / (1 + SNR)).

    Example:
        >>> alpha(torch.zeros(1)) ** 2
        tensor([0.5000])
    """
    return (0.5 * F.logsigmoid(log_snr)).exp()


def per_pixel(value: Float[Tensor, "batch"]) -> Float[Tensor, "batch 1 1 1"]:
    """One number per image, for all its pixels."""
    return value[:, None, None, None]


def per_image(value: Tensor) -> Float[Tensor, "batch"]:
    """The sum over all axes but the first."""
    return value.flatten(1).sum(1)
