"""Where the time of a training step goes: ``python -m benchmarks --profile``.

On a machine that others use too, single times scatter: of several steps the one that
took least is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.works import bits, precision, spread
from drawlib.draw import DRAW, DRAWConfig
from drawlib.fast.loop import accelerate

__all__ = ["parts_of_a_step", "show_parts"]

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")


def parts_of_a_step(
    turns: int, config: DRAWConfig | None = None, batch: int = 128
) -> dict[str, float]:
    """Milliseconds of the parts of one step of DRAW with attention, in bfloat16."""
    torch.manual_seed(0)
    model = spread(DRAW(config or DRAWConfig.preset("paper-attention")))
    x, noise = bits(batch), model.noise(batch)
    accelerate(model)

    def step() -> Counter[str]:
        model.zero_grad()
        loss: list[Tensor] = []

        def forward() -> None:
            with precision("bf16"):
                loss.append(-model.bound(x, noise).elbo.mean())

        parts = split("forward", forward, batch)
        return parts + split("backward", lambda: loss[0].backward(), batch)

    step()  # compiled
    return min((step() for _ in range(turns)), key=lambda parts: parts.total())


def split(name: str, call: Callable[[], Any], batch: int) -> Counter[str]:
    """The parts of one call, in milliseconds."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        call()
    parts: Counter[str] = Counter()
    for event in seen.key_averages(group_by_input_shape=True):
        kind = "the rest: calls, copies, allocation"
        if event.key in PRODUCTS:
            # Of δ W each row is an image, of δᵀ u none is.
            late = name == "backward" and event.input_shapes[0][0] != batch
            kind = "products, weight gradients" if late else f"products, {name}"
        elif event.key.startswith("## Call CompiledFxGraph"):
            kind = f"compiled loops with their calls, {name}"
        parts[kind] += event.self_cpu_time_total / 1e3
    return parts


def show_parts(parts: dict[str, float]) -> None:
    """The table, for a terminal."""
    total = sum(parts.values())
    for kind, spent in sorted(parts.items(), key=lambda part: -part[1]):
        print(f"{kind:44} {spent:7.1f} ms {spent / total:5.0%}")
    print(f"{'together':44} {total:7.1f} ms")
