"""Diagonal Gaussians: densities, divergences, products, and the head that emits them.

All values are in nats. The last axis holds the D latent dimensions and is summed;
every other axis is kept.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Gaussian", "GaussianHead", "merge", "standard"]

LOG_2PI = math.log(2 * math.pi)


class Gaussian(NamedTuple):
    r"""A diagonal Gaussian N(μ, diag σ²), held as its mean and its log σ.

    log σ, not log σ², is the parameter that the DRAW paper's latent head emits
    (Gregor et al. 2015, eqs. 1 and 2).

    Example:
        >>> q = Gaussian(torch.zeros(2, 3), torch.zeros(2, 3))
        >>> q.kl()
        tensor([0., 0.])
        >>> q.log_prob(torch.zeros(2, 3))
        tensor([-2.7568, -2.7568])
    """

    mu: Float[Tensor, "*batch d"]
    log_sigma: Float[Tensor, "*batch d"]

    @property
    def sigma(self) -> Float[Tensor, "*batch d"]:
        """The standard deviation σ = exp(log σ)."""
        return self.log_sigma.exp()

    def to(self, dtype: torch.dtype) -> Gaussian:
        """The same in another precision.

        Under autocast a head gives bfloat16, which has 8 bits. The draw, densities and
        KL divergences are sums over many latents, and lose nats in it.

        Example:
            >>> Gaussian(torch.zeros(1), torch.zeros(1)).to(torch.float64).kl().dtype
            torch.float64
        """
        return Gaussian(self.mu.to(dtype), self.log_sigma.to(dtype))

    def sample(self, noise: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        r"""The reparametrised draw z = μ + σ ⊙ ε (Kingma & Welling 2014, sec. 2.4).

        ``noise`` is ε ~ N(0, I). Then ∂z/∂μ = 1 and ∂z/∂σ = ε.
        """
        return self.mu + self.sigma * noise

    def noise_of(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        r"""The ε that ``sample`` takes to z: (z − μ)/σ."""
        return (z - self.mu) * (-self.log_sigma).exp()

    def log_prob(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        r"""log N(z; μ, σ²) = −½ Σ_d [((z−μ)/σ)² + 2 log σ + log 2π], in nats."""
        whitened = self.noise_of(z)
        return -0.5 * (whitened**2 + 2 * self.log_sigma + LOG_2PI).sum(-1)

    def kl(self, other: Gaussian | None = None) -> Float[Tensor, "*batch"]:
        r"""KL(self ‖ other) in nats; against N(0, I) where ``other`` is left out.

        KL(q‖p) = Σ_d [ log σ_p − log σ_q + (σ_q² + (μ_q−μ_p)²) / (2σ_p²) − ½ ].

        The constant is ½ for each *dimension*: over T steps of D latents it is T·D/2,
        where eq. 11 of the DRAW paper prints T/2.
        """
        if other is None:
            # ½ Σ (μ² + σ² − log σ² − 1)
            terms = self.mu**2 + (2 * self.log_sigma).exp() - 2 * self.log_sigma - 1
            return 0.5 * terms.sum(-1)
        gap = 2 * (self.log_sigma - other.log_sigma)
        distance = (self.mu - other.mu) * (-other.log_sigma).exp()
        return 0.5 * (gap.exp() - gap - 1 + distance**2).sum(-1)


def standard(like: Float[Tensor, "*batch d"]) -> Gaussian:
    """The prior N(0, I), in the shape, type and device of ``like``.

    Example:
        >>> standard(torch.ones(2, 3)).sigma[0]
        tensor([1., 1., 1.])
    """
    return Gaussian(torch.zeros_like(like), torch.zeros_like(like))


def merge(q_hat: Gaussian, p: Gaussian) -> Gaussian:
    r"""The product of two Gaussians, normalised: the Ladder VAE's posterior.

    σ_q² = 1 / (σ̂^{−2} + σ_p^{−2}),  μ_q = σ_q² (μ̂ σ̂^{−2} + μ_p σ_p^{−2})
    (Sønderby et al. 2016, eqs. 17 to 19, numbers from memory).

    Computed from the log precisions, so that neither variance is ever divided by:
    with w = sigmoid(2 log σ_p − 2 log σ̂), the share of the bottom-up precision,
    μ_q = w μ̂ + (1 − w) μ_p and log σ_q = log σ̂ + ½ log w.

    Example:
        >>> one = Gaussian(torch.tensor([1.0]), torch.tensor([0.0]))
        >>> q = merge(one, one)
        >>> q.mu, q.sigma**2
        (tensor([1.]), tensor([0.5000]))
    """
    gap = 2 * (p.log_sigma - q_hat.log_sigma)
    share = torch.sigmoid(gap)
    mu = share * q_hat.mu + (1 - share) * p.mu
    return Gaussian(mu, q_hat.log_sigma + 0.5 * F.logsigmoid(gap))


class GaussianHead(nn.Module):
    r"""One affine map from features to (μ, log σ).

    ``variance="exp"``: log σ = W h + b, so that σ takes every positive value.
    ``variance="softplus"``: σ² = softplus(W h + b) + floor, as in the Ladder VAE
    (Sønderby et al. 2016, eq. 11): softplus acts on the *variance*. Public code that
    takes it as the log-variance forces σ ≥ 1 and cannot encode anything precisely.

    Example:
        >>> head = GaussianHead(8, 3)
        >>> head(torch.zeros(2, 8)).mu.shape
        torch.Size([2, 3])
    """

    def __init__(
        self, features: int, z: int, variance: str = "exp", floor: float = 1e-6
    ) -> None:
        super().__init__()
        if variance not in ("exp", "softplus"):
            raise ValueError(f"variance is {variance!r}; allowed: exp, softplus")
        self.linear = nn.Linear(features, 2 * z)
        self.variance, self.floor = variance, floor

    def forward(self, h: Float[Tensor, "*batch features"]) -> Gaussian:
        mu, raw = self.linear(h).chunk(2, dim=-1)
        if self.variance == "exp":
            return Gaussian(mu, raw)
        return Gaussian(mu, 0.5 * (F.softplus(raw) + self.floor).log())
