"""Differences of paired runs, with their intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, stdev

import numpy as np

__all__ = ["Difference", "signed", "t_quantile"]


@lru_cache
def t_quantile(degrees: int, level: float = 0.95) -> float:
    r"""The t for which ``level`` of Student's distribution lies in [−t, t].

    With t = √ν tan θ the density becomes ∝ cos^{ν−1} θ on (−π/2, π/2), which is
    integrated on a grid.

    Example:
        >>> round(t_quantile(2), 3)
        4.303
    """
    theta = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(theta) ** (degrees - 1)
    mass = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(degrees) * math.tan(np.interp(level, mass / mass[-1], theta))


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences (nats), with its t-interval over seeds.

    ``low`` and ``high`` are None for a single seed, which has no interval.

    Example:
        >>> str(Difference.of([1.0, 1.2, 1.1]))
        '+1.10 [+0.85, +1.35], 3 seeds'
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float], level: float = 0.95) -> Difference:
        """From the differences of each seed."""
        mean = fmean(values)
        if len(values) < 2:
            return cls(mean, None, None, len(values))
        reach = t_quantile(len(values) - 1, level)
        reach *= stdev(values) / math.sqrt(len(values))
        return cls(mean, mean - reach, mean + reach, len(values))

    def over(self, whole: float) -> Difference:
        """The difference as a share of ``whole``, which counts as known exactly."""
        if self.low is None or self.high is None:
            return Difference(self.mean / whole, None, None, self.seeds)
        low, high = sorted((self.low / whole, self.high / whole))
        return Difference(self.mean / whole, low, high, self.seeds)

    def percent(self) -> str:
        """As a share.

        Example:
            >>> Difference.of([0.5]).percent()
            '50 %, one seed'
        """
        if self.low is None or self.high is None:
            return f"{100 * self.mean:.0f} %, one seed"
        interval = f"[{100 * self.low:.0f}, {100 * self.high:.0f}]"
        return f"{100 * self.mean:.0f} % {interval}".replace("-", "−")

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return signed(self.mean) + ", one seed"
        interval = f"[{signed(self.low)}, {signed(self.high)}]"
        return f"{signed(self.mean)} {interval}, {self.seeds} seeds"


def signed(value: float | None) -> str:
    """Two decimals with their sign.

    Example:
        >>> signed(-0.5)
        '−0.50'
    """
    return "" if value is None else f"{value:+.2f}".replace("-", "−")
