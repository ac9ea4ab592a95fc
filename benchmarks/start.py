"""The first training step of a fresh process, compiler and all."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Any

FIRST = """
import os, time, torch
torch.set_num_threads({threads})
torch.set_float32_matmul_precision("medium")
from drawlib.draw import DRAW, DRAWConfig
from drawlib.fast.loop import accelerate
model = DRAW(DRAWConfig.preset("paper-attention"))
x, noise = torch.zeros(128, 1, 28, 28), model.noise(128)
wall, cpu = time.perf_counter(), os.times()
accelerate(model)
with torch.autocast("cpu", torch.bfloat16):
    loss = -model.bound(x, noise).elbo.mean()
loss.backward()
wall, now = time.perf_counter() - wall, os.times()
own = now.user + now.system - cpu.user - cpu.system
compiler = now.children_user + now.children_system
compiler -= cpu.children_user + cpu.children_system
print(wall, own, compiler)
"""

GOALS = (("cold", 25.0), ("warm", 4.0))


def first_step(threads: int) -> list[dict[str, Any]]:
    """Wall seconds with an empty cache of compiled code, and with a full one."""
    with tempfile.TemporaryDirectory() as cache:
        caches = ("DRAWLIB_CACHE", "TORCHINDUCTOR_CACHE_DIR")
        environment = os.environ | dict.fromkeys(caches, cache)
        command = [sys.executable, "-c", FIRST.format(threads=threads)]
        told = [
            subprocess.run(
                command, env=environment, check=True, capture_output=True, text=True
            ).stdout.split()[-3:]
            for _ in range(2)
        ]
    return [
        row(kind, goal, *map(float, seconds))
        for (kind, goal), seconds in zip(GOALS, told, strict=True)
    ]


def row(
    kind: str, goal: float, wall: float, own: float, compiler: float
) -> dict[str, Any]:
    """One row of the table; where the goal is missed, what the time went into."""
    made = {
        "name": f"first-step-{kind}",
        "title": f"first step, compile included, {kind} cache",
        "goal": goal,
        "unit": "s",
        "measured": wall,
    }
    why = (
        f"{own:.1f} s of processor time are this process's, "
        f"{compiler:.1f} s the C++ compiler's"
    )
    return made | ({"why": why} if wall > goal else {})
