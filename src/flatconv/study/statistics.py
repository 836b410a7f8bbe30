"""Intervals. Every verdict stands on one of these, never on a single run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

from flatconv.errors import MissingExtraError
from flatconv.findings import Estimate

DRAWS = 10_000


def mean(name: str, values: Sequence[float], unit: str = "", level: float = 0.95) -> Estimate:
    """The mean with Student's interval: ``x̄ ± t·s/√n``.

    For values of independent runs (seeds), whose distribution is not far from normal. One value has no interval: it is
    infinitely wide.
    """
    n = len(values)
    value = statistics.fmean(values)
    if n < 2:
        return Estimate(name, value, -math.inf, math.inf, unit, n, level)
    half = _student(n - 1, level) * statistics.stdev(values) / math.sqrt(n)
    return Estimate(name, value, value - half, value + half, unit, n, level)


def difference(name: str, a: Sequence[float], b: Sequence[float], unit: str = "", level: float = 0.95) -> Estimate:
    """The mean of ``a − b``, paired: the i-th of both were run with the same seed and data."""
    return mean(name, [x - y for x, y in zip(a, b, strict=True)], unit, level)


def median(name: str, values: Sequence[float], unit: str = "", level: float = 0.95) -> Estimate:
    """The median with the percentile interval of the bootstrap (Efron, 1979). For times and their ratios."""
    held = np.asarray(values, dtype=np.float64)
    if len(held) < 2:
        return Estimate(name, float(np.median(held)), -math.inf, math.inf, unit, len(held), level)
    drawn = np.random.default_rng(0).choice(held, (DRAWS, len(held)))
    low, high = np.quantile(np.median(drawn, axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(name, float(np.median(held)), float(low), float(high), unit, len(held), level)


def share(name: str, successes: int, n: int, level: float = 0.95) -> Estimate:
    """How often something happened, with the exact interval (Clopper and Pearson, 1934).

    It never ends in a point: 20 of 20 leaves room for a true share of 83 %. No trial at all leaves everything open.
    """
    if not n:
        return Estimate(name, math.nan, 0.0, 1.0, "", 0, level)
    try:
        from scipy.stats import beta
    except ImportError as e:
        raise MissingExtraError("scipy", "study", "flatconv study") from e
    rest = (1 - level) / 2
    low = float(beta.ppf(rest, successes, n - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - rest, successes + 1, n - successes)) if successes < n else 1.0
    return Estimate(name, successes / n, low, high, "", n, level)


def _student(freedom: int, level: float) -> float:
    try:
        from scipy.stats import t
    except ImportError as e:
        raise MissingExtraError("scipy", "study", "flatconv study") from e
    return float(t.ppf((1 + level) / 2, freedom))
