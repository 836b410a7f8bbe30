"""C6: the rule of the verdict, and the experiment in small."""

import math

import pytest

from flatconv.findings import Estimate
from flatconv.study.claims import c6_time as c6
from flatconv.study.networks import BUDGETS, READINGS, Shape, cost

CHANCE, ABOVE, WIDE, LITTLE = (-0.03, 0.03), (0.4, 0.6), (-0.1, 0.4), (0.01, 0.2)


def given(*intervals):
    return [Estimate("", (low + high) / 2, low, high, n=6) for low, high in intervals]


@pytest.mark.parametrize(
    ("blind", "volume", "channels", "verdict"),
    [
        ([CHANCE, CHANCE], [ABOVE, ABOVE], [CHANCE, CHANCE], "confirmed"),
        ([CHANCE, CHANCE], [ABOVE, ABOVE], [ABOVE, ABOVE], "corrected"),
        ([CHANCE, CHANCE], [ABOVE, ABOVE], [CHANCE, ABOVE], "corrected"),
        ([CHANCE, CHANCE], [CHANCE, CHANCE], [ABOVE, ABOVE], "refuted"),
        ([CHANCE, LITTLE], [ABOVE, ABOVE], [ABOVE, ABOVE], "undecided"),  # one frame says something: the task leaks
        ([CHANCE, CHANCE], [ABOVE, WIDE], [ABOVE, ABOVE], "undecided"),  # Conv3d may be at chance
        ([CHANCE, CHANCE], [ABOVE, ABOVE], [CHANCE, WIDE], "undecided"),  # Conv2d may see something
        ([CHANCE, CHANCE], [ABOVE, ABOVE], [CHANCE, LITTLE], "undecided"),  # … or too little to count
    ],
)
def test_verdict(blind, volume, channels, verdict):
    assert c6.judge(given(*blind), given(*volume), given(*channels)) == verdict


def test_networks_cost_the_same_at_each_budget():
    shape = Shape(7, 24, 8)
    wanted = cost("3-D", c6.FULL.width, shape)
    for (reading, budget), width in c6._widths(c6.FULL.width, shape).items():
        assert abs(cost(reading, width, shape).of(budget) / wanted.of(budget) - 1) < c6.CLOSE


def test_the_experiment_in_small():
    for package in ("skimage", "skvideo", "av", "scipy"):
        pytest.importorskip(package)
    told = []
    result = c6.run(c6.QUICK, told.append)
    situations = [s for task in c6.QUICK.tasks for s in task.situations]
    assert len(told) == len(c6.QUICK.tasks) * len(c6.QUICK.seeds)
    accuracy, differences = result.tables
    assert len(accuracy.rows) == len(situations) * len(READINGS) * len(BUDGETS)
    assert len(differences.rows) == len(situations) * len(BUDGETS)
    assert all(len(row) == len(t.columns) for t in result.tables for row in t.rows)
    assert all(e.low <= e.value <= e.high and math.isfinite(e.value) for e in result.estimates)
    assert [len(s.y) for s in result.charts[0].series] == [len(READINGS)] * len(situations)
    assert result.finding
    blind = [e for e in result.estimates if e.name.startswith("one frame")]
    assert {e.level for e in blind} == {1 - 0.05 / len(blind)}
