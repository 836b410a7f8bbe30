"""The verdict follows from the intervals alone; the experiment runs and says what it promises."""

import dataclasses
import math

import pytest
import torch

from flatconv.findings import Estimate
from flatconv.study.claims import c5_accuracy as c5
from flatconv.study.towers import VARIANTS, Beginning

torch.set_num_threads(1)
MARGIN = 0.01


def estimate(low, high):
    return Estimate("made up", (low + high) / 2, low, high, n=8)


@pytest.mark.parametrize(
    ("normed", "plain", "verdict"),
    [
        ((-0.05, -0.02), (-0.09, -0.04), "confirmed"),
        ((-0.005, 0.005), (-0.09, -0.04), "corrected"),
        ((0.002, 0.03), (-0.09, -0.011), "corrected"),
        ((-0.05, -0.02), (-0.005, 0.005), "corrected"),
        ((-0.005, 0.005), (-0.009, 0.02), "refuted"),
        ((0.01, 0.02), (0.02, 0.03), "refuted"),
        ((-0.02, 0.005), (-0.09, -0.04), "undecided"),
        ((-0.005, 0.005), (-0.03, -0.005), "undecided"),
        ((-math.inf, math.inf), (-math.inf, math.inf), "undecided"),
        # An end on the margin decides nothing.
        ((-0.01, 0.02), (-0.09, -0.04), "undecided"),
    ],
)
def test_judge(normed, plain, verdict):
    assert c5.judge(estimate(*normed), estimate(*plain), MARGIN) == verdict


def cell(norm, layers, losses, runs=8):
    """Made up: direct 3-D loses so much to 2-D, the others nothing."""
    base = [0.9 + 0.001 * i for i in range(runs)]
    accuracy = {v: list(base) for v in VARIANTS}
    accuracy["direct 3-D"] = [a - x for a, x in zip(base, losses, strict=True)]
    start = {v: Beginning(torch.full((layers, runs), 0.5), torch.ones(layers, runs)) for v in VARIANTS}
    steps = {v: [math.inf] * (runs - 1) + [16.0] for v in VARIANTS}
    return c5.Cell("digits", layers, norm, "adamw", accuracy, steps, start)


def result(plain, normed=0.0):
    spread = [0.001 * (i % 3) for i in range(8)]
    cells = [cell(norm, n, [x + s for s in spread]) for n in (2, 4) for norm, x in ((True, normed), (False, plain))]
    return c5._result(dataclasses.replace(c5.FULL, sets=(c5.Images("digits", (2, 4), 0.9),)), cells, [], 1e-15)


def test_the_verdict_is_the_rule_on_the_estimates():
    found = result(plain=0.05)
    assert found.verdict == "corrected"
    values = {e.name: e for e in found.estimates}
    lost = values["accuracy of direct 3-D less 2-D, without norm"]
    assert lost.value == pytest.approx(-0.05 - 0.001 * 7 / 8)
    assert lost.n == 8
    assert values["accuracy of corrected 3-D less 2-D, without norm"].value == 0
    assert f"{100 * lost.value:+.1f}" in found.finding
    assert result(plain=0.05, normed=0.05).verdict == "confirmed"
    assert result(plain=0.0).verdict == "refuted"


def test_tables_and_charts():
    found = result(plain=0.05)
    for table in found.tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert len(table.rows) == 4
    assert {c.kind for c in found.charts} == {"lines"}
    assert len(found.charts) == 4
    for chart in found.charts:
        assert [s.name for s in chart.series] == list(VARIANTS)
        assert all(len(s.x) == len(s.y) for s in chart.series)
    assert found.charts[0].reference == (0.1, "chance")
    # Seven of eight runs never got there: the median is beyond the budget, and is not made up.
    assert found.tables[2].rows[0][-1] == "1 of 8, –"


def test_quick():
    pytest.importorskip("sklearn")
    pytest.importorskip("skimage")
    small = dataclasses.replace(c5.QUICK, sets=(c5.Images("digits", (2,), 0.1), c5.Images("textures", (2,), 0.3)))
    told = []
    found = c5.run(small, told.append)
    assert told[0] == "digits: 2 layers with norm"
    assert found.verdict in ("confirmed", "corrected", "refuted", "undecided")
    assert all(0 <= e.value <= 1 for e in (row[4] for row in found.tables[0].rows))
    # From the same seed, unit depth draws the weights of 2-D and learns the same.
    unit = [e for e in found.estimates if "unit depth" in e.name]
    assert len(unit) == 2
    assert all(abs(e.value) < 0.02 for e in unit)
    first = {row[:3]: row for row in found.tables[1].rows}[("digits", 2, "without norm")]
    flat, direct, corrected = first[3:6]
    assert direct < 0.6 * flat
    assert corrected > 0.6 * flat


@pytest.mark.parametrize("norm", [True, False])
def test_from_the_same_live_weights_training_is_the_same(norm):
    pytest.importorskip("sklearn")
    assert c5._apart(c5.QUICK, norm) < 1e-9


def test_the_configurations_can_be_written_down():
    for config in (c5.FULL, c5.QUICK):
        assert dataclasses.asdict(config)["seeds"]
    assert len(c5.FULL.seeds) >= 7
    assert len(c5.FULL.sets) >= 2
