"""A tiny data set and a tiny model, for tests that train, evaluate or are killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drawlib.bound import Bound
from drawlib.data.protocols import Protocol
from drawlib.data.sets import Data, Split
from drawlib.training.schedule import TrainConfig
from drawlib.vae import VAE, VAEConfig

TOY = VAEConfig(image_shape=(1, 6, 6), encoder=(8,), decoder=(8,), z=2)


def toy_data(
    n: int = 64, side: int = 6, seed: int = 0, test_seed: int = 7, other: int = 20
) -> Data:
    """n grey training images of two classes, binarised anew at each visit."""

    def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % 2
        ramp = torch.linspace(0, 255, side * side).view(1, 1, side, side)
        images = torch.where(labels.view(-1, 1, 1, 1) == 0, ramp, 255 - ramp)
        noise = torch.randint(-40, 40, images.shape, generator=source)
        return (images + noise).clamp(0, 255).to(torch.uint8), labels

    def bits(count: int, seed: int) -> Split:
        images, labels = draw(count, seed)
        return Split((images > 127).to(torch.uint8), labels)

    images, labels = draw(n, seed)
    return Data(
        "mnist-dynamic",
        Protocol("toy", "Ramps.", (1, side, side), binarisation="dynamic"),
        Split(images, labels, visit="sample"),
        bits(other, 3),
        bits(other, test_seed),
        sha256={"content": f"toy {n} {side} {seed}"},
        origin="nowhere",
    )


def toy_model(seed: int = 0, kind: type[VAE] = VAE) -> VAE:
    """The tiny VAE, with weights that depend on the seed alone."""
    torch.manual_seed(seed)
    return kind(TOY)


def toy_config(**changes: Any) -> TrainConfig:
    """Four steps an epoch on ``toy_data``, three epochs."""
    return TrainConfig(
        **{"epochs": 3, "batch_size": 16, "lr": 1e-2, "device": "cpu", **changes}
    )


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def assert_same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """The same tensors, bit for bit."""
    assert set(a) == set(b)
    for name in a:
        assert torch.equal(a[name], b[name]), f"{name} differs"


def use_toy_data(patch: Any, **sizes: Any) -> None:
    """Let ``load_data`` give the toy data: ``patch(target, attribute, value)``."""
    import drawlib.__main__
    import drawlib.results.runs

    def load(name: str, root: Path | None = None, labels: bool = False) -> Data:
        return toy_data(**sizes)

    patch(drawlib.results.runs, "load_data", load)
    patch(drawlib.__main__, "load_data", load)


class Planted(VAE):
    """A VAE that does something at chosen steps of its training.

    ``plant[step]`` is called with the bound of that step, or with None before it where
    it is in ``before``, and returns the bound to use.
    """

    def __init__(self, config: VAEConfig | None = None) -> None:
        super().__init__(config)
        self.plant: dict[int, Any] = {}
        self.step = 0

    def bound(self, x: Tensor, noise: Tensor) -> Bound:
        bound = super().bound(x, noise)
        if self.training:
            step, self.step = self.step, self.step + 1
            if step in self.plant:
                bound = self.plant[step](bound) or bound
        return bound


def nan_loss(bound: Bound) -> Bound:
    """A bound whose likelihood is NaN."""
    return Bound(bound.log_likelihood * float("nan"), bound.kl, bound.log_weight)


class NanGradient(torch.autograd.Function):
    """The identity, with a gradient that is NaN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * float("nan")


def nan_gradient(bound: Bound) -> Bound:
    """The same bound, with a NaN in its gradient only."""
    return Bound(NanGradient.apply(bound.log_likelihood), bound.kl, bound.log_weight)
