"""Times of several implementations in one process, taken in turn.

A shared machine slows down and speeds up by the minute. So no two times are compared
that were not taken one after the other: each turn runs every implementation once, a
ratio is taken within a turn, and the median over turns is what is reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Times:
    """Seconds of one implementation, one entry a turn."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, wall: float, cpu: float) -> None:
        self.wall.append(wall)
        self.cpu.append(cpu)

    def summary(self) -> dict[str, float]:
        """Medians over turns; ``cpu`` is summed over threads."""
        return {
            "seconds": statistics.median(self.wall),
            "cpu_seconds": statistics.median(self.cpu),
            "turns": len(self.wall),
        }


def timed(function: Callable[[], object], least: float = 0.0) -> tuple[float, float]:
    """Wall and CPU seconds of one call, repeated until ``least`` seconds are full.

    What runs in another process (``benchmarks.turns.Apart``) times itself.
    """
    if apart := getattr(function, "timed", None):
        return apart(least)  # type: ignore[no-any-return]
    calls, wall, cpu = 0, time.perf_counter(), time.process_time()
    while True:
        function()
        calls += 1
        spent = time.perf_counter() - wall
        if spent >= least:
            return spent / calls, (time.process_time() - cpu) / calls


def in_turn(
    functions: dict[str, Callable[[], object]], turns: int, least: float = 0.0
) -> dict[str, Times]:
    """Every function once a turn, in an order that turns round from turn to turn.

    Each is called once before, unmeasured, to compile and to warm the caches.
    """
    for function in functions.values():
        function()
    times = {name: Times() for name in functions}
    names = list(functions)
    for _ in range(turns):
        for name in names:
            times[name].add(*timed(functions[name], least))
        names.reverse()
    return times


def ratio(slow: Times, fast: Times, of: str = "wall") -> float:
    """How many times faster: the median of the ratios within each turn."""
    pairs = zip(getattr(slow, of), getattr(fast, of), strict=True)
    return statistics.median(a / b for a, b in pairs)
