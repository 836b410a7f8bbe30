"""Numbers: medians, quartiles, ratios within a round, and everything written out."""

import json

import pytest

from flatconv.bench import Summary
from flatconv.report.jsonview import dumps
from tests.bench import made


def test_summary():
    found = Summary.of([4.0, 1.0, 3.0, 2.0, 10.0])
    assert (found.median, found.q1, found.q3, found.low, found.high, found.n) == (3.0, 2.0, 4.0, 1.0, 10.0, 5)
    one = Summary.of([2.0])
    assert (one.median, one.q1, one.q3, one.n) == (2.0, 2.0, 2.0, 1)


def test_ratios_are_within_a_round():
    row = made.bench().row("eager")
    assert row.ratio("original", "folded").median == pytest.approx(4.0)
    assert row.ratio("original", "folded").low == pytest.approx(3.0)
    assert row.ratio("folded", "original").median == pytest.approx(0.25)
    assert row.ratio("original", "none") is None
    assert made.bench().row("compile").ratio("original", "folded") is None
    assert made.bench().row("onnxruntime") is None


def test_everything_is_written_out():
    found = json.loads(dumps(made.bench().to_dict()))
    eager, compiled, missing = found["rows"]
    assert eager["ratios"].keys() == {"original/folded", "original/reference", "folded/reference"}
    assert eager["ratios"]["original/folded"]["median"] == pytest.approx(4.0)
    assert eager["sides"][0]["time"]["median"] == 0.5
    assert eager["sides"][0]["seconds"] == [0.4, 0.6, 0.5]
    assert compiled["ratios"] == {}
    assert compiled["sides"][1]["time"] is None
    assert "not the original's" in compiled["sides"][1]["why_not"]
    assert missing["why_not"] == "plain is not installed"
    assert found["peak_memory"]["reference"] is None
    assert found["environment"]["torch"] == "2.13.0"


def test_sides_and_pairs():
    assert made.bench().pairs == (("original", "folded"), ("original", "reference"), ("folded", "reference"))
    two = made.bench(weights={"original": 2, "folded": 1})
    assert two.sides == ("original", "folded")
    assert two.pairs == (("original", "folded"),)
