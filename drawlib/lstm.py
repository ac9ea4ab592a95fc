"""The long short-term memory of DRAW, GLAS and the classifier, and that of maps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LSTM", "Fixed", "gates", "lstm", "product"]

# A vector for each image; in a convolutional memory a map of such vectors.
Hidden = Float[Tensor, "batch hidden *place"]


class Fixed(NamedTuple):
    """Weights of ``lstm``, and in ``bias`` what its input adds alike at each step."""

    weight: Float[Tensor, "gates inputs *kernel"]
    bias: Float[Tensor, "rows gates *place"]


def product(
    inputs: Float[Tensor, "batch inputs *place"],
    weight: Float[Tensor, "outputs inputs *kernel"],
) -> Float[Tensor, "batch outputs *place"]:
    """W times the inputs; where W is a kernel a convolution, with zeros at the edges.

    Example:
        >>> product(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 3, 3))[0, 0]
        tensor([[4., 6., 4.],
                [4., 6., 4.]])
    """
    if weight.ndim == 2:
        return F.linear(inputs, weight)
    return F.conv2d(inputs, weight, padding="same")


def lstm(inputs: Tensor, h: Hidden, c: Hidden, fixed: Fixed) -> tuple[Hidden, Hidden]:
    r"""One step of a long short-term memory: all four gates in one product.

    (i, f, g, o) = W [inputs; h] + b,  c' = σ(f) c + σ(i) tanh(g),  h' = σ(o) tanh(c').
    No peepholes, no clipping (Hochreiter & Schmidhuber 1997, with Gers et al.'s forget
    gate). Under autocast the product alone is rounded: c' and h' keep b's precision.
    Where W is a kernel, inputs, h and c are maps of one size (Shi et al. 2015).

    Example:
        >>> zero = torch.zeros(1, 2)
        >>> fixed = Fixed(torch.zeros(8, 5), torch.zeros(1, 8))
        >>> lstm(torch.ones(1, 3), zero, zero, fixed)[0]
        tensor([[0., 0.]])
    """
    return gates(fixed.bias + product(torch.cat([inputs, h], 1), fixed.weight), c)


def gates(y: Tensor, c: Hidden) -> tuple[Hidden, Hidden]:
    """What ``lstm`` makes of its product y = (i, f, g, o) and of c.

    Example:
        >>> gates(torch.zeros(1, 8), torch.ones(1, 2))[1]
        tensor([[0.5000, 0.5000]])
    """
    i, f, g, o = y.chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


class LSTM(nn.Module):
    """The weights of ``lstm``: Glorot-uniform, with one bias vector.

    PyTorch's own cell has two bias vectors, of which one is redundant. ``kernel``: the
    side of a convolution's kernel (odd); 0 for a memory of vectors.

    Example:
        >>> cell = LSTM(25, 256)
        >>> sum(p.numel() for p in cell.parameters())
        288768
    """

    def __init__(
        self, inputs: int, hidden: int, forget_bias: float = 1.0, kernel: int = 0
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if kernel else ()
        self.weight = nn.Parameter(torch.empty(4 * hidden, inputs + hidden, *sides))
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        nn.init.xavier_uniform_(self.weight)
        nn.init.constant_(self.bias[hidden : 2 * hidden], forget_bias)

    def fixed(self) -> Fixed:
        """The weights as ``lstm`` takes them."""
        place = [1] * (self.weight.ndim - 2)
        return Fixed(self.weight, self.bias.view(1, -1, *place))

    def forward(self, inputs: Tensor, h: Hidden, c: Hidden) -> tuple[Hidden, Hidden]:
        return lstm(inputs, h, c, self.fixed())
