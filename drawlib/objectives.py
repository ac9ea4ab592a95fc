"""Objectives that were tried with GLAS and given up; none is a bound on log p(x).

The code of GLAS (github.com/dojoteef/glas) still holds four replacements for the KL, or
for the sample, or for both. Their values are numbers to train with and no more: they
may be set beside no likelihood, not even beside each other. The course keeps them to
show what goes wrong; ``Bound`` never contains them, and ``evaluate`` never sees them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from drawlib.bound import Images, Noise
from drawlib.gaussian import Gaussian, standard
from drawlib.recurrent import Recurrent

__all__ = ["OBJECTIVES", "objective", "surrogate"]

Latent = Float[Tensor, "batch z"]
PerImage = Float[Tensor, " batch"]


def hellinger_distance(q: Gaussian, p: Gaussian) -> PerImage:
    r"""Σ_d (1 − BC_d): the squared Hellinger distance of each dimension, summed.

    BC = √(2σ_1σ_2 / (σ_1² + σ_2²)) · exp(−(μ_1 − μ_2)² / (4(σ_1² + σ_2²))).
    It is 0 where q = p, but at most 1 per dimension: a posterior of any precision costs
    at most D, so log p(x given z) minus it can exceed log p(x). Not a bound.

    Example:
        >>> q = Gaussian(torch.full((1, 3), 50.0), torch.zeros(1, 3))
        >>> hellinger_distance(q, standard(q.mu))  # the KL is 3750 nats
        tensor([3.])
    """
    total = q.sigma**2 + p.sigma**2
    overlap = torch.sqrt(2 * q.sigma * p.sigma / total)
    return (1 - overlap * torch.exp(-((q.mu - p.mu) ** 2) / (4 * total))).sum(-1)


def hellinger(q: Gaussian, noise: Latent) -> tuple[Latent, PerImage]:
    """z = μ + σ ε as usual; the Hellinger distance to N(0, I) for the KL."""
    return q.sample(noise), hellinger_distance(q, standard(q.mu))


def chi_square(q: Gaussian, noise: Latent) -> tuple[Latent, PerImage]:
    r"""The "minimum χ²" sampler: z = s (1 + m s), s ~ N(0, 1); Σ_d log(1 + m_d²).

    It is meant for f(z) = φ(z)(1 + m z), which is negative where m z < −1 and so is no
    density. The sample has the mean m that was asked for, but the variance 1 + 2m²,
    not 1 − m². The penalty is log(1 + χ²) of f, not a divergence of what is sampled.
    The author withdrew it; two figures that were once published come from it, and are
    no likelihoods. σ is ignored. Not a bound.

    Example:
        >>> q = Gaussian(torch.ones(1, 1), torch.zeros(1, 1))
        >>> chi_square(q, torch.ones(1, 1))
        (tensor([[2.]]), tensor([0.6931]))
    """
    return noise * (1 + noise * q.mu), torch.log1p(q.mu**2).sum(-1)


def uniform(q: Gaussian, noise: Latent) -> tuple[Latent, PerImage]:
    r"""A uniform prior, first way: z ~ U(μ ± √3 σ); Σ_d log(1 + 12 (μ_d − ½)²).

    The interval has mean μ and variance σ², and may well leave [0, 1], the support of
    the prior: a true KL would then be infinite. σ costs nothing. Not a bound.

    Example:
        >>> q = Gaussian(torch.full((1, 2), 0.5), torch.zeros(1, 2))
        >>> uniform(q, torch.zeros(1, 2))
        (tensor([[0.5000, 0.5000]]), tensor([0.]))
    """
    spread = 2 * torch.special.ndtr(noise) - 1  # U(−1, 1) out of N(0, 1)
    penalty = torch.log1p(12 * (q.mu - 0.5) ** 2).sum(-1)
    return q.mu + 3**0.5 * q.sigma * spread, penalty


def estimated(q: Gaussian, noise: Latent) -> tuple[Latent, PerImage]:
    r"""A uniform prior, second way: z = Φ((μ − mean) / sd), moments over the *batch*.

    Over a batch z is roughly uniform whatever μ says, so there is nothing to pay. But
    no noise is added: the "posterior" is a point, its true KL infinite. One image's z
    also depends on its neighbours, and a batch of one has no spread. Not a bound.

    Example:
        >>> q = Gaussian(torch.tensor([[-1.0], [1.0]]), torch.zeros(2, 1))
        >>> estimated(q, torch.zeros(2, 1))[1]
        tensor([0., 0.])
    """
    centred = q.mu - q.mu.mean(0)
    deviation = centred.square().mean(0).sqrt().clamp(min=1e-6)
    return torch.special.ndtr(centred / deviation), q.mu.new_zeros(len(q.mu))


Objective = Callable[[Gaussian, Latent], tuple[Latent, PerImage]]
OBJECTIVES: dict[str, Objective] = {
    "hellinger": hellinger,
    "chi-square": chi_square,
    "uniform": uniform,
    "estimated": estimated,
}


def surrogate(
    model: Recurrent, x: Images, noise: Noise, name: str
) -> tuple[PerImage, Float[Tensor, "batch T"]]:
    """Run a recurrent model with another sampler: (log p(x given z), penalties).

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> from drawlib.glas import GLAS, GLASConfig
        >>> model = GLAS(GLASConfig.preset("tiny"))
        >>> _, penalties = surrogate(
        ...     model, torch.zeros(2, 1, 28, 28), model.noise(2), "hellinger")
        >>> penalties.shape
        torch.Size([2, 4])
    """
    if name not in OBJECTIVES:
        raise ValueError(f"objective is {name!r}; allowed: {', '.join(OBJECTIVES)}")
    assert isinstance(noise, Tensor)
    state, fixed, penalties = model.start(len(x)), model.fixed(x), []
    for eps in noise.unbind(1):
        h_enc, c_enc = model.encode(state, x, fixed)
        z, penalty = OBJECTIVES[name](model.posterior(h_enc), eps)
        state = model.decode(state._replace(h_enc=h_enc, c_enc=c_enc), z)
        penalties.append(penalty)
    log_likelihood = model.likelihood(model.output(state.canvas), x)
    return log_likelihood, torch.stack(penalties, 1)


def objective(name: str) -> Callable[..., Tensor]:
    """A loss for ``fit``: the mean of penalties − log p(x given z). Not a bound.

    Raises:
        ValueError: for an unknown name, when it is called.

    Example:
        >>> from drawlib.glas import GLAS, GLASConfig
        >>> model = GLAS(GLASConfig.preset("tiny"))
        >>> objective("uniform")(model, torch.zeros(2, 1, 28, 28)).shape
        torch.Size([])
    """

    def loss(
        model: Recurrent,
        images: Images,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        noise = model.noise(len(images), generator)
        log_likelihood, penalties = surrogate(model, images, noise, name)
        return (penalties.sum(1) - log_likelihood).mean()

    return loss
