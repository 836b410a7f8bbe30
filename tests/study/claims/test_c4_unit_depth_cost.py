"""C4: numbers to a verdict, and the quick form runs."""

import json

import pytest

from flatconv.findings import Estimate
from flatconv.study.claims import c4_unit_depth_cost as c4
from flatconv.study.timing import Cell, Costs


def made(*intervals):
    return [Estimate("made up", low, low, high) for low, high in intervals]


@pytest.mark.parametrize(
    ("intervals", "verdict"),
    [
        (((1.2, 2), (3, 4)), "confirmed"),
        (((0.9, 1.1), (0.5, 0.6)), "refuted"),
        (((1.2, 2), (0.9, 1.0)), "corrected"),
        (((0.9, 1.0), (1.0, 1.2)), "undecided"),
    ],
)
def test_verdict(intervals, verdict):
    assert c4.judge(made(*intervals), 1.1) == verdict


def test_quick():
    found = c4.run(c4.QUICK, lambda words: None)
    assert {e.value for e in found.estimates if e.name.startswith("multiply-adds")} == {1.0}
    assert sum(e.name.startswith("time, direct") for e in found.estimates) == 2
    assert sum(e.name.startswith("time, folded") for e in found.estimates) == 2
    assert any(words.startswith("Folded:") for words in found.notes)
    json.dumps(found.to_dict())


def test_the_fold_does_not_enter_the_verdict():
    fast = {"direct": (1.0,) * 5, "2-D": (1.0,) * 5, "folded": (9.0,) * 5}
    chain = c4.QUICK.chains[0]
    measured = Costs((), (Cell(chain, "eager", 1, fast),), (), (), None)
    assert c4.result(c4.QUICK, measured).verdict == "refuted"
