"""Where the time of a training step goes: ``python -m benchmarks --profile``.

On a machine that others use too, single times scatter: of several steps the one that
took least is shown.

PyTorch's profiler counts what lies between two products as one thing. ``by_library``
asks Linux's ``perf``, which looks at the processor 2,000 times a second, whose code is
running.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.works import bits, precision, spread
from drawlib.draw import DRAW, DRAWConfig
from drawlib.fast.loop import accelerate

__all__ = ["LOOPS", "PRODUCTS", "by_library", "parts_of_a_step", "shares", "show_parts"]

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
LOOPS = ("Steps", "StepsBackward")  # of `drawlib.fast.native`


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
        elif event.key in LOOPS or event.key.startswith("## Call CompiledFxGraph"):
            kind = f"loops between products with their calls, {name}"
        parts[kind] += event.self_cpu_time_total / 1e3
    return parts


def show_parts(parts: dict[str, float]) -> None:
    """The table, for a terminal."""
    total = sum(parts.values())
    for kind, spent in sorted(parts.items(), key=lambda part: -part[1]):
        print(f"{kind:44} {spent:7.1f} ms {spent / total:5.0%}")
    print(f"{'together':44} {total:7.1f} ms")


def by_library(call: Callable[[], Any], least: float = 5.0) -> dict[str, float] | None:
    """Shares of a call's time by whose code ran, or None where there is no ``perf``."""
    if shutil.which("perf") is None:
        return None
    call()  # compiled
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder, "perf.data"))
        watch = ["perf", "record", "-e", "cpu-clock", "-F", "2000", "-o", data]
        silent: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        watcher = subprocess.Popen([*watch, "-p", str(os.getpid())], **silent)
        try:
            time.sleep(0.5)
            start = time.process_time()
            while time.process_time() - start < least:
                call()
        finally:
            watcher.send_signal(signal.SIGINT)
            watcher.wait()
        report = ["perf", "report", "--stdio", "-t", ";", "--sort", "dso,sym"]
        told = subprocess.run(
            [*report, "-i", data], capture_output=True, text=True, check=False
        )
    return shares(told.stdout) or None


def shares(report: str) -> dict[str, float]:
    """Of lines "per cent; library; symbol", the share of each kind of code.

    >>> shares("60.0;[JIT] tid 7;[.] 0x7f\\n20.0;libc.so.6;[.] _int_malloc")
    {'products': 0.75, 'memory': 0.25}
    """
    found: Counter[str] = Counter()
    for line in report.splitlines():
        cells = [cell.strip() for cell in line.split(";", 2)]
        share = cells[0].removesuffix("%")
        if len(cells) == 3 and share.replace(".", "", 1).isdigit():
            found[whose(*cells[1:])] += float(share)
    total = sum(found.values())
    return {kind: round(share / total, 3) for kind, share in found.most_common()}


def whose(library: str, symbol: str) -> str:
    """What code is for: the product library writes its loops when it is called."""
    if library.startswith(("[JIT]", "[anon")) or "mkl_blas" in symbol:
        return "products"
    if library.startswith("drawlib-") or library.endswith(".main.so"):
        return "compiled loops"
    if "Sleef" in symbol:
        return "compiled loops"
    if any(name in symbol for name in ("alloc", "free", "unlink_chunk", "memalign")):
        return "memory"
    if library.startswith(("libpython", "python", "libtorch_python")):
        return "Python"
    if library.startswith(("libtorch", "libc10")):
        return "PyTorch's calls"
    return "other"
