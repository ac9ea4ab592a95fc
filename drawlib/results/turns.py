r"""Whether a model finishes one digit of a pair before it begins the other.

With a_tk the ink that step t lays on digit k (``trace.written_ink``) there are three
shares of all ink: that of the digit with more of it (all steps alike), that of the
digit which each step prefers (``one_at_a_time``), and that which fits one change from a
digit to the other (``one_after_the_other``). The last one is high also for steps that
prefer a digit by chance, so it is measured once more with each image's steps in an
order that is drawn: what is left is the order's own.

One window may span two digits that lie close together, so the shares are also given for
pairs by the distance between their digits' centres of ink.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from drawlib.bound import evaluation_mode
from drawlib.data.sets import Data
from drawlib.evaluation import evaluate
from drawlib.recurrent import Recurrent
from drawlib.results import zoo
from drawlib.trace import one_after_the_other, one_at_a_time, written_ink

__all__ = ["Turns", "distances", "measure_turns", "read_turns", "turns", "turns_of"]

EDGES = (0.0, 8.0, 14.0, 20.0, 26.0, 60.0)  # pixels
RANGES = ((0.0, 60.0), *pairwise(EDGES))


@dataclass(frozen=True)
class Turns:
    """Shares of the ink on pairs of digits: means over images, each with its error.

    Attributes:
        distance: of which pairs: from how many pixels on, and below how many.
        alike: the share of the digit with more ink: all steps as one.
        at_a_time: ``one_at_a_time``.
        after: ``one_after_the_other``.
        shuffled: the same with the steps of each image in an order that is drawn.
        gain: ``at_a_time`` − ``alike``, paired by image.
        order: ``after`` − ``shuffled``, paired by image.
    """

    images: int
    distance: list[float]
    alike: list[float]
    at_a_time: list[float]
    after: list[float]
    shuffled: list[float]
    gain: list[float]
    order: list[float]


def distances(
    parts: UInt8[Tensor, "batch 2 height width"],
) -> Float[Tensor, " batch"]:
    """How far the centres of ink of two parts lie apart, in pixels.

    Example:
        >>> parts = torch.zeros(1, 2, 9, 9, dtype=torch.uint8)
        >>> parts[0, 0, 1, 1] = parts[0, 1, 4, 5] = 255
        >>> distances(parts)
        tensor([5.])
    """
    ink = parts.float()
    down, across = (torch.arange(float(n)) for n in ink.shape[2:])
    total = ink.sum((2, 3))
    y = torch.einsum("bkij,i->bk", ink, down) / total
    x = torch.einsum("bkij,j->bk", ink, across) / total
    return torch.hypot(y[:, 0] - y[:, 1], x[:, 0] - x[:, 1])


def turns_of(
    ink: Float[Tensor, "T batch 2"],
    distance: tuple[float, float] = RANGES[0],
    *,
    shuffles: int = 20,
    seed: int = 0,
) -> Turns:
    """The shares of given ink; images without any are left out.

    Example:
        >>> ink = torch.tensor([[[3.0, 0.0]], [[2.0, 0.0]], [[0.0, 5.0]]])
        >>> turns_of(ink.expand(3, 4, 2)).after
        [1.0, 0.0]
    """
    ink = ink[:, ink.sum((0, 2)) > 0].double()
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(shuffles):
        order = torch.rand(ink.shape[:2], generator=generator).argsort(0)
        there = order[..., None].expand_as(ink)
        drawn.append(one_after_the_other(ink.gather(0, there)))
    alike = one_at_a_time(ink.sum(0, keepdim=True))
    each, after = one_at_a_time(ink), one_after_the_other(ink)
    shuffled = torch.stack(drawn).mean(0)

    def mean(share: Tensor) -> list[float]:
        return [share.mean().item(), (share.std() / len(share) ** 0.5).item()]

    of_each = (alike, each, after, shuffled, each - alike, after - shuffled)
    return Turns(ink.shape[1], list(distance), *map(mean, of_each))


@torch.no_grad()
def turns(
    model: Recurrent, data: Data, images: int = 2000, *, seed: int = 0
) -> list[Turns]:
    """The shares of a model on the first test images, one posterior draw per image.

    First of all pairs, then by distance; a range without a pair is left out.

    Raises:
        ValueError: for data whose images have no parts.

    Example:
        >>> from drawlib import DRAW, Data, DRAWConfig
        >>> blank = Data.from_arrays(torch.zeros(20, 28, 28, dtype=torch.bool))
        >>> turns(DRAW(DRAWConfig.preset("tiny")), blank)
        Traceback (most recent call last):
        ValueError: images of arrays... have no parts; allowed: mnist-two
    """
    test = data.split("test")
    if test.parts is None:
        raise ValueError(f"images of {data.name} have no parts; allowed: mnist-two")
    where = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    found = []
    with evaluation_mode(model):
        both = data.binarise(test.images[:images], split="test")
        for x, parts in zip(
            both.split(500), test.parts[:images].split(500), strict=True
        ):
            seen = model.trace(x.to(where), generator=generator)
            found.append(written_ink(seen, parts.to(where)).cpu())
    ink, apart = torch.cat(found, 1), distances(test.parts[:images].cpu())
    shares = []
    for low, high in RANGES:
        chosen = (low <= apart) & (apart < high)
        if chosen.any():
            shares.append(turns_of(ink[:, chosen], (low, high), seed=seed))
    return shares


def measure_turns(model: Recurrent, data: Data, path: Path) -> Path:
    """Write ``turns`` of a trained model, with what tells which one and where."""
    values = {
        "protocol": data.name,
        "neg_elbo": evaluate(model, data, "test", samples=1).neg_elbo,
        "turns": [asdict(shares) for shares in turns(model, data)],
        "data_sha256": dict(data.sha256),
        **zoo.describe_environment(next(model.parameters()).device),
    }
    return zoo.write_json(path, values)


def read_turns(root: Path | None = None) -> dict[str, list[Turns]]:
    """What ``measure_turns`` wrote, by the model's name; left out, of those that ship.

    Example:
        >>> for name, (whole, *by_distance) in read_turns().items():
        ...     assert sum(part.images for part in by_distance) == whole.images
    """
    folder = (root or zoo.ZOO) / "mnist-two" / "turns"
    return {
        path.stem: [Turns(**each) for each in zoo.read_json(path)["turns"]]
        for path in sorted(folder.glob("*.json"))
    }
