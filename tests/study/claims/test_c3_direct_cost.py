"""C3: numbers to a verdict, and the quick form runs."""

import json

import pytest

from flatconv.findings import Estimate
from flatconv.study.claims import c3_direct_cost as c3


def made(*intervals):
    return [Estimate("made up", low, low, high) for low, high in intervals]


@pytest.mark.parametrize(
    ("intervals", "verdict"),
    [
        (((1.2, 2), (3, 4)), "confirmed"),
        (((0.9, 1.1), (0.5, 0.6)), "refuted"),
        (((1.2, 2), (0.9, 1.0)), "corrected"),
        (((1.2, 2), (1.0, 1.2)), "undecided"),
    ],
)
def test_verdict(intervals, verdict):
    assert c3.judge(made(*intervals), 1.1) == verdict


def test_quick():
    found = c3.run(c3.QUICK, lambda words: None)
    assert {e.value for e in found.estimates if e.name.startswith("multiply-adds")} == {3.0}
    assert sum(e.name.startswith("time") for e in found.estimates) == 4
    assert found.charts
    assert found.finding.startswith("Direct 3-D does 3 times the multiply-adds of 2-D.")
    json.dumps(found.to_dict())


def test_all_three_engines_and_batch_sizes_are_in_the_measurement():
    assert set(c3.FULL.engines) == {"eager", "compile", "onnxruntime"}
    assert c3.FULL.batches == (1, 4, 16)
    assert {c3.FULL.depth} == {3}
    assert any(len(c.channels) == 5 for c in c3.FULL.chains)
