"""Affine maps, convolutions and activations that the models share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

__all__ = ["ACTIVATIONS", "convolution", "linear", "mlp"]

# The leaky rectifier of the Ladder VAE paper has slope 0.1; PyTorch's default is 0.01.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "leaky-relu": partial(nn.LeakyReLU, 0.1),
    "silu": nn.SiLU,
}


def mlp(sizes: tuple[int, ...], activation: str) -> nn.Sequential:
    """Linear layers of the given sizes, each followed by the activation.

    Weights are Glorot-uniform and biases zero, as in all sources of the course.
    ``gated`` is (W h + b) ⊙ σ(V h + c), which doubles the weights of a layer.

    Example:
        >>> len(mlp((784, 512, 64), "relu"))
        4
    """
    layers: list[nn.Module] = []
    for a, b in zip(sizes[:-1], sizes[1:], strict=True):
        if activation == "gated":
            layers += [linear(a, 2 * b), nn.GLU()]
        else:
            layers += [linear(a, b), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


def linear(a: int, b: int) -> nn.Linear:
    """An affine map with Glorot-uniform weights and zero bias.

    Example:
        >>> linear(3, 2).bias.sum()
        tensor(0., grad_fn=<SumBackward0>)
    """
    layer = nn.Linear(a, b)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def convolution(a: int, b: int, kernel: int) -> nn.Conv2d:
    """A convolution of maps that keeps their size, Glorot-uniform with zero bias.

    Example:
        >>> import torch
        >>> convolution(3, 2, 5)(torch.zeros(1, 3, 7, 6)).shape
        torch.Size([1, 2, 7, 6])
    """
    layer = nn.Conv2d(a, b, kernel, padding="same")
    nn.init.xavier_uniform_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
