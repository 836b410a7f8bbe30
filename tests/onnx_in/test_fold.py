"""Files of another framework, folded: by the API and by the command."""

import json

import onnx
import pytest
import torch

import flatconv
from flatconv import cli, onnx_in, runtimes
from tests.onnx_in.files_here import FILES, noise, write

DEPTH_1 = FILES / "keras_depth_1.onnx"
DEPTH_4 = FILES / "keras_depth_4.onnx"
CLASSIFIER = FILES / "keras_classifier.onnx"


def operators(flat):
    return [str(n.target).removeprefix("aten.").partition(".")[0] for n in flat.graph.nodes if n.op == "call_function"]


def command(*arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*map(str, arguments)])
    return stopped.value.code or 0


def of_runtime(path, x):
    return runtimes.onnxruntime(path, [x])()[0]


def test_keras_through_tensorflow():
    x = torch.randn(1, 1, 32, 32, 3)
    flat = flatconv.fold(onnx_in.load(DEPTH_1), (x,), tune=False)
    # One squeeze where the image enters, plain 2-D from there, one unsqueeze where it leaves.
    assert operators(flat) == [
        "squeeze", "permute", "conv2d", "relu", "constant_pad_nd", "conv2d", "relu", "conv2d", "sigmoid", "mul",
        "conv_transpose2d", "cat", "conv2d", "softmax", "permute", "unsqueeze",
    ]  # fmt: skip
    assert [s.rule is not None for s in flat.report.sites] == [True] * 5
    for n in (1, 4):
        y = torch.randn(n, 1, 32, 32, 3)
        torch.testing.assert_close(flat(y), of_runtime(DEPTH_1, y), rtol=1e-4, atol=1e-5)


def test_kernels_of_keras_are_read_depth_first():
    model = onnx_in.load(DEPTH_1)
    kernels = [t for t in model.parameters() if t.dim() == 5 and t.shape[2:] == (3, 3, 3)]
    numbers = flatconv.audit(model, (torch.randn(1, 1, 32, 32, 3),))
    assert [s.live_taps for s in numbers.sites if s.kernel == (3, 3, 3)] == [(1,)] * 3
    # What is not the middle of the depth does not matter, and all else does.
    x = torch.randn(1, 1, 32, 32, 3)
    with torch.no_grad():
        wanted = model(x)
        for kernel in kernels:
            kernel[:, :, (0, 2)] += 1
        torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-5)
        kernels[0][:, :, :, (0, 2)] += 1
        assert not torch.allclose(model(x), wanted, atol=1e-2)


def test_more_slices():
    x = torch.randn(1, 4, 32, 32, 3)
    flat = flatconv.fold(onnx_in.load(DEPTH_4), (x,))
    torch.testing.assert_close(flat(x), of_runtime(DEPTH_4, x), rtol=1e-4, atol=1e-5)


def test_a_classifier_with_pooling():
    x = torch.randn(2, 1, 32, 32, 1)
    flat = flatconv.fold(onnx_in.load(CLASSIFIER), (x,), tune=False)
    assert not any("3d" in op for op in operators(flat))
    torch.testing.assert_close(flat(x), of_runtime(CLASSIFIER, x), rtol=1e-4, atol=1e-5)


def test_one_file_becomes_another(tmp_path, capsys):
    made = tmp_path / "folded.onnx"
    assert command("fold", DEPTH_1, "--input", "1x1x32x32x3", "--no-tune", "-o", made) == 0
    said = capsys.readouterr()
    assert "as ONNX Runtime computes it differ by" in " ".join(said.out.split())
    assert "ONNX Runtime:" in " ".join(said.err.split())
    assert list(tmp_path.iterdir()) == [made]
    before, after = onnx.load(DEPTH_1).graph, onnx.load(made).graph
    assert [v.name for v in before.input] == [v.name for v in after.input]
    assert [v.name for v in before.output] == [v.name for v in after.output]
    kernels = {len(t.dims) for t in after.initializer if len(t.dims) > 2}
    assert kernels == {4}
    for n in (1, 3):
        x = torch.randn(n, 1, 32, 32, 3)
        torch.testing.assert_close(of_runtime(made, x), of_runtime(DEPTH_1, x), rtol=1e-4, atol=1e-5)
    # It is there now, and stays.
    held = made.read_bytes()
    assert command("fold", DEPTH_1, "--input", "1x1x32x32x3", "--no-tune", "-o", made) == 2
    assert "--force" in capsys.readouterr().err
    assert made.read_bytes() == held


def test_sizes_that_the_file_fixes_need_no_input(tmp_path, capsys):
    assert command("fold", DEPTH_4, "--no-tune", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["audit"]["inputs"] == [["x", [1, 4, 32, 32, 3]]]
    assert not [n for n in report["audit"]["notes"] if "could not stay free" in n]


def test_sizes_that_it_leaves_free_are_asked_for(capsys):
    assert command("audit", DEPTH_1) == 2
    assert "x (?x1x32x32x3, float32)" in " ".join(capsys.readouterr().err.split())


def test_a_folder_holds_the_names_too(tmp_path):
    folder = tmp_path / "out"
    assert command("fold", DEPTH_1, "--input", "1x1x32x32x3", "--no-tune", "--onnx", "-o", folder) == 0
    assert [v.name for v in onnx.load(folder / "folded.onnx").graph.output] == ["Identity:0"]


@pytest.mark.parametrize("content", [b"", b"nothing"])
def test_a_bad_file(tmp_path, content, capsys):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    assert command("fold", path, "--input", "1x1x32x32x3", "-o", tmp_path / "made.onnx") in (2, 3)
    assert "bad.onnx" in capsys.readouterr().err
    assert not (tmp_path / "made.onnx").exists()


def test_a_fold_of_any_model_as_one_file(tmp_path):
    for name in ("made.onnx", "made.pt2"):
        path = tmp_path / name
        spec = ["flatconv.examples:patch_embed", "--input", "8x1176", "--no-tune"]
        assert command("fold", *spec, "-o", path) == 0
        assert path.stat().st_size


def test_several_inputs_and_outputs(tmp_path):
    nodes = [
        ("Conv", ["x", "k"], ["a"], {"pads": [1] * 6}),
        ("Add", ["a", "z"], ["y"], {}),
        ("Relu", ["a"], ["second:0"], {}),
    ]
    shapes = {"x": ("n", 2, 1, "h", "w"), "z": ("n", 3, 1, "h", "w")}
    path = write(tmp_path / "two.onnx", nodes, shapes, ["y", "second:0"], {"k": noise(3, 2, 3, 3, 3)})
    made = tmp_path / "folded.onnx"
    sizes = ["--input", "x=1x2x1x8x8", "--input", "z=1x3x1x8x8"]
    assert command("fold", path, *sizes, "--no-tune", "-o", made) == 0
    given = [torch.randn(2, 2, 1, 9, 8), torch.randn(2, 3, 1, 9, 8)]
    for a, b in zip(runtimes.onnxruntime(made, given)(), runtimes.onnxruntime(path, given)(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_names_that_do_not_fit(tmp_path):
    flat = flatconv.fold(onnx_in.load(DEPTH_1), (torch.randn(1, 1, 32, 32, 3),), tune=False)
    for names in ((["a", "b"], ["c"]), (["a"], []), (["a"], ["a"]), ([""], ["c"])):
        with pytest.raises(flatconv.InputError, match="names has"):
            flat.export(tmp_path / "x.onnx", names=names)
    assert not list(tmp_path.iterdir())
