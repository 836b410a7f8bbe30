"""Intervals against published values and against how often they hold the truth."""

import math

import numpy as np
import pytest

from flatconv.study import statistics


def test_mean_with_students_interval():
    found = statistics.mean("x", [1.0, 2.0, 3.0, 4.0], "ms")
    half = 3.182446 * math.sqrt(5 / 3) / 2  # t of three degrees of freedom at 97.5 %
    assert (found.value, found.n, found.unit) == (2.5, 4, "ms")
    assert (found.low, found.high) == (pytest.approx(2.5 - half, rel=1e-6), pytest.approx(2.5 + half, rel=1e-6))


@pytest.mark.parametrize("of", [statistics.mean, statistics.median])
def test_one_value_has_no_interval(of):
    found = of("x", [3.0])
    assert (found.value, found.low, found.high) == (3.0, -math.inf, math.inf)


def test_differences_are_paired():
    found = statistics.difference("x", [10.0, 20.0, 30.0], [9.0, 19.0, 29.0])
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError):
        statistics.difference("x", [1.0], [1.0, 2.0])


def test_the_mean_of_normal_values_is_inside_as_often_as_it_says():
    draws = np.random.default_rng(1).normal(3, 2, (400, 5))
    inside = [(e := statistics.mean("x", row)).low <= 3 <= e.high for row in draws.tolist()]
    assert (
        statistics.share("inside", sum(inside), 400, level=0.999).low
        < 0.95
        < statistics.share("inside", sum(inside), 400, level=0.999).high
    )


def test_the_median_does_not_follow_one_strange_value():
    found = statistics.median("x", [1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 1000.0])
    assert found.value == pytest.approx(1.01)
    assert 0.9 <= found.low <= found.value <= found.high < 1000
    assert found == statistics.median("x", [1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 1000.0])


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(20, 20, 0.8316, 1.0), (0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129)],
)
def test_share_as_in_the_tables_of_clopper_and_pearson(successes, n, low, high):
    found = statistics.share("x", successes, n)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_no_trial_leaves_everything_open():
    found = statistics.share("x", 0, 0)
    assert math.isnan(found.value)
    assert (found.low, found.high, found.n) == (0.0, 1.0, 0)
