"""Ratios of cost become a verdict by their intervals alone."""

import pytest

from flatconv.findings import Estimate
from flatconv.study import ratios
from flatconv.study.layers import Chain
from flatconv.study.timing import Cell, Costs, Weight, Work

ABOVE, BELOW, OPEN, EDGE = (1.2, 3.0), (0.5, 1.0), (1.05, 1.3), (1.0, 1.1)


def made(*intervals):
    return [Estimate("made up", (low + high) / 2, low, high) for low, high in intervals]


@pytest.mark.parametrize(
    ("intervals", "verdict"),
    [
        ((ABOVE, ABOVE), "confirmed"),
        ((BELOW, BELOW), "refuted"),
        ((BELOW, EDGE), "refuted"),
        ((ABOVE, BELOW), "corrected"),
        ((ABOVE, BELOW, OPEN), "corrected"),
        ((ABOVE, OPEN), "undecided"),
        ((BELOW, OPEN), "undecided"),
        ((OPEN,), "undecided"),
        ((), "undecided"),
    ],
)
def test_verdict(intervals, verdict):
    assert ratios.judge(made(*intervals), 1.1) == verdict


def cells():
    a, b = Chain((3, 8), 16), Chain((8, 8), 16)
    slow, fast = {"direct": (2.0, 2.2, 2.1), "2-D": (1.0, 1.0, 1.0)}, {"direct": (1.0,) * 3, "2-D": (1.0, 1.01, 1.02)}
    work = Work(a, 300, 100, 100)
    weights = (Weight(a, "eager", 1, 3 * 2**20, 2**20),)
    return Costs(
        (work,),
        (Cell(a, "eager", 1, slow), Cell(b, "eager", 1, slow), Cell(a, "eager", 4, fast), Cell(b, "eager", 4, slow)),
        weights,
        ("An engine is missing.",),
        0.25,
    )


def test_the_level_grows_with_the_number_of_cells():
    found = ratios.ratios(cells(), "direct")
    assert [r.estimate.level for r in found] == [pytest.approx(1 - 0.05 / 4)] * 4
    assert [r.estimate.value for r in found] == [pytest.approx(v) for v in (2.1, 2.1, 1 / 1.01, 2.1)]
    assert not ratios.ratios(cells(), "folded")


def test_sentences_name_the_exceptions():
    found = ratios.ratios(cells(), "direct")
    assert ratios.summary(found, 1.1).startswith("In 3 of 4 combinations")
    assert ratios.exceptions(found, 1.1) == "Not above it: PyTorch eager at batch 4 (1 of 2 networks)."
    assert ratios.exceptions(found[:2], 1.1) == ""
    assert ratios.summary((), 1.1) == "No ratio was measured."


def test_charts_have_a_group_for_each_batch_size():
    (chart,) = ratios.charts(ratios.ratios(cells(), "direct"), "Title")
    assert [s.name for s in chart.series] == ["batch 1", "batch 4"]
    assert chart.series[1].x == ("3→8, 16²", "8→8, 16²")
    assert all(low <= y <= high for s in chart.series for low, y, high in zip(s.low, s.y, s.high, strict=True))


def test_tables():
    work, times, memory = ratios.tables(cells(), ratios.ratios(cells(), "direct"))
    assert work.rows == (("3→8, 16²", 300, 100, 100, 3.0),)
    assert times.rows[0][4:6] == (pytest.approx(2100.0), pytest.approx(1000.0))
    assert memory.rows[0][-1] == 3.0
    assert all(len(row) == len(t.columns) for t in (work, times, memory) for row in t.rows)


def test_notes_tell_what_disturbed_and_what_is_missing():
    told = ratios.notes(cells(), 2)
    assert any("25%" in words for words in told)
    assert told[-1] == "An engine is missing."
