"""The machine's own rate for matrix products, at the shapes of the model.

No step can be faster than its matrix products are alone. So the products of a step are
timed by themselves, in the same run as the step, and a result is reported as a share
of that limit too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.clock import in_turn
from drawlib.machine.settings import matmul_precision
from drawlib.recurrent import RecurrentConfig

Shape = tuple[int, int, int]
PRECISIONS = {
    "float32": (torch.float32, "highest"),
    "medium": (torch.float32, "medium"),
    "bf16": (torch.bfloat16, "medium"),
}


def forward_products(config: RecurrentConfig, batch: int) -> list[Shape]:
    """(rows, inner, columns) of the products of one step that hoisting leaves."""
    pixels, hidden = math.prod(config.image_shape), config.hidden
    seen, heads = pixels, pixels
    if config.attention != "none":
        seen = 2 * config.image_shape[0] * config.read**2
        heads = 10 + config.image_shape[0] * config.write**2
    features, latent = hidden, []
    if getattr(config, "latent_attention", "none") != "none":
        features, latent = config.N**2, [(batch, hidden, 5)]  # type: ignore[attr-defined]
    return [
        (batch, seen + 2 * hidden, 4 * hidden),
        (batch, features, 2 * config.z),
        (batch, config.z + hidden, 4 * hidden),
        (batch, hidden, heads),
        *latent,
    ]


def generating_products(config: RecurrentConfig, batch: int) -> list[Shape]:
    """Those of a step that generates: the decoder and what it writes."""
    return forward_products(config, batch)[2:4]


def training_flops(config: RecurrentConfig, batch: int) -> float:
    """Of all steps: each product once forward and twice backward."""
    return 3 * config.T * flops(forward_products(config, batch))


def layered_flops(model: nn.Module, batch: int) -> float:
    """Of networks without a loop, each product once forward and twice backward.

    >>> layered_flops(nn.Linear(3, 4), 2)
    144.0
    """
    weights = [p for p in model.parameters() if p.ndim == 2]
    return 3 * flops([(batch, k, n) for n, k in (w.shape for w in weights)])


def flops(products: list[Shape]) -> float:
    """Two operations for each multiplication and addition.

    >>> flops([(2, 3, 4)])
    48.0
    """
    return 2.0 * sum(m * k * n for m, k, n in products)


def rates(config: RecurrentConfig, batch: int, turns: int) -> dict[str, float]:
    """Floating-point operations a second, by precision, one number each.

    Timed are both LSTMs' products, which are nearly all of the work: forward, backward
    to the input, and the weight gradient of sixteen steps at once. The rate is all
    their operations over all their time.
    """
    big = [forward_products(config, batch)[i] for i in (0, 2)]
    work: dict[str, Callable[[], object]] = {}
    total = 0.0
    for name, (dtype, precision) in PRECISIONS.items():
        calls, total = [], 0.0
        for m, k, n in big:
            u, w = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
            y = torch.randn(m, n).to(dtype)
            us, ys = u.repeat(16, 1), y.repeat(16, 1)
            calls += [(u, w.mT, 16), (y, w, 16), (ys.mT, us, 1)]
            total += 3 * 16 * flops([(m, k, n)])

        def run(calls=calls, precision=precision) -> None:  # type: ignore[no-untyped-def]
            torch.set_float32_matmul_precision(precision)
            for a, b, times in calls:
                for _ in range(times):
                    a @ b

        work[name] = run
    with matmul_precision("highest"):  # from here on each sets its own
        times = in_turn(work, turns)
    return {name: total / t.summary()["seconds"] for name, t in times.items()}
