"""−ELBO after each step of a recurrent model: what it would be worth to stop there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from drawlib.bound import Images, evaluation_mode
from drawlib.config import whole_number
from drawlib.data.sets import Data, stratified_subset
from drawlib.evaluation import (
    blocks_of,
    check_likelihood,
    check_seed,
    error_in_general,
)
from drawlib.machine.settings import for_measuring, in_main_memory
from drawlib.recurrent import Recurrent
from drawlib.stops import elbo_at_stops

__all__ = ["EveryStop", "every_stop"]


@dataclass(frozen=True)
class EveryStop:
    """For t = 1 … T, nats per image, with standard errors over images in general.

    Attributes:
        neg_elbo: −E log D(x given c_t) + Σ_{s≤t} KL_s, one posterior draw per image.
        neg_elbo_se: its standard errors; those of neighbouring steps go together.
        reconstruction: −E log D(x given c_t), its first part.
    """

    split: str
    images: int
    seed: int
    neg_elbo: tuple[float, ...]
    neg_elbo_se: tuple[float, ...]
    reconstruction: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        values = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


@torch.no_grad()
@in_main_memory()
def every_stop(
    model: Recurrent,
    data: Data,
    split: str = "test",
    *,
    images: int | None = None,
    seed: int = 0,
) -> EveryStop:
    """Stop a model after each of its steps, whatever it was trained to do.

    ``images`` takes a seeded subset, as ``evaluate`` does. The model is put into
    evaluation mode and back; the same seed gives the same numbers.

    Raises:
        ValueError: as ``evaluate``.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> data = Data.from_arrays(torch.zeros(40, 28, 28, dtype=torch.bool))
        >>> found = every_stop(DRAW(DRAWConfig.preset("tiny")), data)
        >>> found.images, len(found.neg_elbo)
        (4, 4)
    """
    seed, part = check_seed(seed), data.split(split)
    check_likelihood(model, data, split)
    index = torch.arange(len(part))
    if images is not None:
        index = stratified_subset(part, whole_number("images", images), seed)
    weight = next(model.parameters())
    generator = torch.Generator(weight.device).manual_seed(seed)
    exact = for_measuring(weight.device, weight.dtype)
    with evaluation_mode(model), exact:
        found = [
            per_block(model, x, generator)
            for x in blocks_of(model, data, split, index, 500, seed)
        ]
    reconstruction, neg_elbo = (torch.cat(each) for each in zip(*found, strict=True))
    labels = None if part.labels is None else part.labels.cpu()[index]
    errors = (error_in_general(v, labels, len(part)) for v in neg_elbo.unbind(1))
    return EveryStop(
        split,
        len(index),
        seed,
        tuple(neg_elbo.mean(0).tolist()),
        tuple(errors),
        tuple(reconstruction.mean(0).tolist()),
    )


def per_block(
    model: Recurrent, x: Images, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """−log D(x given c_t) and −ELBO of each image and step, in float64."""
    terms = model.at_every_step(x, model.noise(len(x), generator))
    log_likelihood, kl = (each.cpu().double() for each in terms)
    return -log_likelihood, -elbo_at_stops(log_likelihood, kl)
