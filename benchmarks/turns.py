"""Two threads over one: two processes, each with its number of threads, in turn.

Compiled code is made for one number of threads, so each needs a process of its own.
Both stay, and take their steps one after the other: so they are compared in pairs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from benchmarks.clock import Times, ratio

__all__ = ["more_threads"]

STEPS = """
import time, torch
from benchmarks.works import bits, precision, spread
from drawlib.draw import DRAW, DRAWConfig
from drawlib.fast.loop import accelerate
torch.set_num_threads({threads})
torch.manual_seed(0)
model = spread(DRAW(DRAWConfig.preset("paper-attention", **{small})))
x, noise = bits({batch}), model.noise({batch})
accelerate(model)
while input():
    wall, cpu = time.perf_counter(), time.process_time()
    model.zero_grad()
    with precision("bf16"):
        loss = -model.bound(x, noise).elbo.mean()
    loss.backward()
    print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
"""


def more_threads(
    threads: int, turns: int, batch: int = 128, **small: int
) -> list[dict[str, Any]]:
    """One row: how many times the speed of one thread the same step then has."""
    workers = {n: worker(n, batch, small) for n in (1, threads)}
    for n in workers:
        step(workers[n])  # compiled
    times = {n: Times() for n in workers}
    for _ in range(turns):
        for n, each in workers.items():
            times[n].add(*step(each))
    for each in workers.values():
        each.communicate("\n")
    seconds = {n: t.summary()["seconds"] for n, t in times.items()}
    row = {
        "name": "threads",
        "title": f"DRAW with attention, T 64: {threads} threads over one",
        "goal": 0.85 * threads,
        "unit": "x",
        "measured": ratio(times[1], times[threads]),
        "seconds": seconds[threads],
        "rivals": {f"{n} thread(s)": t.summary() for n, t in times.items()},
    }
    if row["measured"] < row["goal"]:
        more = times[threads].summary()["cpu_seconds"] / seconds[1]
        row["why"] = (
            f"{threads} threads take {more:.2f} times the processor time of one, "
            f"with {os.cpu_count()} cores and a load of {os.getloadavg()[0]:.1f}"
        )
    return [row]


def worker(threads: int, batch: int, small: dict[str, int]) -> Any:
    """A process that takes one step for each line that it is given."""
    program = STEPS.format(threads=threads, batch=batch, small=small)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment, stdin=pipe, stdout=pipe, text=True
    )


def step(process: Any) -> tuple[float, float]:
    """Its wall and CPU seconds."""
    process.stdin.write("step\n")
    process.stdin.flush()
    wall, cpu = process.stdout.readline().split()
    return float(wall), float(cpu)
