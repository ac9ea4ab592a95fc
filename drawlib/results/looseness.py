"""How loose the bounds of shipped models are: measured once, read by the chapter.

``tools/measure_looseness.py`` writes ``zoo/loose/<protocol>/<model>.json``. A file
holds the same few images under every bound, one number per image, so that what they
share, the luck of the images, falls out of each difference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drawlib.annealing import AISConfig, Annealed, ais, held, pilot, sandwich
from drawlib.bound import LatentModel
from drawlib.data.sets import load_data
from drawlib.evaluation import chosen, mean_and_error, passes
from drawlib.fast.loop import accelerate
from drawlib.results.zoo import ZOO, describe_environment, load_pretrained

__all__ = ["cost", "loose_records", "measure_looseness", "paired"]

LOOSE = ZOO / "loose"
SCHEMA = "drawlib-loose-1"
KS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
GRADIENT = 3  # passes that a gradient costs: one forwards, about two back


def loose_records(root: Path | None = None) -> dict[str, dict[str, Any]]:
    """The measurements by the model's name, without those that were cut.

    Example:
        >>> found = loose_records()["mnist-dynamic/vae-source-0"]
        >>> sorted(found["iw"], key=int)[-1], found["split"]
        ('5000', 'test')
    """
    found = {}
    for path in sorted((root or LOOSE).glob("*/*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.get("schema") == SCHEMA and "sandwich" in record:
            found[record["model"]] = record
    return found


def cost(config: dict[str, Any] | AISConfig) -> int:
    """Forward passes that an image costs: a gradient counts as three.

    Example:
        >>> cost(AISConfig(chains=8, temperatures=100, leapfrog=2))
        4800
    """
    values = config if isinstance(config, dict) else config.to_dict()
    gradients = values["chains"] * values["temperatures"] * values["leapfrog"]
    return GRADIENT * gradients


def paired(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """The mean of a − b over the same images, and its standard error.

    Example:
        >>> paired([3.0, 5.0], [1.0, 1.0])
        (3.0, 1.0)
    """
    return mean_and_error(torch.tensor(a).double() - torch.tensor(b).double())


@torch.no_grad()
def weights(model: LatentModel, x: Tensor, samples: int, seed: int) -> Tensor:
    """log w and the ELBO's estimate of every draw: (2, images, samples), float64."""
    generator, parts = torch.Generator().manual_seed(seed), []
    for k in passes(len(x), samples, 250):
        bound = model.bound(
            x.repeat_interleave(k, 0), model.noise(len(x) * k, generator)
        )
        both = torch.stack([bound.log_weight, bound.elbo]).double()
        parts.append(both.view(2, len(x), k))
    return torch.cat(parts, 2)


def measure_looseness(
    name: str,
    images: int,
    chains: int,
    temperatures: Sequence[int],
    simulated: int,
    seed: int = 0,
) -> Iterator[dict[str, Any]]:
    """−ELBO, −L_K and AIS of the same images, then a sandwich on simulated ones.

    Yields the record after each part, so that a long measurement can be cut. The step
    sizes of all budgets are those of one pilot, between whose temperatures a line is
    drawn.
    """
    model = load_pretrained(name).eval()
    accelerate(model)
    protocol = name.partition("/")[0]
    data = load_data(protocol)
    x = chosen(model, data, "test", images, seed)
    record: dict[str, Any] = {
        "schema": SCHEMA, "model": name, "protocol": protocol, "split": "test",
        "images": images, "seed": seed,
        **describe_environment(x.device),
    }  # fmt: skip
    log_w, elbo = weights(model, x, max(KS), seed)
    record["neg_elbo"] = rounded(-elbo.mean(1))
    record["iw"] = {
        # The mean over all groups of K draws; the last few may be left over.
        str(k): rounded(-log_p_hat(log_w, k).mean(1))
        for k in KS
    }
    yield record
    config = AISConfig(chains=chains)
    budgets = [replace(config, temperatures=count) for count in temperatures]
    record["ais"] = []
    for now, steps in zip(budgets, step_sizes(model, x, budgets, seed), strict=True):
        found = ais(model, x, now, steps=steps, seed=seed, chunk=400)
        record["ais"].append({**now.to_dict(), **annealed(found)})
        yield record
    both = sandwich(model, simulated, now, steps=steps, seed=seed)
    record["sandwich"] = {
        **now.to_dict(),
        "images": simulated,
        "lower": annealed(both.lower),
        "upper": annealed(both.upper),
    }
    yield record


def step_sizes(
    model: LatentModel, x: Tensor, budgets: Sequence[AISConfig], seed: int
) -> list[Tensor]:
    """The steps of each budget, all from one pilot with a hundred temperatures."""
    first = replace(budgets[0], temperatures=100)
    with held(model):
        tuned = pilot(model, x, first, seed, 400)
    return [
        torch.from_numpy(np.interp(now.betas()[1:-1], first.betas()[1:-1], tuned))
        for now in budgets
    ]


def log_p_hat(log_w: Tensor, k: int) -> Tensor:
    """log p̂_K of every group of K draws, (images, groups)."""
    groups = log_w.shape[1] // k
    return log_w[:, : groups * k].unflatten(1, (groups, k)).logsumexp(2) - math.log(k)


def annealed(found: Annealed) -> dict[str, Any]:
    """As a record holds it: −log p̂ and its error over chains, one for each image."""
    return {
        "neg_log_p": rounded(-found.log_p),
        "errors": rounded(found.errors),
        "accepted": round(found.accepted, 3),
    }


def rounded(values: Tensor) -> list[float]:
    """Nats to four digits, as JSON holds them."""
    return [round(v, 4) for v in values.tolist()]
