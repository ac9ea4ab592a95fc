"""What a validation curve predicts for a longer training: a law, not a result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["PowerLaw", "forecast"]

EXPONENTS = np.arange(10, 301) / 100
STARTS = (0.2, 0.4)  # the parts of a curve that are left out, at its left end
LEAST = 5  # points for three numbers


@dataclass(frozen=True)
class PowerLaw:
    r"""v(e) = a + b e^{−c} with b ≥ 0: the bound (nats) after e epochs.

    ``a`` is where it would end, ``b`` (nats) what is lost after one epoch, ``c`` in
    [0.1, 3] how fast that goes, and ``rms`` (nats) what the law leaves of the curve.
    """

    a: float
    b: float
    c: float
    rms: float

    @classmethod
    def fit(cls, epochs: Sequence[float], values: Sequence[float]) -> PowerLaw:
        """Least squares: for each c of a grid, a and b are those of a line in e^{−c}.

        A curve that does not fall has b = 0 and its mean for a.

        Args:
            epochs: at least five, positive.
            values: bounds in nats, one per epoch.

        Raises:
            ValueError: for fewer points, an epoch that is not positive, or a value
                that is not finite.

        Example:
            >>> law = PowerLaw.fit([1, 2, 4, 8, 16], [90, 85, 82.5, 81.25, 80.625])
            >>> round(law.a, 1), round(law.b, 1), round(law.c, 2)
            (80.0, 10.0, 1.0)
        """
        e, v = np.asarray(epochs, float), np.asarray(values, float)
        if len(e) < LEAST or len(e) != len(v) or e.min() <= 0:
            raise ValueError(
                f"epochs: {len(e)} for {len(v)} values; a law needs {LEAST} or more, "
                "all positive"
            )
        if not np.isfinite(v).all():
            raise ValueError(f"values: {v[~np.isfinite(v)][0]} given, allowed: finite")
        x = e ** -EXPONENTS[:, None]  # (c, point)
        dx, dv = x - x.mean(1, keepdims=True), v - v.mean()
        b = np.maximum((dx * dv).sum(1) / (dx**2).sum(1), 0)
        mean_square = ((dv - b[:, None] * dx) ** 2).mean(1)
        best = int(mean_square.argmin())
        return cls(
            a=float(v.mean() - b[best] * x[best].mean()),
            b=float(b[best]),
            c=float(EXPONENTS[best]),
            rms=float(mean_square[best] ** 0.5),
        )

    def at(self, epochs: float) -> float:
        """The law after so many epochs; nats."""
        return self.a + self.b * epochs**-self.c


def forecast(
    curve: Sequence[Mapping[str, float]], epochs: float
) -> tuple[float, float] | None:
    """The validation bound that a curve predicts after ``epochs``: lowest, highest.

    One law is fitted to the curve without its first fifth, one without its first two
    fifths. That the two differ is the least that is unknown. The learning rate of a
    training that has ended has gone to zero, so its curve is flat at its right end; a
    longer training would still be falling there, and the laws do not know it.

    Args:
        curve: a record's ``curve``, with ``epoch`` and ``valid``; epochs without a
            finite one do not count.
        epochs: of the longer training.

    Returns:
        nats, or None where fewer than five points are left.

    Example:
        >>> curve = [{"epoch": e, "valid": 80 + 10 / e} for e in range(1, 11)]
        >>> [round(v, 2) for v in forecast(curve, 100)]
        [80.1, 80.1]
    """
    curve = [
        p
        for p in curve
        if math.isfinite(math.nan if p["valid"] is None else p["valid"])
    ]
    predicted = []
    for start in STARTS:
        part = [p for p in curve if p["epoch"] > start * curve[-1]["epoch"]]
        if len(part) >= LEAST:
            law = PowerLaw.fit([p["epoch"] for p in part], [p["valid"] for p in part])
            predicted.append(law.at(epochs))
    return (min(predicted), max(predicted)) if predicted else None
