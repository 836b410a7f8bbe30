"""Files for other runtimes: right, checked, or not there."""

import json

import pytest
import torch
from torch import nn

import flatconv
from flatconv import cli, deploy, runtimes
from flatconv.examples import patch_embed
from tests.expected import filled, sample

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

X = sample(1, 2, 1, 8, 6, dtype=torch.float32)


def net():
    return filled(
        nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.SiLU(), nn.Conv3d(4, 2, (3, 1, 1), padding=(1, 0, 0))),
        dtype=torch.float32,
    )


@pytest.fixture
def model():
    return net()


def ranks(path):
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return [len(v.type.tensor_type.shape.dim) for v in values] + [len(i.dims) for i in graph.initializer]


def run(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def test_an_onnx_file_takes_what_the_model_takes(model, tmp_path):
    flat = flatconv.fold(model, (X,))
    made = flat.export(tmp_path / "net.onnx")
    assert made.inputs == (("input", (None, 2, 1, None, None)),)
    assert made.differences["ONNX Runtime"] < 1e-6
    for x in (X, sample(3, 2, 1, 10, 12, dtype=torch.float32)):
        torch.testing.assert_close(run(made.path, x), model(x).detach(), rtol=1e-4, atol=1e-4)
    assert "Conv" in {n.op_type for n in onnx.load(made.path).graph.node}
    assert [len(v.type.tensor_type.shape.dim) for v in onnx.load(made.path).graph.input] == [5]


def test_rank4_goes_into_the_file(model, tmp_path):
    made = flatconv.fold(model, (X,), rank4=True).export(tmp_path / "net.onnx")
    assert made.inputs == (("input", (None, 2, None, None)),)
    assert max(ranks(made.path)) <= 4
    torch.testing.assert_close(run(made.path, X[:, :, 0]), model(X)[:, :, 0].detach(), rtol=1e-4, atol=1e-4)


def test_the_conditions_stand_in_the_file(model, tmp_path):
    made = flatconv.fold(model, (X,)).export(tmp_path / "net.onnx")
    notes = {p.key: p.value for p in onnx.load(made.path).metadata_props}
    assert "input.shape[3] >= 2" in notes["conditions"]
    assert notes["made by"] == "flatconv"


def test_a_program(model, tmp_path):
    made = flatconv.fold(model, (X,), rank4=True).export(tmp_path / "net.pt2")
    assert made.differences == {"torch.export": 0.0}
    loaded = torch.export.load(made.path).module()
    torch.testing.assert_close(loaded(X[:, :, 0])[0], model(X)[:, :, 0])


def test_a_patch_embedding(tmp_path):
    made = flatconv.fold(patch_embed(), (sample(16, 1176, dtype=torch.float32),), rank4=True).export(
        tmp_path / "p.onnx"
    )
    assert max(ranks(made.path)) == 2
    assert made.inputs == (("patches", (None, 1176)),)


def test_a_wrong_file_is_not_written(model, tmp_path, monkeypatch):
    flat = flatconv.fold(model, (X,))
    inner = runtimes.onnxruntime
    monkeypatch.setattr(runtimes, "onnxruntime", lambda p, t: lambda: tuple(y * 1.001 for y in inner(p, t)()))
    with pytest.raises(flatconv.VerificationError, match=r"output 0 of the file in ONNX Runtime is 0\.001"):
        flat.export(tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_run_is_not_written(model, tmp_path, monkeypatch):
    def fails(place, tensors):
        raise ValueError("no such operator")

    monkeypatch.setattr(runtimes, "onnxruntime", fails)
    with pytest.raises(flatconv.RefusedError, match="ONNX Runtime cannot run the file: ValueError: no such operator"):
        flatconv.fold(model, (X,)).export(tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_openvino_is_asked_where_it_is(model, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    flat = flatconv.fold(model, (X,))
    assert flat.export(tmp_path / "net.onnx").differences["OpenVINO"] < 1e-4

    def fails(place, tensors):
        raise ValueError("not read")

    monkeypatch.setattr(runtimes, "openvino", fails)
    made = flat.export(tmp_path / "other.onnx")
    assert made.unread == {"OpenVINO": "ValueError: not read"}
    assert "OpenVINO" not in made.differences


def test_files_that_exist_stay(model, tmp_path):
    flat = flatconv.fold(model, (X,))
    path = tmp_path / "net.onnx"
    path.write_text("mine")
    with pytest.raises(flatconv.InputError, match="exists already"):
        flat.export(path)
    assert path.read_text() == "mine"
    flat.export(path, force=True)
    assert run(path, X).shape == X.shape


@pytest.mark.parametrize("name", ["net.bin", "net", "net.onnx/inside.onnx"])
def test_bad_paths(model, tmp_path, name):
    with pytest.raises(flatconv.InputError):
        flatconv.fold(model, (X,)).export(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_onnx_cannot_check_is_refused(tmp_path):
    two = filled(nn.Conv3d(2, 3, (2, 3, 3)), dtype=torch.float32)
    x = X.repeat(1, 1, 2, 1, 1)
    flat = flatconv.fold(two, (x,), assume={"input": flatconv.repeated(dim=2)})
    with pytest.raises(flatconv.RefusedError, match="what was declared of 'input' cannot be checked in an ONNX file"):
        flat.export(tmp_path / "two.onnx")
    both = flatconv.fold(two, (x,), assume={"input": flatconv.repeated(dim=2, otherwise="full")})
    with pytest.raises(flatconv.InputError, match="one form, and this model has two"):
        both.export(tmp_path / "two.onnx")
    never = flatconv.fold(two, (x,), assume={"input": flatconv.repeated(dim=2, check="never")})
    made = never.export(tmp_path / "two.onnx")
    torch.testing.assert_close(run(made.path, x), two(x).detach(), rtol=1e-4, atol=1e-4)


def test_a_model_too_large_for_one_file(model, tmp_path, monkeypatch):
    monkeypatch.setattr(deploy, "LARGEST", 100)
    with pytest.raises(flatconv.RefusedError, match=r"write a \.pt2 file"):
        flatconv.fold(model, (X,)).export(tmp_path / "net.onnx")


def test_the_command(tmp_path, capsys):
    folder = tmp_path / "out"
    spec = ["fold", "flatconv.examples:patch_embed", "--input", "8x1176", "--no-tune"]
    with pytest.raises(SystemExit) as stopped:
        cli.main([*spec, "--rank4", "--onnx", "-o", str(folder)])
    assert not stopped.value.code
    assert max(ranks(folder / "folded.onnx")) == 2
    assert json.loads((folder / "report.json").read_text())["onnx"]["differences"]["ONNX Runtime"] < 1e-5
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main([*spec, "--onnx"])
    assert stopped.value.code == 2
    assert "-o FOLDER" in capsys.readouterr().err


def test_the_command_tells_why_the_rank_stays(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["fold", "flatconv.examples:r3d18", "--input", "1x3x8x32x32", "--rank4", "-o", str(tmp_path / "out")])
    assert stopped.value.code == 3
    assert "rank above 4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
