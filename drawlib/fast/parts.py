"""Affine maps whose weight gradients are made after the loop, for ``fast.step``."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["AT_ONCE", "Constant", "Deferred", "Layer", "affine"]

AT_ONCE = 16  # steps whose weight gradients are one product


class Layer(NamedTuple):
    """y = W u + b; ``rows`` is b, or b and what x adds, one row per image."""

    weight: Tensor
    rows: Tensor


class Constant(NamedTuple):
    """A layer as the step sees it, without gradients: W for y, rounded for δ, and b."""

    weight: Tensor
    low: Tensor
    rows: Tensor


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
    return y.to(layer.rows.dtype) + layer.rows
