"""Work in processes of their own, taken in turn; two threads over one.

Compiled code is made for one number of threads, and a process holds one build of the
library. So work of another number, or of another build, gets a process of its own. All
of them stay, and take their steps one after the other: so they are compared in pairs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.clock import in_turn, ratio

__all__ = ["Apart", "more_threads"]

ANSWER = """
import sys
from benchmarks.clock import timed
for line in sys.stdin:
    print(*timed(call, float(line)), flush=True)
"""
STEPS = """
import torch
from benchmarks.works import bits, precision, spread
from drawlib.draw import DRAW, DRAWConfig
from drawlib.fast.loop import accelerate
torch.set_num_threads({threads})
torch.manual_seed(0)
model = spread(DRAW(DRAWConfig.preset("paper-attention", **{small})))
x, noise = bits({batch}), model.noise({batch})
accelerate(model)
def call():
    model.zero_grad()
    with precision("bf16"):
        loss = -model.bound(x, noise).elbo.mean()
    loss.backward()
"""


class Apart:
    """A function in another process, called and timed as if it were here.

    ``program`` defines ``call``; ``root`` is the folder whose modules it imports.

    Example:
        >>> apart = Apart("call = lambda: sum(range(1000))", threads=1)
        >>> wall, cpu = apart.timed()
        >>> apart.close()
        0
    """

    def __init__(self, program: str, threads: int, root: Path | None = None) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if root is not None:
            environment["PYTHONPATH"] = str(root)
        command = [sys.executable, "-c", program + ANSWER]
        self.process = subprocess.Popen(
            command, env=environment, cwd=root, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self) -> None:
        self.timed()

    def timed(self, least: float = 0.0) -> tuple[float, float]:
        """Wall and CPU seconds of one call, by its own clocks.

        Raises:
            RuntimeError: where it ends instead of answering.
        """
        told = ""
        with suppress(BrokenPipeError):
            print(least, file=self.process.stdin, flush=True)
            told = self.process.stdout.readline()
        if not told:
            raise RuntimeError(f"a process ended with status {self.close()}")
        wall, cpu = told.split()
        return float(wall), float(cpu)

    def close(self) -> int:
        """End it; its exit status."""
        with suppress(BrokenPipeError):
            self.process.communicate()
        return self.process.wait()


def more_threads(
    threads: int, turns: int, batch: int = 128, **small: int
) -> list[dict[str, Any]]:
    """One row: how many times the speed of one thread the same step then has."""
    workers = {
        n: Apart(STEPS.format(threads=n, batch=batch, small=small), n)
        for n in (1, threads)
    }
    times = in_turn(workers, turns)
    for each in workers.values():
        each.close()
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
