"""The parts of which the fast step is made; ``drawlib.fast`` says why.

Each is the fast form of something in ``lstm``, ``filterbank`` or autograd, and equal to
it: the loop and the tests are in ``drawlib.fast``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from drawlib.filterbank import grid

__all__ = [
    "Constant",
    "Deferred",
    "Layer",
    "Window",
    "affine",
    "lstm",
    "turned",
    "window",
]

AT_ONCE = 16  # steps whose weight gradients are one product


class Layer(NamedTuple):
    """y = W u + b; ``rows`` is b, or b and what x adds, one row an image."""

    weight: Tensor
    rows: Tensor


class Constant(NamedTuple):
    """A layer as the step sees it: ``weight`` for y, ``low`` for δ, and −b.

    The bias is subtracted, since of "product plus bias" the compiler makes one call,
    and that call copies the bias into the result first.
    """

    weight: Tensor
    low: Tensor
    minus: Tensor


# Weight gradients after the loop.


class Deferred(torch.autograd.Function):
    """One zero for each step, to be added to y_t, so that its gradient is δ_t.

    The step itself sees W and b as constants. When the last δ_t is there, W's gradient
    is the product of all δ_t with all u_t, which the loop has left in ``inputs``.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, rows: Tensor, inputs: list[Any], like: Tensor,
        size: tuple[int, int],
    ) -> tuple[Tensor, ...]:  # fmt: skip
        ctx.inputs, ctx.shared, ctx.dtype = inputs, len(rows) == 1, rows.dtype
        steps, images = size
        zero = like.new_zeros(())
        return tuple(zero.expand(images, len(weight)) for _ in range(steps))

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor) -> tuple[Tensor | None, ...]:
        d_weight: Any = 0
        d_rows: Any = 0
        for first in range(0, len(deltas), AT_ONCE):
            delta = torch.cat(deltas[first : first + AT_ONCE])
            u = torch.cat(ctx.inputs[first : first + AT_ONCE])
            d_weight = d_weight + (delta.mT @ u).to(ctx.dtype)
            if ctx.shared:
                ones = delta.new_ones(1, len(delta))
                d_rows = d_rows + (ones @ delta).to(ctx.dtype)
            else:
                each = delta.view(-1, *deltas[0].shape)
                d_rows = d_rows + each.sum(0).to(ctx.dtype)
        return d_weight, d_rows, None, None, None


class Tap(torch.autograd.Function):
    """y itself; its gradient δ goes to ``tap`` too, the step's part of ``Deferred``."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, tap: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, Tensor]:
        return delta, delta


class Turn(torch.autograd.Function):
    """The transpose, laid out anew in memory; and so is its gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return turned(rows)

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> Tensor:
        return turned(delta)


def turned(rows: Tensor) -> Tensor:
    """The transpose; of two parts, since only a ``cat`` is sure to be written out."""
    return torch.cat(rows.T.tensor_split(2))


