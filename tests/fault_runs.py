"""What runs leave that were killed: their weights, log and steps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from torch import Tensor
from toy_runs import assert_same_bits

from drawlib.results.zoo import load_weights
from drawlib.training import checkpoint
from drawlib.training.runstate import History

Final = tuple[dict[str, Tensor], list[dict[str, Any]]]


def final(run_dir: Path) -> Final:
    """The weights and the log that a finished run leaves."""
    rows = [
        {k: v for k, v in row.items() if k != "seconds"}
        for row in History.read(run_dir).rows
    ]
    return load_weights(run_dir / "model.safetensors"), rows


def assert_same(a: Final, b: Final) -> None:
    assert_same_bits(a[0], b[0])
    assert a[1] == b[1]


def steps_done(run_dir: Path) -> int:
    """The step of the newest checkpoint of a directory in which nobody trains."""
    state = checkpoint.load(run_dir / "checkpoint.pt")
    return 0 if state is None else int(state["step"])


def wait_for_checkpoints(run_dir: Path, count: int) -> None:
    """Wait until so many more checkpoints are written, or the run is finished.

    However long: pytest's limit for a test ends what hangs.
    """

    def stamp() -> int:
        try:
            return (run_dir / "checkpoint.pt").stat().st_mtime_ns
        except FileNotFoundError:  # between its two renames
            return 0

    last = stamp()
    while count and not (run_dir / "run.json").exists():
        time.sleep(0.0005)
        found = stamp()
        count -= found not in (0, last)
        last = found or last
