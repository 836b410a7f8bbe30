"""Files that are not read, and what is said about them."""

import numpy as np
import onnx
import pytest
import torch

from flatconv import onnx_in
from flatconv.errors import InputError, RefusedError, VerificationError
from flatconv.onnx_in.operators import READERS
from tests.onnx_in.files_here import noise, write

ONE = {"x": (1, 4, 1, 6, 5)}


def file(tmp_path, *nodes, inputs=ONE, outputs=("y",), **more):
    return write(tmp_path / "some net.onnx", nodes, inputs, list(outputs), **more)


def test_operators_that_are_not_read_are_all_named(tmp_path):
    path = file(tmp_path, ("NonZero", ["x"], ["a"], {}), ("Relu", ["x"], ["b"], {}), ("Det", ["x"], ["y"], {}))
    with pytest.raises(RefusedError, match=r"Det \(1\), NonZero \(1\)"):
        onnx_in.load(path)


def test_operators_of_others(tmp_path):
    path = file(tmp_path, ("FusedConv", ["x"], ["y"], {"domain": "com.microsoft"}), domains=("com.microsoft",))
    with pytest.raises(RefusedError, match=r"com.microsoft.FusedConv \(1\)"):
        onnx_in.load(path)


@pytest.mark.parametrize("opset", [6])
def test_old_operator_sets(tmp_path, opset):
    with pytest.raises(RefusedError, match="operator set 6"):
        onnx_in.load(file(tmp_path, ("Relu", ["x"], ["y"], {}), opset=opset))


def test_new_operator_sets(tmp_path):
    path = file(tmp_path, ("Relu", ["x"], ["y"], {}))
    model = onnx.load(path)
    model.opset_import[0].version = 99
    onnx.save(model, path)
    with pytest.raises((RefusedError, InputError), match="99"):
        onnx_in.load(path)


def test_no_onnx(tmp_path):
    path = tmp_path / "x.onnx"
    for content in (b"", b"no protocol buffer", bytes(1000)):
        path.write_bytes(content)
        with pytest.raises((InputError, RefusedError), match=r"x\.onnx"):
            onnx_in.load(path)
    with pytest.raises(InputError, match=r"does not exist|no file|no such"):
        onnx_in.load(tmp_path / "missing.onnx")
    with pytest.raises(InputError):
        onnx_in.load(tmp_path)


def test_weights_beside_the_file(tmp_path):
    path = file(
        tmp_path,
        ("Mul", ["x", "w"], ["y"], {}),
        constants={"w": noise(1, 4, 1, 6, 500)},
        inputs={"x": (1, 4, 1, 6, 500)},
    )
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert sum(p.numel() for p in onnx_in.load(path).parameters()) == 12000
    (tmp_path / "w.bin").unlink()
    with pytest.raises(InputError, match="no valid ONNX file"):
        onnx_in.load(path)


@pytest.mark.parametrize(
    ("op", "attributes", "constants", "said"),
    [
        ("Resize", {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}, ["s"], "is not torch's"),
        ("Resize", {"mode": "cubic", "exclude_outside": 1}, ["s"], "exclude_outside"),
        ("Resize", {"mode": "linear", "antialias": 1}, ["s"], "antialias"),
        ("CumSum", {"reverse": 1}, ["a"], "reverse"),
        ("ArgMax", {"select_last_index": 1}, [], "select_last_index"),
        ("AveragePool", {"kernel_shape": [1, 2, 2], "dilations": [1, 2, 2]}, [], "dilated"),
        ("MaxPool", {"kernel_shape": [1, 2, 2], "pads": [0, 0, 0, 0, 1, 1], "ceil_mode": 1}, [], "ceil_mode"),
        ("Conv", {"pads": [0, 0, 0, 0, -1, 0]}, ["w"], "negative"),
    ],
)
def test_attributes_that_are_not_read(tmp_path, op, attributes, constants, said):
    held = {"s": np.array([1, 1, 1, 2, 2], np.float32), "a": np.array(2), "w": noise(4, 4, 1, 1, 1)}
    names = ["", "s"] if constants == ["s"] else constants
    path = file(tmp_path, (op, ["x", *names], ["y"], attributes), constants={c: held[c] for c in constants})
    with pytest.raises(RefusedError, match=f"{op.lower()}0.*{said}"):
        onnx_in.load(path)(torch.zeros(1, 4, 1, 6, 5))


