"""Differences of runs, their intervals over seeds, and when one counts as settled.

One rule for every chapter. The questions of a list are one family, and the text says
how many they are; a chapter that has further intervals says what one list of all would
change. The seeds are fixed before the first training is looked at; where seeds or a
question were added later, the text says so. A difference whose 95 %
interval, paired by seed, leaves out zero is *suggestive*. It is *settled* if its p
value also passes Holm's correction for all questions of the family (Holm 1979), which
keeps the chance of a single wrong *settled* among them at 5 %. Beside the paired
interval stands Welch's, of all seeds of both sides: pairing by seed helps only if equal
seeds make two trainings alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean, stdev, variance

import numpy as np

__all__ = ["Difference", "holm", "signed", "t_quantile", "verdicts"]

LEVEL = 0.95


@lru_cache
def t_distribution(degrees: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Angles θ, and how much of Student's distribution lies in [−t, t], t = √ν tan θ.

    The density becomes ∝ cos^{ν−1} θ on (−π/2, π/2), which is integrated on a grid.
    """
    theta = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(theta) ** (degrees - 1)
    mass = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return theta, mass / mass[-1]


def t_quantile(degrees: float, level: float = LEVEL) -> float:
    """The t for which ``level`` of Student's distribution lies in [−t, t].

    Example:
        >>> round(t_quantile(2), 3)
        4.303
    """
    theta, mass = t_distribution(degrees)
    return math.sqrt(degrees) * math.tan(np.interp(level, mass, theta))


def t_test(t: float, degrees: float) -> float:
    """The p value of a two-sided test: how much of the distribution lies beyond ±t.

    Example:
        >>> round(t_test(4.303, 2), 3)
        0.05
    """
    theta, mass = t_distribution(degrees)
    return 1 - float(np.interp(math.atan(abs(t) / math.sqrt(degrees)), theta, mass))


@dataclass(frozen=True)
class Difference:
    """The mean of differences between runs (nats), with its t-interval over seeds.

    ``low``, ``high`` and the two-sided ``p`` are None for a single seed, which has no
    interval. ``other_seeds`` are those of the second side, where the two were not
    paired.

    Example:
        >>> str(Difference.of([1.0, 1.2, 1.1]))
        '+1.10 [+0.85, +1.35], 3 seeds'
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int
    p: float | None = None
    other_seeds: int | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> Difference:
        """From the differences of each seed."""
        m = len(values)
        if m < 2:
            return cls(fmean(values), None, None, m)
        return cls._t(fmean(values), stdev(values) / math.sqrt(m), m - 1, m)

    @classmethod
    def welch(cls, a: Sequence[float], b: Sequence[float]) -> Difference:
        """Mean of ``a`` minus mean of ``b``, unpaired, of unequal variances.

        The degrees of freedom are those of Welch and Satterthwaite. No interval where
        one of the two has a single seed.

        Example:
            >>> str(Difference.welch([1.0, 2.0, 3.0], [1.0, 1.5]))
            '+0.75 [−1.42, +2.92], 3 and 2 seeds'
        """
        mean = fmean(a) - fmean(b)
        if min(len(a), len(b)) < 2:
            return cls(mean, None, None, len(a), None, len(b))
        parts = [variance(v) / len(v) for v in (a, b)]
        error = math.sqrt(sum(parts))
        below = sum(
            part**2 / (len(v) - 1) for part, v in zip(parts, (a, b), strict=True)
        )
        degrees = error**4 / below if below else len(a) + len(b) - 2
        return cls._t(mean, error, degrees, len(a), len(b))

    @classmethod
    def _t(
        cls,
        mean: float,
        error: float,
        degrees: float,
        seeds: int,
        other_seeds: int | None = None,
    ) -> Difference:
        """A mean with a standard error of so many degrees of freedom."""
        reach = t_quantile(degrees) * error
        p = t_test(mean / error, degrees) if error else float(mean == 0)
        return cls(mean, mean - reach, mean + reach, seeds, p, other_seeds)

    def over(self, whole: float) -> Difference:
        """The difference as a share of ``whole``, which counts as known exactly."""
        if self.low is None or self.high is None:
            return replace(self, mean=self.mean / whole)
        low, high = sorted((self.low / whole, self.high / whole))
        return replace(self, mean=self.mean / whole, low=low, high=high)

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
        others = "" if self.other_seeds is None else f" and {self.other_seeds}"
        return f"{signed(self.mean)} {interval}, {self.seeds}{others} seeds"


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p values: the k-th smallest times m − k + 1, never falling.

    Example:
        >>> [round(p, 3) for p in holm([0.02, 0.01, 0.5])]
        [0.04, 0.03, 0.5]
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for k, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - k) * ps[i]))
        adjusted[i] = largest
    return adjusted


def verdicts(family: Mapping[str, Difference | None]) -> dict[str, str]:
    """What is known of each question of a family: the rule of this file.

    ``settled``, ``suggestive``, ``open``, ``one seed`` (no interval) or ``not
    measured`` (no difference). Only questions with an interval count for Holm's
    correction.

    Example:
        >>> one = Difference.of([1.0, 1.3, 1.1])
        >>> verdicts({"a": one, "b": Difference.of([1.0, -1.0]), "c": None})
        {'a': 'settled', 'b': 'open', 'c': 'not measured'}
        >>> verdicts({str(k): one for k in range(9)})["0"]
        'suggestive'
    """
    asked = {key: d.p for key, d in family.items() if d and d.p is not None}
    adjusted = dict(zip(asked, holm(list(asked.values())), strict=True))

    def verdict(key: str, d: Difference | None) -> str:
        if d is None:
            return "not measured"
        if d.p is None:
            return "one seed"
        if adjusted[key] <= 1 - LEVEL:
            return "settled"
        return "suggestive" if d.p <= 1 - LEVEL else "open"

    return {key: verdict(key, d) for key, d in family.items()}


def signed(value: float | None) -> str:
    """Two decimals with their sign.

    Example:
        >>> signed(-0.5)
        '−0.50'
    """
    return "" if value is None else f"{value:+.2f}".replace("-", "−")
