"""A curve's forecast is the power law through its later part, and no more."""

from __future__ import annotations

import math

import numpy as np
import pytest

from drawlib.results.forecast import EXPONENTS, PowerLaw, forecast


def curve_of(law: PowerLaw, epochs: range) -> list[dict[str, float]]:
    """The points of a law."""
    return [{"epoch": float(e), "valid": law.at(e)} for e in epochs]


@pytest.mark.parametrize("k", [0, 90, 190, 290])
def test_a_power_law_is_found_again_from_its_points(k):
    law = PowerLaw(80.0, 30.0, float(EXPONENTS[k]), 0.0)
    epochs = list(range(3, 40, 2))
    found = PowerLaw.fit(epochs, [law.at(e) for e in epochs])
    assert found.c == law.c and found.rms < 1e-9
    assert found.a == pytest.approx(law.a, abs=1e-9)
    assert found.b == pytest.approx(law.b, abs=1e-9)
    assert found.at(300) == pytest.approx(80 + 30 * 300**-found.c, abs=1e-9)


def test_the_fit_is_the_least_squares_one():
    e = np.arange(2.0, 20.0)
    v = 90 + 25 / e + 0.3 * np.sin(5 * e)
    law = PowerLaw.fit(e.tolist(), v.tolist())
    left = law.a + law.b * e**-law.c - v
    assert law.rms == pytest.approx(math.sqrt(np.mean(left**2)))
    for a, b, c in np.random.default_rng(0).normal(0, 0.2, (200, 3)):
        other = (law.a + a) + (law.b + b) * e ** -(law.c + c)
        assert np.mean((other - v) ** 2) > law.rms**2 - 1e-4


def test_a_curve_that_rises_predicts_its_mean_and_never_more():
    law = PowerLaw.fit([1, 2, 3, 4, 5], [80, 81, 82, 83, 84])
    assert law.b == 0 and law.at(1000) == law.a == 82


def test_the_first_fifth_of_a_training_says_nothing():
    law = PowerLaw(80.0, 30.0, float(EXPONENTS[100]), 0.0)
    curve = curve_of(law, range(1, 31))
    expected = pytest.approx(law.at(300), abs=1e-6)
    assert forecast(curve, 300) == (expected, expected)
    for point in curve[:6]:
        point["valid"] = 206.0  # a plateau that was left
    assert forecast(curve, 300) == (expected, expected)
    curve[6]["valid"] += 5
    low, high = forecast(curve, 300)
    assert low < high == expected or high > low == expected


def test_too_few_points_predict_nothing():
    law = PowerLaw(80.0, 30.0, 1.0, 0.0)
    assert forecast([], 300) is None
    assert forecast(curve_of(law, range(1, 6)), 300) is None
    assert forecast(curve_of(law, range(1, 8)), 300) is not None
    with pytest.raises(ValueError, match="4 for 4 values; a law needs 5"):
        PowerLaw.fit([1, 2, 3, 4], [4, 3, 2, 1])
    with pytest.raises(ValueError, match="all positive"):
        PowerLaw.fit([0, 1, 2, 3, 4], [4, 3, 2, 1, 1])


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_an_epoch_without_a_finite_bound_does_not_count(bad):
    law = PowerLaw(80.0, 30.0, float(EXPONENTS[100]), 0.0)
    curve = curve_of(law, range(1, 31))
    curve[20]["valid"] = bad
    expected = pytest.approx(law.at(300), abs=1e-6)
    assert forecast(curve, 300) == (expected, expected)
    assert forecast([{"epoch": e, "valid": bad} for e in range(1, 31)], 300) is None
    if bad is not None:
        with pytest.raises(ValueError, match=f"values: {bad} given, allowed: finite"):
            PowerLaw.fit([1, 2, 3, 4, 5], [5, 4, bad, 3, 2])
