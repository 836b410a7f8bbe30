"""A run: every side that computes the same is timed, and every other has a reason."""

import dataclasses
import sys

import pytest
import torch
from torch import nn

from flatconv import measure
from flatconv.bench import QUICK, Case, engines, run
from flatconv.errors import InputError, RefusedError
from tests.bench import made

EAGER = dataclasses.replace(QUICK, engines=("eager",), threads=1)


def test_all_sides_in_eager():
    told = []

    def doing(words, work):
        told.append(words)
        return work()

    found = run(made.case(verify=True), EAGER, doing=doing, peak={"original": 30, "folded": 10, "reference": None}.get)
    (row,) = found.rows
    assert [s.side for s in row.sides] == ["original", "folded", "reference"]
    for side in row.sides:
        assert len(side.seconds) == 2
        assert side.time.median > 0
        assert side.error <= found.tolerance
        assert not side.why_not
    assert row.ratio("original", "folded").n == 2
    assert found.compared == "float64"
    assert found.weights["folded"] * 2 < found.weights["original"]
    assert found.peak_memory == {"original": 30, "folded": 10, "reference": None}
    assert found.settings["threads"] == 1
    assert found.settings["dtype"] == "float32"
    assert found.environment["threads"] == "1"
    assert found.inputs == (("x", (1, 3, 1, 9, 10), "float32"),)
    assert told == [
        "folding and verifying",
        "running the original in float64",
        "timing in PyTorch eager",
        "peak memory of the original",
        "peak memory of the folded",
        "peak memory of the reference",
    ]


def test_compiled_sides_agree():
    found = run(made.case(), dataclasses.replace(EAGER, engines=("compile",)))
    (row,) = found.rows
    if row.sides and "compiler" in row.sides[0].why_not:
        pytest.skip("no C++ compiler")
    assert all(s.seconds and s.prepared > 0 for s in row.sides), [s.why_not for s in row.sides]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_types(dtype):
    found = run(made.case(), dataclasses.replace(EAGER, dtype=dtype))
    assert found.settings["dtype"] == dtype
    assert all(s.seconds for s in found.rows[0].sides)


def test_a_side_that_computes_something_else_is_not_timed():
    found = run(made.case(tap=0), EAGER)
    original, folded, reference = found.rows[0].sides
    assert original.seconds
    assert folded.seconds
    assert not reference.seconds
    assert reference.error > found.tolerance
    assert "not the original's" in reference.why_not
    assert found.rows[0].ratio("folded", "reference") is None


def test_a_reference_that_fails_has_the_reason():
    class Fails(nn.Module):
        def forward(self, x):
            raise ValueError("not today")

    found = run(Case(made.Taps().eval(), (made.image(),), reference=Fails()), EAGER)
    assert "ValueError: not today" in found.rows[0].side("reference").why_not
    assert found.rows[0].side("folded").seconds


def test_engines_that_cannot_be_asked_are_rows(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = run(made.case(), dataclasses.replace(EAGER, engines=("onnxruntime", "openvino", "eager"), dtype="bfloat16"))
    first, second, eager = found.rows
    assert "bfloat16" in first.why_not
    assert "float32" in second.why_not
    assert eager.sides
    found = run(made.case(), dataclasses.replace(EAGER, engines=("onnxruntime",)))
    assert "'onnxruntime'" in found.rows[0].why_not


def test_an_engine_that_breaks_does_not_stop_the_others(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no kernels")

    monkeypatch.setattr(engines, "forget", broken)
    found = run(made.case(), EAGER)
    assert found.rows[0].why_not == "RuntimeError: no kernels"


def test_a_device_is_waited_for():
    done = []
    calls = (lambda: done.append("call"),)
    measure.alternate(calls, 0.0, least=2, most=2, settle=lambda: done.append("settle"))
    assert done == ["settle", "call", "settle"] * 3


def test_errors_are_those_of_a_fold():
    class Branch(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(RefusedError):
        run(Case(Branch(), (made.image(),)), EAGER)
    with pytest.raises(InputError):
        run(Case(made.Taps(), (torch.randn(1, 5, 1, 4, 4),)), EAGER)


def test_threads_are_put_back():
    before = torch.get_num_threads()
    run(made.case(), dataclasses.replace(EAGER, threads=before + 1))
    assert torch.get_num_threads() == before
