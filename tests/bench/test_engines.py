"""Every engine computes what the network computes; what is missing or does not apply is said."""

import sys

import pytest
import torch

from flatconv import runtimes
from flatconv.bench import ENGINES, Case, engines
from flatconv.bench.agreement import Agreement
from flatconv.errors import MissingExtraError
from tests.bench import made

PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino"}


def prepared(engine, side, folder):
    if engine in PACKAGES:
        pytest.importorskip(PACKAGES[engine])
        pytest.importorskip("onnxscript")
    return engines.prepare(engine, side, folder)


@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "compile"])  # test_run compiles
@pytest.mark.parametrize("name", ["original", "folded", "reference"])
def test_the_output_is_the_originals(engine, name, tmp_path):
    case = made.case()
    agreement = Agreement.of(case.side("original"), torch.float32)
    call = prepared(engine, case.side(name), tmp_path)
    with torch.inference_mode():
        assert agreement.error(call()) <= agreement.tolerance
        assert agreement.error(call()) <= agreement.tolerance


@pytest.mark.parametrize("engine", PACKAGES)
def test_several_inputs_and_outputs(engine, tmp_path):
    x = made.image()
    side = Case(made.Taps().eval(), (x,), {"y": x * 2}, "pair").side("original")
    call = prepared(engine, side, tmp_path)
    with torch.inference_mode():
        expected, (z, where) = side(), call()
    torch.testing.assert_close(z, expected["sum"])
    assert torch.equal(where.bool(), expected["where"])


def test_both_engines_read_one_file(tmp_path, monkeypatch):
    side = made.case().side("original")
    prepared("onnxruntime", side, tmp_path)
    monkeypatch.setattr(runtimes, "to_onnx", None)
    prepared("openvino", side, tmp_path)


def test_an_export_that_fails_leaves_no_file(tmp_path):
    class Odd(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    path = tmp_path / "odd.onnx"
    path.write_text("half")
    with pytest.raises(Exception, match=r".+"):
        runtimes.to_onnx(Odd(), [made.image()], path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("engine", "package"),
    [("onnxruntime", "onnxruntime"), ("onnxruntime", "onnx"), ("openvino", "openvino"), ("openvino", "onnxscript")],
)
def test_what_is_missing_is_named(engine, package, monkeypatch, tmp_path):
    for name in ("onnxruntime", "openvino", "onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    with pytest.raises(MissingExtraError, match=f"'{package}'.*flatconv\\[bench\\]"):
        engines.prepare(engine, made.case().side("original"), tmp_path)


@pytest.mark.parametrize(
    ("engine", "device", "dtype", "words"),
    [
        ("eager", "cuda", torch.float16, ""),
        ("compile", "cuda", torch.bfloat16, ""),
        ("onnxruntime", "cpu", torch.float32, ""),
        ("openvino", "cpu", torch.float32, ""),
        ("onnxruntime", "cuda", torch.float32, "CPU alone"),
        ("openvino", "cuda", torch.float32, "CPU alone"),
        ("onnxruntime", "cpu", torch.bfloat16, "bfloat16"),
        ("openvino", "cpu", torch.float16, "float32"),
    ],
)
def test_engines_that_do_not_apply(engine, device, dtype, words):
    found = engines.unsuited(engine, device, dtype)
    assert words in found
    assert bool(found) == bool(words)
