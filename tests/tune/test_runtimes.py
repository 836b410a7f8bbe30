"""Forms for runtimes that read ONNX files: what is taken, on made-up times, and what is run for real."""

import tempfile

import pytest
import torch
from torch import nn

import flatconv
from flatconv import onnx_in, runtimes
from flatconv.bench import QUICK, run
from flatconv.tune import running
from flatconv.tune import search as room
from tests.bench import made
from tests.expected import filled, sample
from tests.tune.test_search import FAST, SLOW, World, forms_of

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
PATCHES = ("patches to a matrix product", False)
NATIVE = ("as it is", False)


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(room.Running, "original", lambda runner: lambda: None)
    return World(monkeypatch)


def patches():
    return filled(nn.Sequential(nn.Conv3d(2, 4, (2, 4, 4), stride=(2, 4, 4)), nn.ReLU())).float()


def fold(model=None, x=None, engine="onnxruntime", **settings):
    x = sample(1, 2, 4, 8, 8).float() if x is None else x
    return flatconv.fold(model or patches(), (x,), tune=flatconv.Tuning(engine, **settings))


def test_the_fixed_choice_of_runtimes_is_tried_first(world):
    flat = fold()
    assert forms_of(flat) == ["patches to a matrix product"]
    assert flat.report.tuned.chosen == "fixed"
    assert {t.name for t in flat.report.tuned.trials} == {"as captured", "fixed"}


def test_a_slow_candidate_is_never_kept(world):
    world.cost = {PATCHES: SLOW}
    flat = fold()
    assert forms_of(flat) == ["as it is"]
    assert flat.report.tuned.chosen == "as captured"


def test_where_there_is_no_other_form_nothing_is_chosen(world):
    flat = fold(filled(nn.Conv3d(2, 4, 3, padding=1)).float())
    assert flat.report.tuned.chosen == "as captured"
    assert len(flat.report.tuned.trials) == 1
    assert "no other form" in flat.report.tuned.reason


def test_the_original_stays_where_it_wins(world):
    world.original = world.captured = 0.5
    flat = fold(filled(nn.Conv3d(2, 4, 3, padding=1)).float(), sample(1, 2, 1, 8, 8).float())
    assert flat.report.tuned.chosen == "as captured"
    assert "the original wins" in flat.report.tuned.reason
    assert any("conv3d" in str(n.target) for n in flat.graph.nodes)


def test_a_form_that_only_views_is_tried_and_may_win(world):
    # The pointwise axes of a (1, 1, 3) kernel are one for PyTorch; runtimes may have a kernel for three, or not.
    model = filled(nn.Conv3d(2, 4, (1, 1, 3), padding=(0, 0, 1))).float()
    assert forms_of(fold(model)) == ["as it is"]
    world.cost = {("pointwise axes as one", False): FAST}
    flat = fold(model, cache=False)
    assert forms_of(flat) == ["pointwise axes as one"]
    assert flat.report.tuned.chosen == "nothing copied"


def test_forms_that_copy_and_memory_formats_are_not_tried(world):
    world.cost = {("sum of slices", False): FAST, ("as it is", True): FAST}
    model = filled(nn.Conv3d(2, 4, 3, padding=1)).float()
    assert forms_of(fold(model)) == ["as it is"]


def test_what_cannot_be_written_is_left_out(world, monkeypatch):
    honest = world.program

    def program(analysis):
        call = honest(analysis)
        if any(s.applied for s in analysis.sites.values()):

            def fails():
                raise RuntimeError("no such operator in ONNX")

            return fails
        return call

    monkeypatch.setattr(room._Search, "_program", lambda search, analysis: program(analysis))
    x = sample(1, 2, 1, 8, 8).float()
    flat = fold(filled(nn.Conv3d(2, 4, 3, padding=1)).float(), x)
    assert flat.report.tuned.chosen == "as captured"
    assert forms_of(flat) == ["as it is"]
    assert all(not s.rule for s in flat.report.sites)


def test_other_versions_are_another_key(world, monkeypatch):
    fold()
    timed = len(world.timed)
    assert fold().report.tuned.cached
    monkeypatch.setattr(running.metadata, "version", lambda name: "0.0.1")
    assert not fold().report.tuned.cached
    assert len(world.timed) > timed


# --- for real


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_real_times(engine, tmp_path, monkeypatch):
    pytest.importorskip(engine)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    x = sample(1, 2, 1, 8, 9).float()
    flat = fold(filled(nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.Tanh())).float(), x, engine, budget=20.0)
    tuned = flat.report.tuned
    assert tuned.engine == engine
    assert tuned.original > 0
    assert {"as captured", "fixed"} <= {t.name for t in tuned.trials}
    assert all(t.peak is None for t in tuned.trials)
    assert {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}[engine] in str(flat.report)
    assert not list(tmp_path.iterdir())


def test_a_network_from_a_file_is_held_against_that_file(tmp_path, monkeypatch):
    path = tmp_path / "network.onnx"
    x = sample(1, 2, 1, 8, 9).float()
    runtimes.to_onnx(filled(nn.Conv3d(2, 4, 3, padding=1)).float(), (x,), path)
    ran = []
    honest = runtimes.onnxruntime
    monkeypatch.setattr(runtimes, "onnxruntime", lambda place, *rest: ran.append(place) or honest(place, *rest))
    model = onnx_in.load(path)
    fold(model, x, budget=1.0)
    assert path in ran
    assert len(set(ran)) >= 3  # and the captured program and a fold, each in a file of its own
    ran.clear()
    run(
        flatconv.bench.Case(model, (x,), verify=False),
        QUICK.__class__(engines=("onnxruntime",), least=1, most=1, tune=0.0),
    )
    assert ran.count(path) == 1


def test_an_original_that_does_not_run_there_is_refused():
    class Dated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(2, 4, 3, padding=1)

        def forward(self, x):
            return torch.fft.fft(self.conv(x)).imag.digamma()

    with pytest.raises(flatconv.RefusedError, match=r"does not run the original.*Tuning\('onnx'\)"):
        fold(Dated().eval(), sample(1, 2, 1, 8, 9).float())


def test_modes_of_parts_are_left_as_they_are():
    # A part in train mode is a part of what was captured, and export must not switch it.
    model = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4)).eval()
    model[0].train()
    fold(model, sample(1, 2, 1, 8, 9).float(), budget=1.0)
    assert model[0].training


def test_a_benchmark_chooses_for_each_engine():
    plan = flatconv.bench.Plan(engines=("eager", "onnxruntime"), threads=1, warmup=1, least=1, most=1, tune=0.5)
    told = []
    found = run(made.case(), plan, doing=lambda words, work: told.append(words) or work())
    assert "folding for PyTorch eager" in told
    assert "folding for ONNX Runtime" in told
    assert all(s.seconds for row in found.rows for s in row.sides), found.rows
    assert all(row.chosen for row in found.rows)


def test_a_benchmark_goes_on_where_forms_cannot_be_timed(monkeypatch):
    def refused(*given):
        raise flatconv.RefusedError("it does not run there")

    monkeypatch.setattr(room.Running, "original", refused)
    plan = flatconv.bench.Plan(engines=("onnxruntime",), threads=1, warmup=1, least=1, most=1, tune=0.5)
    (row,) = run(made.case(), plan).rows
    assert row.side("folded").seconds
    assert row.chosen == "fixed"
