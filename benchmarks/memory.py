"""The peak of memory that one training step of a large batch adds, each in a process.

Linux alone tells a process its own peak and lets it be set back (`/proc/self`), so that
compiling does not count. Elsewhere the rows are left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from benchmarks.limit import forward_products
from drawlib.draw import DRAWConfig

__all__ = ["peak_memory"]

BATCH = 1024
STEP = """
import ctypes, gc, pathlib
import torch
from benchmarks.plain import textbook
from benchmarks.works import bits, precision
from drawlib.draw import DRAW, DRAWConfig
from drawlib.fast.loop import accelerate, bound
torch.set_num_threads({threads})
torch.manual_seed(0)
model = DRAW(DRAWConfig.preset("paper-attention", **{small}))
x, noise = bits({batch}), model.noise({batch})
plain = textbook(model)
accelerate(model)

def step():
    with precision({kind!r}):
        if {how!r} == "textbook":
            loss = plain.negative_elbo(x, noise).mean()
        else:
            loss = -bound(model, x, noise, recompute={recompute}).elbo.mean()
    loss.backward()

def status(name):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024

step()  # compiled, and its gradients are there from now on
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
step()
print(status("VmHWM") - before)
"""
WAYS: dict[str, tuple[str, str, int]] = {
    "textbook float32": ("textbook", "float32", 0),
    "textbook bf16": ("textbook", "bf16", 0),
    "fast float32": ("fast", "float32", 0),
    "fast bf16": ("fast", "bf16", 0),
    "fast bf16, recomputed": ("fast", "bf16", 8),
}
GOALS = (
    ("memory", "", 0.6, "fast bf16"),
    ("memory-recomputed", ", recomputed in eights", 0.25, "fast bf16, recomputed"),
)


def peak_memory(threads: int) -> list[dict[str, Any]]:
    """Two rows: the fast step's share of the plain loop's peak, and with recomputing.

    Both against the plain loop in float32, T 64 and 1,024 images.
    """
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return []
    peaks = {name: peak(*way, threads=threads) for name, way in WAYS.items()}
    config = DRAWConfig.preset("paper-attention")
    wide = sum(k + n for _, k, n in forward_products(config, 1))
    kept = 2 * wide * config.T * BATCH / 1e6
    why = (
        f"{kept:.0f} MB are the layers' inputs and their outputs' gradients at all "
        "steps, in bf16, kept so that each weight's gradient is one product"
    )
    title = "DRAW with attention, T 64, batch 1,024: peak memory of a training step"
    rows = []
    for name, more, goal, way in GOALS:
        share = peaks[way] / peaks["textbook float32"]
        row = {"name": name, "title": title + more, "goal": goal, "best": way}
        row |= {"unit": "of the plain loop's", "measured": share, "bytes": peaks}
        rows.append(row | ({"why": why} if share > goal else {}))
    return rows


def peak(
    how: str, kind: str, recompute: int, threads: int = 1, batch: int = BATCH,
    **small: int,
) -> int:  # fmt: skip
    """Bytes that one step adds at its peak to a process that has made one before."""
    program = STEP.format(
        how=how, kind=kind, recompute=recompute, threads=threads, batch=batch,
        small=small,
    )  # fmt: skip
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(ended.stdout.split()[-1])