def test_training_mode(tmp_path):
    more = {k: np.ones(4, np.float32) for k in "sbmv"}
    path = file(tmp_path, ("BatchNormalization", ["x", *"sbmv"], ["y", "p", "q"], {"training_mode": 1}), constants=more)
    with pytest.raises(RefusedError, match="training_mode"):
        onnx_in.load(path)(torch.zeros(1, 4, 1, 6, 5))


def test_a_second_result_that_is_not_computed(tmp_path):
    path = file(tmp_path, ("MaxPool", ["x"], ["y", "where"], {"kernel_shape": [1, 2, 2]}))
    with pytest.raises(RefusedError, match="where"):
        onnx_in.load(path)(torch.zeros(1, 4, 1, 6, 5))


def test_amounts_that_are_computed_from_data(tmp_path):
    path = file(
        tmp_path, ("ReduceMax", ["x"], ["m"], {"keepdims": 0}), ("Cast", ["m"], ["i"], {"to": 7}),
        ("Unsqueeze", ["i", "z"], ["s"], {}), ("Tile", ["one", "s"], ["y"], {}),
        constants={"z": np.array([0]), "one": noise(3)},
    )  # fmt: skip
    with pytest.raises(RefusedError, match=r"tile3.*computed from data"):
        onnx_in.load(path)(torch.zeros(1, 4, 1, 6, 5))


@pytest.mark.parametrize(
    "given", [torch.zeros(1, 4, 1, 6), torch.zeros(1, 4, 2, 6, 5), torch.zeros(1, 4, 1, 6, 5, dtype=torch.float64)]
)
def test_inputs_that_the_file_does_not_take(tmp_path, given):
    model = onnx_in.load(file(tmp_path, ("Relu", ["x"], ["y"], {})))
    with pytest.raises(InputError, match=r"some net\.onnx takes x \(1x4x1x6x5, float32\), and was given"):
        model(given)


def test_names_of_inputs_and_nodes(tmp_path):
    path = file(
        tmp_path, ("Relu", ["in:0"], ["a"], {}), ("Add", ["a", "2nd"], ["y"], {}),
        inputs={"in:0": (1, 2), "2nd": (1, 2)},
    )  # fmt: skip
    model = onnx_in.load(path)
    a, b = torch.randn(1, 2), torch.randn(1, 2)
    torch.testing.assert_close(model(in_0=a, input_2nd=b), a.relu() + b)
    torch.testing.assert_close(model(a, b), a.relu() + b)
    assert type(model).__name__ == "some_net"
    assert {"relu0", "add1"} <= {name for name, _ in model.named_modules()}
    with pytest.raises(InputError, match="in_0, input_2nd"):
        model(a)


def test_an_operator_that_is_read_wrongly_is_noticed(tmp_path, monkeypatch):
    model = onnx_in.load(file(tmp_path, ("Relu", ["x"], ["y"], {})))
    x = torch.randn(1, 4, 1, 6, 5)
    assert list(model.confirm([x]).values()) == [0.0]
    monkeypatch.setitem(READERS, "Relu", lambda step, values: values[0].clamp(min=1e-3))
    with pytest.raises(VerificationError, match=r"'y' of .*read wrongly"):
        model.confirm([x])


def test_an_operator_that_is_wrong_for_other_sizes_only(tmp_path, monkeypatch):
    path = file(tmp_path, ("Relu", ["x"], ["y"], {}), inputs={"x": ("n", 4, 1, "h", 5)})
    model, x = onnx_in.load(path), torch.randn(1, 4, 1, 6, 5)
    assert list(model.confirm([x])) == [((1, 4, 1, 6, 5),), ((2, 4, 1, 14, 5),)]
    monkeypatch.setitem(READERS, "Relu", lambda step, values: values[0].relu() * (values[0].shape[3] < 7))
    with pytest.raises(VerificationError, match="14"):
        model.confirm([x])
