"""Annealed importance sampling in plain PyTorch: the yardstick of `drawlib.annealing`.

Paths from N(ε) to N(ε) w(ε), as in Neal (2001), led by Hamiltonian Monte Carlo. All
that is random is drawn before, so that two programs walk the same paths. The gradient
at the end of a step begins the next, as in the library: one a leapfrog step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from drawlib.machine.settings import default_dtype
from drawlib.recurrent import Recurrent

__all__ = ["Draws", "draws", "plain_ais"]


class Draws(NamedTuple):
    """What chance decides: where chains start, their momenta, and the tests' u."""

    noise: Float[Tensor, "chains T z"]
    momenta: Float[Tensor, "steps chains T z"]
    uniforms: Float[Tensor, "steps chains"]

    def of(self, chains: slice) -> Draws:
        """Those of some of the chains."""
        return Draws(
            self.noise[chains], self.momenta[:, chains], self.uniforms[:, chains]
        )


def draws(model: Recurrent, chains: int, steps: int, seed: int = 0) -> Draws:
    """The numbers that ``ais`` draws for chains that are one block, in its order.

    Example:
        >>> from drawlib.draw import DRAW, DRAWConfig
        >>> drawn = draws(DRAW(DRAWConfig.preset("tiny")), chains=3, steps=5)
        >>> drawn.uniforms.shape, drawn.of(slice(1, 2)).uniforms.shape
        (torch.Size([5, 3]), torch.Size([5, 1]))
    """
    generator = torch.Generator().manual_seed(seed)
    block = int(torch.randint(2**62, (1,), generator=generator))
    generator.manual_seed(block)
    with default_dtype(next(model.parameters()).dtype):
        noise, momenta, uniforms = model.noise(chains, generator), [], []
        for _ in range(steps):
            p = torch.randn(noise.flatten(1).shape, generator=generator)
            momenta.append(p.view_as(noise))
            uniforms.append(torch.rand(chains, generator=generator))
    return Draws(noise, torch.stack(momenta), torch.stack(uniforms))


def plain_ais(
    log_weight: Callable[[Tensor], Tensor],
    drawn: Draws,
    betas: Tensor,
    sizes: Tensor,
    leapfrog: int,
) -> Float[Tensor, "chains"]:
    """log ŵ of each chain: Σ_t (β_t − β_{t−1}) log w(ε_{t−1}).

    Between β_t and β_{t+1} stands one step of size ``sizes[t − 1]``.

    Example:
        >>> drawn = Draws(torch.ones(2, 1, 1), torch.ones(1, 2, 1, 1), torch.ones(1, 2))
        >>> betas, sizes = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.1])
        >>> plain_ais(lambda noise: 0 * noise.sum((1, 2)) - 3, drawn, betas, sizes, 2)
        tensor([-3., -3.])
    """

    def at(noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        noise = noise.detach().requires_grad_()
        log_w = log_weight(noise)
        (slope,) = torch.autograd.grad(log_w.sum(), noise)
        return noise.detach(), log_w.detach(), slope

    def energy(noise: Tensor, log_w: Tensor, momentum: Tensor) -> Tensor:
        return 0.5 * (noise**2 + momentum**2).sum((1, 2)) - beta * log_w

    noise, log_w, slope = at(drawn.noise)
    total = betas[1] * log_w
    for t, momentum in enumerate(drawn.momenta):
        beta, step = betas[t + 1].item(), sizes[t].item()
        before = energy(noise, log_w, momentum)
        new, new_log_w, new_slope = noise, log_w, slope
        for _ in range(leapfrog):
            momentum = momentum - 0.5 * step * (new - beta * new_slope)
            new, new_log_w, new_slope = at(new + step * momentum)
            momentum = momentum - 0.5 * step * (new - beta * new_slope)
        rise = energy(new, new_log_w, momentum) - before
        taken = drawn.uniforms[t] < torch.exp(-rise)
        noise = torch.where(taken[:, None, None], new, noise)
        log_w = torch.where(taken, new_log_w, log_w)
        slope = torch.where(taken[:, None, None], new_slope, slope)
        total = total + (betas[t + 2] - betas[t + 1]) * log_w
    return total
