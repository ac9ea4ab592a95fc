"""What turns a canvas into p(x given z): Bernoulli bits, 8-bit colour, or letters.

All read the same canvas c (batch, channels, height, width) and all have a mean, the
sigmoid or the softmax of c; so a recurrent model's error image x − mean(c) needs to
know none of them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiscretisedLogistic",
    "bits_per_dimension",
    "likelihood",
    "with_bits",
]

LIKELIHOODS = ("bernoulli", "discretised-logistic", "categorical")

Canvas = Float[Tensor, "batch channels height width"]


class Bernoulli(nn.Module):
    r"""Independent bits with logits c.

    log p(x given c) = Σ_pixels [ x c − softplus(c) ], in nats, one number per image.
    From the logits directly: a sigmoid followed by a logarithm loses the tails.
    x must be 0 or 1: on grey values the same formula is no likelihood (chapter 1).

    Example:
        >>> c = torch.zeros(1, 1, 28, 28)
        >>> Bernoulli()(c, torch.ones_like(c))  # −784 log 2
        tensor([-543.4275])
    """

    support = "0 and 1"

    def holds(self, x: Canvas) -> bool:
        """Whether x can be drawn at all."""
        return bool(((x == 0) | (x == 1)).all())

    def mean(self, c: Canvas) -> Canvas:
        """E[x given c] = sigmoid(c)."""
        return torch.sigmoid(c)

    def canvas_of(self, mean: Tensor) -> Tensor:
        """The canvas of a mean image, of one image or many; kept from the ends."""
        return torch.logit(mean, eps=1e-2)

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

    support = "k/255 with a whole k"

    def __init__(self, channels: int, scale: float = 0.1) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((channels, 1, 1), math.log(scale)))

    def holds(self, x: Canvas) -> bool:
        """As above."""
        return bool(((255 * x).round() - 255 * x).abs().max() < 1e-3)

    def mean(self, c: Canvas) -> Canvas:
        """The location sigmoid(c); the mean but for the two tails."""
        return torch.sigmoid(c)

    def canvas_of(self, mean: Tensor) -> Tensor:
        """The canvas of a mean image, as above."""
        return torch.logit(mean, eps=1e-2)

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


class Categorical(nn.Module):
    r"""One of C symbols at each place: the channels of a place are their logits.

    log p(x given c) = Σ_places Σ_k x_k log softmax(c)_k, in nats, one number per image;
    x has a single 1 among the channels of each place. The mean is softmax(c).

    Example:
        >>> word = torch.zeros(1, 27, 1, 13)
        >>> word[:, 26] = 1
        >>> Categorical()(torch.zeros_like(word), word)  # −13 log 27
        tensor([-42.8459])
    """

    support = "one channel that is 1 at each place, the others 0"

    def holds(self, x: Canvas) -> bool:
        """As above."""
        return bool(((x == 0) | (x == 1)).all() and (x.sum(1) == 1).all())

    def mean(self, c: Canvas) -> Canvas:
        """E[x given c] = softmax(c) over the channels."""
        return torch.softmax(c, 1)

    def canvas_of(self, mean: Tensor) -> Tensor:
        """The canvas of a mean image, up to a constant; kept from log 0."""
        return mean.clamp(min=1e-4).log()

    def sample(self, c: Canvas, generator: torch.Generator | None = None) -> Canvas:
        """One symbol at each place, x ~ p(x given c): a Gumbel draw's largest."""
        u = torch.rand(c.shape, generator=generator, dtype=c.dtype, device=c.device)
        drawn = (c - (-u.clamp(min=1e-30).log()).log()).argmax(1)
        return F.one_hot(drawn, c.shape[1]).movedim(-1, 1).to(c.dtype)

    def forward(self, c: Canvas, x: Canvas) -> Float[Tensor, "batch"]:
        c = c.to(x.dtype)  # as above
        return (x * torch.log_softmax(c, 1)).flatten(1).sum(1)


Likelihood = Bernoulli | DiscretisedLogistic | Categorical


def likelihood(name: str, channels: int) -> Likelihood:
    """The likelihood called ``name``, one of ``LIKELIHOODS``.

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
    if name == "categorical":
        return Categorical()
    raise ValueError(f"likelihood is {name!r}; allowed: {', '.join(LIKELIHOODS)}")


def check_support(of: Any, x: Canvas) -> None:
    """Refuse images of which a likelihood of the course knows no probability.

    Raises:
        ValueError: with what is allowed.

    Example:
        >>> check_support(Bernoulli(), torch.full((1, 1, 2, 2), 0.5))
        Traceback (most recent call last):
        ValueError: images hold other values than Bernoulli has; allowed: 0 and 1
    """
    if isinstance(of, Likelihood) and not of.holds(x):
        raise ValueError(
            f"images hold other values than {type(of).__name__} has; allowed: "
            f"{of.support}"
        )


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """Convert nats per image into bits for each pixel and channel.

    Example:
        >>> round(bits_per_dimension(784 * math.log(2), 784), 6)
        1.0
    """
    return nats / (dimensions * math.log(2))


def with_bits(text: str, nats: float, dimensions: int | None) -> str:
    """``text``, which tells a number of nats, with its bits per dimension beside it.

    ``dimensions`` counts the 8-bit values of an image; None, where the images are bits
    and there is nothing to add.

    Example:
        >>> with_bits("−ELBO 8517.35 nats", 8517.35, 3072)
        '−ELBO 8517.35 nats (4.000 bits per dimension)'
        >>> with_bits("−ELBO 80.97 nats", 80.97, None)
        '−ELBO 80.97 nats'
    """
    if dimensions is None:
        return text
    return f"{text} ({bits_per_dimension(nats, dimensions):.3f} bits per dimension)"
