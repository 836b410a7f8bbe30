"""What a file computes of sizes stays free where the file leaves it free."""

import itertools

import numpy as np
import pytest
import torch

import flatconv
from flatconv import onnx_in, runtimes
from flatconv.errors import GuardError
from tests.onnx_in.files_here import noise, write

VOLUME = {"x": ("n", 4, 1, "h", "w")}
REPEATED = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
I = np.array  # noqa: E741


def shaped(tmp_path, *between, constants=None):
    """x → conv → what is between → y, sizes free."""
    nodes = [("Conv", ["x", "k"], ["c"], {"pads": [1] * 6}), *between]
    return write(tmp_path / "net.onnx", nodes, VOLUME, ["y"], {"k": noise(4, 4, 3, 3, 3), **(constants or {})})


SHAPES = {
    "flattened and back": [
        ("Shape", ["c"], ["s"], {}),
        ("Reshape", ["c", "flat"], ["f"], {}),
        ("Sigmoid", ["f"], ["g"], {}),
        ("Reshape", ["g", "s"], ["y"], {}),
    ],
    "sizes picked and joined": [
        ("Shape", ["c"], ["s"], {}),
        ("Gather", ["s", "zero"], ["n"], {}),
        ("Unsqueeze", ["n", "axis"], ["m"], {}),
        ("Slice", ["s", "three", "far"], ["hw"], {}),
        ("Concat", ["m", "four", "hw"], ["t"], {"axis": 0}),
        ("Reshape", ["c", "t"], ["y"], {}),
    ],
    "resized to a computed size": [
        ("Shape", ["c"], ["s"], {}),
        ("Slice", ["s", "three", "far"], ["hw"], {}),
        ("Mul", ["hw", "two"], ["big"], {}),
        ("Slice", ["s", "none", "three"], ["ncd"], {}),
        ("Concat", ["ncd", "big"], ["t"], {"axis": 0}),
        ("Resize", ["c", "", "", "t"], ["y"], REPEATED),
    ],
    "a product of sizes": [
        ("Shape", ["c"], ["s"], {}),
        ("Slice", ["s", "three", "far"], ["hw"], {}),
        ("ReduceProd", ["hw"], ["p"], {"keepdims": 1}),
        ("Concat", ["minus", "p"], ["t"], {"axis": 0}),
        ("Reshape", ["c", "t"], ["y"], {}),
    ],
    "expanded": [
        ("Shape", ["c"], ["s"], {}),
        ("Expand", ["one", "s"], ["e"], {}),
        ("Mul", ["e", "c"], ["y"], {}),
    ],
}  # fmt: skip
CONSTANTS = {
    "flat": I([0, 4, -1]), "zero": I(0), "axis": I([0]), "three": I([3]), "far": I([99]), "four": I([4, 1]), "two": I([2]),
    "none": I([0]), "minus": I([-1]), "one": noise(4, 1, 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_sizes_stay_free(tmp_path, name):
    used = {n for _, inputs, *_ in SHAPES[name] for n in inputs}
    path = shaped(tmp_path, *SHAPES[name], constants={k: v for k, v in CONSTANTS.items() if k in used})
    flat = flatconv.fold(onnx_in.load(path), (torch.randn(1, 4, 1, 6, 8),), tune=False)
    assert flat.guards.inputs[0].shape == (None, 4, 1, None, None)
    assert "conv3d" not in flat.code
    for n, h, w in itertools.product((1, 3), (6, 9), (8, 11)):
        x = torch.randn(n, 4, 1, h, w)
        (wanted,) = runtimes.onnxruntime(path, [x])()
        torch.testing.assert_close(flat(x), wanted, rtol=1e-4, atol=1e-5)


def test_fixed_sizes_stay_fixed(tmp_path):
    path = write(
        tmp_path / "n.onnx",
        [("Conv", ["x", "k"], ["y"], {})],
        {"x": ("n", 4, 1, 6, "w")},
        ["y"],
        {"k": noise(4, 4, 1, 3, 3)},
    )
    flat = flatconv.fold(onnx_in.load(path), (torch.randn(1, 4, 1, 6, 8),), tune=False)
    assert flat.guards.inputs[0].shape == (None, 4, 1, 6, None)
    with pytest.raises(GuardError):
        flat(torch.randn(1, 4, 1, 7, 8))


def test_what_needs_fixed_sizes_gets_them(tmp_path):
    """Nearest resizing by no whole factor picks elements that depend on the size."""
    more = {"mode": "nearest", "coordinate_transformation_mode": "half_pixel"}
    path = shaped(
        tmp_path, ("Resize", ["c", "", "s"], ["y"], more), constants={"s": np.array([1, 1, 1, 1.5, 1], np.float32)}
    )
    x = torch.randn(2, 4, 1, 6, 8)
    flat = flatconv.fold(onnx_in.load(path), (x,), tune=False)
    assert flat.guards.inputs[0].shape == (None, 4, 1, 6, 8)  # the batch alone
    (wanted,) = runtimes.onnxruntime(path, [x])()
    torch.testing.assert_close(flat(x), wanted, rtol=1e-4, atol=1e-5)
