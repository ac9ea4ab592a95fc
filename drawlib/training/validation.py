"""What is measured on the validation images, after an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from drawlib.data.sets import Data, stratified_subset
from drawlib.evaluation import evaluate
from drawlib.likelihood import bits_per_dimension
from drawlib.machine.distributed import ALONE, Team
from drawlib.training.schedule import TrainConfig

__all__ = ["Loss", "mean_loss", "validate"]

Loss = Callable[[nn.Module, Tensor, Tensor | None, torch.Generator], Tensor]


def validate(
    model: Any, data: Data, config: TrainConfig, loss: Loss | None, team: Team = ALONE
) -> dict[str, float]:
    """Bounds on the validation split, from fixed noise.

    The processes share the images out; a ``loss`` of one's own is computed by the
    first of them, since nobody knows which numbers it draws. Images of 8 bits per value
    have ``valid_bits`` too, bits per dimension.

    Example:
        >>> from drawlib import VAE, VAEConfig
        >>> data = Data.from_arrays(torch.zeros(40, 28, 28, dtype=torch.bool))
        >>> model = VAE(VAEConfig.preset("tiny"))
        >>> sorted(validate(model, data, TrainConfig(), None))
        ['valid', 'valid_kl', 'valid_reconstruction', 'valid_se']
    """
    whole = len(data.valid)
    count = min(config.valid_images or whole, whole)
    if loss is not None:
        return team.from_first(lambda: mean_loss(model, data, count, config, loss))
    found = evaluate(
        model,
        data,
        "valid",
        samples=1,
        images=None if count == whole else count,
        seed=config.seed,
        team=team,
    )
    row = {
        "valid": found.neg_elbo,
        "valid_se": found.neg_elbo_se,
        "valid_kl": found.kl,
        "valid_reconstruction": found.reconstruction,
    }
    if found.dimensions is not None:
        row["valid_bits"] = bits_per_dimension(found.neg_elbo, found.dimensions)
    return row


@torch.no_grad()
def mean_loss(
    model: Any, data: Data, count: int, config: TrainConfig, loss: Loss
) -> dict[str, float]:
    """The mean of a loss over ``count`` validation images."""
    model.eval()
    weight = next(model.parameters())
    part, total = data.valid, 0.0
    generator = torch.Generator(part.images.device).manual_seed(config.seed)
    for block in stratified_subset(part, count, config.seed).split(500):
        x = data.binarise(part.images[block], generator, split="valid").to(weight.dtype)
        y = None if part.labels is None else part.labels[block]
        total += loss(model, x, y, generator).item() * len(block)
    return {"valid": total / count}
