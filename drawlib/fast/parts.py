"""The parts of which the fast step is made; ``drawlib.fast.loop`` says why.

Each is the fast form of something in ``lstm``, ``filterbank`` or autograd, and equal to
it: the loop and the tests are in ``drawlib.fast.loop``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from drawlib.filters import grid

__all__ = [
    "Constant",
    "Deferred",
    "FromLanes",
    "Layer",
    "ToLanes",
    "Window",
    "affine",
    "from_lanes",
    "lanes",
    "lstm",
    "to_lanes",
    "window",
]

LANES = 16  # images side by side: float32 numbers in the longest vector of a processor
AT_ONCE = 16  # steps whose weight gradients are one product


class Layer(NamedTuple):
    """y = W u + b; ``rows`` is b, or b and what x adds, one row per image."""

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


class ToLanes(torch.autograd.Function):
    """``to_lanes``; the gradient goes the way back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return to_lanes(rows)

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> Tensor:
        return from_lanes(delta)


class FromLanes(torch.autograd.Function):
    """``from_lanes``; the gradient goes the way back."""

    @staticmethod
    def forward(ctx: Any, blocks: Tensor) -> Tensor:
        return from_lanes(blocks)

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> Tensor:
        return to_lanes(delta)


def lanes(n: int) -> int:
    """How many of n images lie side by side: a vector of 16, or all where n is odd.

    Example:
        >>> lanes(128), lanes(100)
        (16, 100)
    """
    return LANES if n % LANES == 0 else n


# Of two parts, since only a ``cat`` is sure to be written out.


def to_lanes(rows: Tensor) -> Tensor:
    """(n, k) as (blocks, k, lanes), in that order in memory."""
    blocks = rows.unflatten(0, (-1, lanes(len(rows))))
    return torch.cat(blocks.mT.tensor_split(2, 1), 1)


def from_lanes(blocks: Tensor) -> Tensor:
    """(blocks, k, lanes) as (n, k), in that order in memory."""
    return torch.cat(blocks.mT.tensor_split(2, 1), 1).flatten(0, 1)


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


def tanh(x: Tensor) -> Tensor:
    """tanh x = 2 σ(2x) − 1: compiled for a CPU, a third of the time of tanh itself.

    Example:
        >>> x = torch.linspace(-20, 20, 101)
        >>> torch.allclose(tanh(x), x.tanh(), rtol=0, atol=2e-7)
        True
    """
    return 2 * torch.sigmoid(2 * x) - 1


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
        i, f, o, g = i.sigmoid(), f.sigmoid(), o.sigmoid(), tanh(g)
        new = f * c + i * g
        ctx.save_for_backward(*(gate.to(y.dtype) for gate in (i, f, g, o)), c, new)
        return o * tanh(new), new

    @staticmethod
    def backward(ctx: Any, d_h: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:
        *kept, c, new = ctx.saved_tensors
        i, f, g, o = (gate.to(c.dtype) for gate in kept)
        t = tanh(new)
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
    """Filters of 16 images side by side: f_x (blocks, N, width, lanes), f_y likewise.

    Neighbours in memory are the same pixel of different images, so a processor's
    vectors are always full and no sum runs along one; and all pixels of a block lie
    close together. Rows are not divided by their sums Z: the N × N patch is, by
    Z_Y Z_X, after reading and before writing. It is smaller than the image.
    """

    f_x: Tensor
    f_y: Tensor
    share: Tensor  # 1 / (Z_Y Z_X), (blocks, N, N, lanes)
    gamma: Tensor

    def read(self, images: Tensor) -> Tensor:
        """γ F_Y x F_Xᵀ of images (blocks, channels, height, width, lanes), eq. (27)."""
        rows = (self.f_y[:, :, None, :, None] * images[:, None]).sum(3)
        patch = (rows[:, :, None] * self.f_x[:, None, :, None]).sum(4)
        scale = self.gamma[:, None, None] * self.share
        return patch.permute(0, 3, 1, 2, 4) * scale[:, None]

    def write(self, patches: Tensor) -> Tensor:
        """(1/γ) F_Yᵀ w F_X of patches (blocks, channels, N, N, lanes), eq. (29)."""
        scale = self.share / self.gamma[:, None, None]
        w = (patches * scale[:, None])[..., None, :]
        rows = (w * self.f_x[:, None, None]).sum(3)  # (blocks, channels, N, width, ·)
        return (self.f_y[:, None, :, :, None] * rows[:, :, :, None]).sum(2)


def window(
    raw: Tensor, size: tuple[int, int], N: int, kernel: str, legacy: bool = False
) -> Window:
    """``drawlib.filters.filterbank`` with exact rows, images side by side."""
    raw = ToLanes.apply(raw)
    places = grid(raw.mT.flatten(0, 1), size, N, legacy)
    mu_x, mu_y = (
        mu.unflatten(0, (-1, raw.shape[2])).mT.contiguous()[:, :, None] for mu in places
    )
    least = 1e-12 if kernel == "gaussian" else 1e-6
    precision = 1 / raw[:, 2].exp().clamp(min=least)[:, None, None]
    f_x = rows_of(mu_x, precision, size[1], kernel)
    f_y = rows_of(mu_y, precision, size[0], kernel)
    share = 1 / (f_y.sum(2)[:, :, None] * f_x.sum(2)[:, None])
    return Window(f_x, f_y, share, raw[:, 4].exp())


def rows_of(mu: Tensor, precision: Tensor, length: int, kernel: str) -> Tensor:
    """Filter rows up to their sums Z: eqs. (25), (26), or their Cauchy form.

    The largest weight is that of the pixel m nearest to μ. Divided by it, no row is
    0/0, and no pass over the row is needed to find it.
    """
    a = torch.arange(length, dtype=mu.dtype, device=mu.device)[:, None]
    m = mu.detach().round().clamp(0, length - 1)
    if kernel == "gaussian":
        # (m − μ)² − (a − μ)², as a product: of two squares a GPU may round only one,
        # and what is left at a = m would overflow where σ² is small and μ far away.
        # The gradient is another by a factor of the whole row, which Z divides out.
        return torch.exp((m - a) * (m + a - 2 * mu) * (precision / 2))
    nearest = (m - mu.detach()) ** 2
    return (1 + nearest * precision) / (1 + (a - mu) ** 2 * precision)
