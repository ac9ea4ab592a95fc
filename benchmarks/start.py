"""The first training step of a fresh process, compiler and all."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Any

FIRST = """
import time, torch
torch.set_num_threads({threads})
torch.set_float32_matmul_precision("medium")
from drawlib.draw import DRAW, DRAWConfig
from drawlib.fast.loop import accelerate
model = DRAW(DRAWConfig.preset("paper-attention"))
x, noise = torch.zeros(128, 1, 28, 28), model.noise(128)
wall, cpu = time.perf_counter(), time.process_time()
accelerate(model)
with torch.autocast("cpu", torch.bfloat16):
    loss = -model.bound(x, noise).elbo.mean()
loss.backward()
print(time.perf_counter() - wall)
"""


def first_step(threads: int) -> list[dict[str, Any]]:
    """Wall seconds with an empty cache of compiled code, and with a full one."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        command = [sys.executable, "-c", FIRST.format(threads=threads)]
        seconds = [
            float(
                subprocess.run(
                    command, env=environment, check=True, capture_output=True, text=True
                ).stdout.split()[-1]
            )
            for _ in range(2)
        ]
    goals = (("cold", 60.0), ("warm", 15.0))
    return [
        {
            "name": f"first-step-{kind}",
            "title": f"first step, compile included, {kind} cache",
            "goal": goal,
            "unit": "s",
            "measured": taken,
        }
        for (kind, goal), taken in zip(goals, seconds, strict=True)
    ]
