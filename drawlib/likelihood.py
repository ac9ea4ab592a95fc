"""What turns a canvas into p(x given z): Bernoulli bits, or 8-bit colour.

Both read the same canvas c (batch, channels, height, width) and both have the mean
sigmoid(c); so a recurrent model's error image x − mean(c) needs to know neither.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Bernoulli", "DiscretisedLogistic", "likelihood", "bits_per_dimension"]

Canvas = Float[Tensor, "batch channels height width"]


class Bernoulli(nn.Module):
    r"""Independent bits with logits c.

    log p(x given c) = Σ_pixels [ x c − softplus(c) ], in nats, one number an image.
    From the logits directly: a sigmoid followed by a logarithm loses the tails.
    x must be 0 or 1: on grey values the same formula is no likelihood (chapter 1).

    Example:
        >>> c = torch.zeros(1, 1, 28, 28)
        >>> Bernoulli()(c, torch.ones_like(c))  # −784 log 2
        tensor([-543.4275])
    """

    def mean(self, c: Canvas) -> Canvas:
        """E[x given c] = sigmoid(c)."""
        return torch.sigmoid(c)

    def sample(self, c: Canvas, generator: torch.Generator | None = None) -> Canvas:
        """Bits x ~ p(x given c)."""
        return torch.bernoulli(self.mean(c), generator=generator)

    def forward(self, c: Canvas, x: Canvas) -> Float[Tensor, "batch"]:
        c = c.to(x.dtype)  # bfloat16 under autocast, too coarse for a sum over pixels
        return (x * c - F.softplus(c)).flatten(1).sum(1)


class DiscretisedLogistic(nn.Module):
    r"""8-bit intensities: a logistic density integrated over each of 256 bins.

    With m = sigmoid(c), s_k the scale of channel k (learned) and x in {0, 1/255, … 1},
    p(x) = Λ((x + ½Δ − m)/s) − Λ((x − ½Δ − m)/s), Δ = 1/255, Λ = sigmoid, and the
    outermost bins take the tails, so that the 256 masses sum to exactly one
    (Kingma et al. 2016, sec. 5.2; Salimans et al. 2017, eq. 2). In nats.

    Example:
        >>> p = DiscretisedLogistic(1)
        >>> levels = (torch.arange(256) / 255).view(256, 1, 1, 1)
        >>> p(torch.full_like(levels, 0.3), levels).exp().sum()
        tensor(1.0000, grad_fn=<SumBackward0>)
    """

    def __init__(self, channels: int, scale: float = 0.1) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((channels, 1, 1), math.log(scale)))

    def mean(self, c: Canvas) -> Canvas:
        """The location sigmoid(c); the mean but for the two tails."""
        return torch.sigmoid(c)

    def sample(self, c: Canvas, generator: torch.Generator | None = None) -> Canvas:
        """Levels x ~ p(x given c): a logistic draw, in the bin where it falls."""
        u = torch.rand(c.shape, generator=generator, dtype=c.dtype, device=c.device)
        drawn = self.mean(c) + self.log_scale.exp() * torch.logit(u)
        return (255 * drawn).round().clamp(0, 255) / 255

    def forward(self, c: Canvas, x: Canvas) -> Float[Tensor, "batch"]:
        c = c.to(x.dtype)  # as above
        inverse = (-self.log_scale).exp()
        above = (x + 0.5 / 255 - self.mean(c)) * inverse
        below = (x - 0.5 / 255 - self.mean(c)) * inverse
        # log(Λ(a) − Λ(b)) = log Λ(a) + log Λ(−b) + log(1 − e^{b−a}), for a > b: exact
        # in both tails, where the plain difference of two sigmoids is 0.
        step = (1 / 255) * inverse
        middle = (
            F.logsigmoid(above) + F.logsigmoid(-below) + (-torch.expm1(-step)).log()
        )
        low, high = x < 0.5 / 255, x > 1 - 0.5 / 255
        outer = torch.where(low, F.logsigmoid(above), F.logsigmoid(-below))
        return torch.where(low | high, outer, middle).flatten(1).sum(1)


Likelihood = Bernoulli | DiscretisedLogistic


def likelihood(name: str, channels: int) -> Likelihood:
    """The likelihood called ``name``: ``bernoulli`` or ``discretised-logistic``.

    Raises:
        ValueError: for another name.

    Example:
        >>> likelihood("bernoulli", 1)
        Bernoulli()
    """
    if name == "bernoulli":
        return Bernoulli()
    if name == "discretised-logistic":
        return DiscretisedLogistic(channels)
    raise ValueError(
        f"likelihood is {name!r}; allowed: bernoulli, discretised-logistic"
    )


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """Convert nats an image into bits for each pixel and channel.

    Example:
        >>> round(bits_per_dimension(784 * math.log(2), 784), 6)
        1.0
    """
    return nats / (dimensions * math.log(2))