class Wide(torch.autograd.Function):
    """W u in full precision, with the gradients in the lower one."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, weight: Tensor, low: Tensor, tap: Tensor
    ) -> Tensor:
        ctx.save_for_backward(low)
        return F.linear(u, weight)

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor | None, ...]:
        (low,) = ctx.saved_tensors
        rounded = delta.to(low.dtype)
        return (rounded @ low).to(delta.dtype), None, None, rounded


def affine(layer: Constant, u: Tensor, tap: Tensor | None) -> Tensor:
    """W u + b: the product in W's precision, the sum in b's."""
    if tap is None:
        y = F.linear(u, layer.weight)
    elif layer.weight.dtype == layer.low.dtype:
        y = Tap.apply(F.linear(u, layer.weight), tap)
    else:
        y = Wide.apply(u, layer.weight, layer.low, tap)
    return y.to(layer.minus.dtype) - layer.minus


class Gates(torch.autograd.Function):
    """``drawlib.lstm.lstm`` after its product: y (n, 4 hidden), b and c give h' and c'.

    The backward pass is written out for two reasons: σ(i), σ(f), tanh(g) and σ(o) are
    kept in the product's precision, not computed again; and the four parts of δ are
    rounded before they are joined, so that they are written once.
    """

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, minus: Tensor, c: Tensor, tap: Tensor
    ) -> tuple[Tensor, Tensor]:
        i, f, g, o = (y.to(minus.dtype) - minus).chunk(4, 1)
        i, f, o, g = i.sigmoid(), f.sigmoid(), o.sigmoid(), g.tanh()
        new = f * c + i * g
        ctx.save_for_backward(*(gate.to(y.dtype) for gate in (i, f, g, o)), c, new)
        return o * new.tanh(), new

    @staticmethod
    def backward(ctx: Any, d_h: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:
        *kept, c, new = ctx.saved_tensors
        i, f, g, o = (gate.to(c.dtype) for gate in kept)
        t = new.tanh()
        d_c = d_c + d_h * o * (1 - t * t)
        parts = (
            d_c * g * i * (1 - i),
            d_c * c * f * (1 - f),
            d_c * i * (1 - g * g),
            d_h * t * o * (1 - o),
        )
        delta = torch.cat([part.to(kept[0].dtype) for part in parts], 1)
        return delta, None, d_c * f, delta


def lstm(layer: Constant, u: Tensor, c: Tensor, tap: Tensor | None) -> Any:
    """One step of an LSTM whose weight gradient is left to ``Deferred``."""
    y = F.linear(u, layer.weight)
    return Gates.apply(y, layer.minus, c, y if tap is None else tap)


class Window(NamedTuple):
    """Filters with the batch as the last axis: F_x (N, width, n), F_y (N, height, n).

    Neighbours in memory are then the same pixel of different images, so a processor's
    vectors are always full, and no sum runs along one.
    """

    F_x: Tensor
    F_y: Tensor
    gamma: Tensor

    def read(self, images: Tensor) -> Tensor:
        """γ F_Y x F_Xᵀ of images (channels, height, width, n), eq. (27)."""
        rows = (self.F_y[:, None, :, None] * images).sum(2)  # (N, channels, width, n)
        patch = (rows[:, None] * self.F_x[:, None]).sum(3)  # (N, N, channels, n)
        return self.gamma * patch.permute(2, 0, 1, 3)

    def write(self, patches: Tensor) -> Tensor:
        """(1/γ) F_Yᵀ w F_X of patches (channels, N, N, n), eq. (29)."""
        w = (patches / self.gamma)[..., None, :]
        rows = (w * self.F_x).sum(2)  # (channels, N, width, n)
        return (self.F_y[:, :, None] * rows[:, :, None]).sum(1)


def window(
    raw: Tensor, size: tuple[int, int], N: int, kernel: str, legacy: bool = False
) -> Window:
    """``drawlib.filterbank.filterbank`` with exact rows, the batch last."""
    raw = Turn.apply(raw).T
    mu_x, mu_y = grid(raw, size, N, legacy)
    least = 1e-12 if kernel == "gaussian" else 1e-6
    precision = 1 / raw[:, 2].exp().clamp(min=least)
    # Contiguous, or every tensor made of it would keep the batch first in memory.
    F_x, F_y = (
        rows_of(mu.T.contiguous()[:, None], precision, length, kernel)
        for mu, length in ((mu_x, size[1]), (mu_y, size[0]))
    )
    return Window(F_x, F_y, raw[:, 4].exp())


def rows_of(mu: Tensor, precision: Tensor, length: int, kernel: str) -> Tensor:
    """Filter rows that sum to one: eqs. (25), (26), or their Cauchy form.

    The largest weight is that of the pixel nearest to μ. Divided by it, no row is 0/0,
    and no pass over the row is needed to find it.
    """
    a = torch.arange(length, dtype=mu.dtype, device=mu.device)[:, None]
    nearest = (mu.detach().round().clamp(0, length - 1) - mu.detach()) ** 2
    if kernel == "gaussian":
        f = torch.exp((nearest - (a - mu) ** 2) * (precision / 2))
    else:
        f = (1 + nearest * precision) / (1 + (a - mu) ** 2 * precision)
    return f / f.sum(1, keepdim=True)
