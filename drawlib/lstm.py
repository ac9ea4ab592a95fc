"""The long short-term memory of DRAW, GLAS and the classifier."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LSTM", "Fixed", "lstm"]

Hidden = Float[Tensor, "batch hidden"]


class Fixed(NamedTuple):
    """Weights of ``lstm``, and in ``bias`` what its input adds alike at each step."""

    weight: Float[Tensor, "gates inputs"]
    bias: Float[Tensor, "rows gates"]


def lstm(inputs: Tensor, h: Hidden, c: Hidden, fixed: Fixed) -> tuple[Hidden, Hidden]:
    r"""One step of a long short-term memory: all four gates in one product.

    (i, f, g, o) = W [inputs; h] + b,  c' = σ(f) c + σ(i) tanh(g),  h' = σ(o) tanh(c').
    No peepholes, no clipping (Hochreiter & Schmidhuber 1997, with Gers et al.'s forget
    gate). Under autocast the product alone is rounded: c' and h' keep b's precision.

    Example:
        >>> zero = torch.zeros(1, 2)
        >>> fixed = Fixed(torch.zeros(8, 5), torch.zeros(1, 8))
        >>> lstm(torch.ones(1, 3), zero, zero, fixed)[0]
        tensor([[0., 0.]])
    """
    gates = fixed.bias + F.linear(torch.cat([inputs, h], 1), fixed.weight)
    i, f, g, o = gates.chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


class LSTM(nn.Module):
    """The weights of ``lstm``: Glorot-uniform, with one bias vector.

    PyTorch's own cell has two bias vectors, of which one is redundant.

    Example:
        >>> cell = LSTM(25, 256)
        >>> sum(p.numel() for p in cell.parameters())
        288768
    """

    def __init__(self, inputs: int, hidden: int, forget_bias: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4 * hidden, inputs + hidden))
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        nn.init.xavier_uniform_(self.weight)
        nn.init.constant_(self.bias[hidden : 2 * hidden], forget_bias)

    def forward(self, inputs: Tensor, h: Hidden, c: Hidden) -> tuple[Hidden, Hidden]:
        return lstm(inputs, h, c, Fixed(self.weight, self.bias[None]))
