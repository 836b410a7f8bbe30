"""What was found wrong once: types, rounding, empty and odd inputs, names, and sizes that the file leaves free."""

import copy
import itertools
import os
import pickle

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import flatconv
from flatconv import onnx_in, runtimes
from flatconv.errors import GuardError, InputError, RefusedError
from tests.onnx_in.files_here import both, noise, write

X = noise(1, 4, 1, 6, 5)
I = np.array  # noqa: E741
SHAPE = ("Shape", ["x"], ["s"], {})


def saved(path, nodes, inputs, outputs, constants=(), functions=(), domains=()):
    """A file of any types."""
    given = [helper.make_tensor_value_info(k, *v) for k, v in inputs.items()]
    results = [helper.make_tensor_value_info(k, *v) for k, v in outputs.items()]
    held = [numpy_helper.from_array(np.asarray(v), k) for k, v in dict(constants).items()]
    sets = [helper.make_opsetid("", 20), *(helper.make_opsetid(d, 1) for d in domains)]
    graph = helper.make_graph(nodes, "graph", given, results, held)
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8, functions=list(functions)), path)
    return path


def alike(path, *arrays):
    for a, b in zip(*both(path, *arrays), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5, equal_nan=True)


def made(op, kind, *inputs, **attributes):
    """A file's nodes, for one operator on x and constants; the result's type; the constants."""
    names = ["x", *(f"c{i}" if v is not None else "" for i, v in enumerate(inputs))]
    constants = {f"c{i}": v for i, v in enumerate(inputs) if v is not None}
    return [helper.make_node(op, names, ["y"], **attributes)], kind, constants


INT32, UINT8, HALF, FLOAT, LONG = (
    TensorProto.INT32, TensorProto.UINT8, TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.INT64,
)  # fmt: skip
SIZES32 = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Cast", ["s"], ["t"], to=INT32)]
RANGE = helper.make_node("Range", ["a", "b", "c"], ["y"])
TYPES = {
    "sizes of 32 bits": ([*SIZES32, helper.make_node("Mul", ["t", "a"], ["y"])], INT32, {"a": I([2], np.int32)}),
    "joined sizes of 32 bits": ([*SIZES32, helper.make_node("Concat", ["t", "a"], ["y"], axis=0)], INT32,
                                {"a": I([2], np.int32)}),
    "one of two sizes of 32 bits": (
        [*SIZES32, helper.make_node("Equal", ["t", "a"], ["e"]), helper.make_node("Where", ["e", "a", "t"], ["y"])],
        INT32, {"a": I([4], np.int32)}),
    "bytes that run over": ([helper.make_node("Add", ["a", "a"], ["y"])], UINT8, {"a": I([200, 3], np.uint8)}),
    "range of 32 bits": ([RANGE], INT32, {"a": np.int32(0), "b": np.int32(7), "c": np.int32(2)}),
    "range of float64": ([RANGE], TensorProto.DOUBLE, {"a": np.float64(0), "b": np.float64(1), "c": np.float64(0.3)}),
    "like a float": ([*SIZES32[:1], helper.make_node("CastLike", ["s", "x"], ["y"])], FLOAT, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_types_of_what_is_computed_of_sizes_and_constants(tmp_path, name):
    nodes, kind, constants = TYPES[name]
    alike(saved(tmp_path / "t.onnx", nodes, {"x": (FLOAT, [1, 4, 1, 6, 5])}, {"y": (kind, ["n"])}, constants), X)


OPERATORS = {
    "product of 32 bits": (*made("ReduceProd", INT32, I([1])), np.arange(6, dtype=np.int32).reshape(2, 3)),
    "power that adds an axis": (*made("Pow", FLOAT, I([[2]], np.float32)), noise(3)),
    "half clip": (*made("Clip", HALF, np.float16(0), np.float16(0.5)), noise(2, 3).astype(np.float16)),
    "byte clip": (*made("Clip", TensorProto.INT8, np.int8(-1), None), np.arange(-3, 3, dtype=np.int8)),
    "half pad": (*made("Pad", HALF, I([0, 1, 1, 0]), np.float16(2)), noise(2, 3).astype(np.float16)),
    "squeeze by no axes": (*made("Squeeze", FLOAT, np.zeros(0, np.int64)), noise(1, 2, 1)),
    "nearest, nearly halfway": (
        *made("Resize", FLOAT, None, None, I([1, 1, 4]), mode="nearest", coordinate_transformation_mode="asymmetric",
              nearest_mode="round_prefer_ceil"), noise(1, 1, 7)),
    "nearest, nearly halfway too": (*made("Resize", FLOAT, None, None, I([1, 1, 19]), mode="nearest"), noise(1, 1, 14)),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(tmp_path, name):
    nodes, kind, constants, x = OPERATORS[name]
    rank = {"power that adds an axis": 2, "squeeze by no axes": 1}.get(name, x.ndim)
    shapes = {"x": (helper.np_dtype_to_tensor_dtype(x.dtype), list(x.shape))}
    alike(saved(tmp_path / "t.onnx", nodes, shapes, {"y": (kind, [f"y{i}" for i in range(rank)])}, constants), x)


def test_bounds_from_data(tmp_path):
    path = write(tmp_path / "c.onnx", [("Clip", ["x", "low", ""], ["y"], {})], {"x": (2, 3), "low": ()}, ["y"])
    alike(path, noise(2, 3), np.float32(0.1))


def test_a_slice_of_sizes_from_before_the_first(tmp_path):
    nodes = [SHAPE, ("Slice", ["s", "a", "b", "z", "m"], ["y"], {})]
    constants = {"a": I([-7]), "b": I([-99]), "z": I([0]), "m": I([-1])}
    alike(write(tmp_path / "s.onnx", nodes, {"x": X.shape}, ["y"], constants), X)


INTS = np.arange(1, 7, dtype=np.int32).reshape(2, 3)
REFUSED = {
    "whole numbers have no root": ("ReduceL2", INTS, [I([1])], {}, "floating point"),
    "nor a mean": ("ReduceMean", INTS, [I([1])], {}, "floating point"),
    "no axes": ("ReduceSumSquare", X, [], {"noop_with_empty_axes": 1}, "noop_with_empty_axes"),
    "dilated": ("MaxPool", X, [], {"kernel_shape": [1, 2, 2], "dilations": [1, 2, 2], "auto_pad": "SAME_UPPER"}, "auto_pad"),
    "another size": ("Resize", noise(1, 1, 10), ["", I([1, 1, 0.7], np.float32)], {"mode": "linear"}, "otherwise"),
    "the same size": ("Resize", noise(1, 1, 3), ["", I([1, 1, 1.3], np.float32)], {"mode": "linear"}, "as it is"),
    "no size": ("Resize", noise(1, 1, 3), ["", I([1, 1, 0.25], np.float32)], {"mode": "linear"}, "leaves nothing"),
    "too much": ("Pad", X, [I([0, 0, 0, 9, 0, 0, 0, 0, 0, 0])], {"mode": "reflect"}, r"\(1, 4, 1, 6, 5\).*cannot be computed"),
    "too small": ("AveragePool", X, [], {"kernel_shape": [2, 2, 2]}, "cannot be computed"),
    "beyond the end": ("Gather", X, [I([9])], {"axis": 3}, "axis of size 6"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_with_a_reason(tmp_path, name):
    op, x, inputs, attributes, said = REFUSED[name]
    names = ["" if isinstance(v, str) else f"c{i}" for i, v in enumerate(inputs)]
    held = {f"c{i}": v for i, v in enumerate(inputs) if not isinstance(v, str)}
    outputs = {"y": (FLOAT if x.dtype == np.float32 else INT32, [f"y{i}" for i in range(x.ndim)])}
    shapes = {"x": (helper.np_dtype_to_tensor_dtype(x.dtype), list(x.shape))}
    path = saved(tmp_path / "r.onnx", [helper.make_node(op, ["x", *names], ["y"], **attributes)], shapes, outputs, held)
    with pytest.raises(RefusedError, match=said):
        onnx_in.load(path)(torch.from_numpy(x))


def test_nearest_downsampling_before_it_was_settled(tmp_path):
    nodes = [("Resize", ["x", "s"], ["y"], {"mode": "nearest"})]
    path = write(tmp_path / "r.onnx", nodes, {"x": (1, 1, 3, 5)}, ["y"], {"s": I([1, 1, 1, 0.6], np.float32)}, opset=10)
    with pytest.raises(RefusedError, match="before operator set 11"):
        onnx_in.load(path)(torch.zeros(1, 1, 3, 5))


@pytest.mark.parametrize(
    "name", ["in", "class", "None", "self", "forward", "..", "日本", "__class__", "training", "x y", "_"]
)
def test_names(tmp_path, name):
    nodes = [helper.make_node("Relu", [name], [name + "1"], name=name), helper.make_node("Neg", [name + "1"], ["y"])]
    path = saved(
        tmp_path / "class.onnx", nodes, {name: (FLOAT, [2, 3])}, {"y": (FLOAT, [2, 3]), name + "1": (FLOAT, [2, 3])}
    )
    alike(path, noise(2, 3))
    flatconv.fold(onnx_in.load(path), (torch.randn(2, 3),), tune=False)


def test_a_size_below_zero_is_free(tmp_path):
    path = write(tmp_path / "n.onnx", [("Relu", ["x"], ["y"], {})], {"x": (-1, 3)}, ["y"])
    assert onnx_in.load(path).graph.inputs[0].shape == (None, 3)


def test_no_results(tmp_path):
    with pytest.raises(RefusedError, match="no outputs"):
        onnx_in.load(saved(tmp_path / "n.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": (FLOAT, [3])}, {}))


def test_copies(tmp_path):
    model = onnx_in.load(
        write(tmp_path / "n.onnx", [("Mul", ["x", "w"], ["y"], {})], {"x": (3,)}, ["y"], {"w": noise(3)})
    )
    x = torch.randn(3)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(x), model(x))
        assert type(other).__name__ == "n"
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).zero_()
    assert not other(x).any()
    assert model(x).all()


def test_functions_of_the_file_and_weights_beside_it(tmp_path):
    body = [helper.make_node("Softmax", ["a"], ["t"]), helper.make_node("Relu", ["t"], ["b"])]
    body[0].attribute.add(name="axis", ref_attr_name="axis", type=onnx.AttributeProto.INT)
    function = helper.make_function("own", "F", ["a"], ["b"], body, [helper.make_opsetid("", 20)], ["axis"])
    nodes = [helper.make_node("Mul", ["x", "w"], ["m"]), helper.make_node("F", ["m"], ["y"], domain="own", axis=0)]
    shapes = {"x": (FLOAT, [3, 4])}, {"y": (FLOAT, [3, 4])}
    path = saved(tmp_path / "f.onnx", nodes, *shapes, {"w": noise(3, 4)}, [function], ["own"])
    alike(path, noise(3, 4, seed=1))
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    alike(path, noise(3, 4, seed=1))


def test_weights_that_lie_elsewhere(tmp_path):
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in" / "n.onnx", [("Mul", ["x", "w"], ["y"], {})], {"x": (3,)}, ["y"], {"w": noise(3)})
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").write_bytes((tmp_path / "in" / "w.bin").read_bytes())
    os.symlink(tmp_path / "w.bin", tmp_path / "in" / "link.bin")
    model = onnx.load(path, load_external_data=False)
    for place in ("../w.bin", str(tmp_path / "w.bin"), "link.bin", ""):
        (entry,) = (e for e in model.graph.initializer[0].external_data if e.key == "location")
        entry.value = place
        path.write_bytes(model.SerializeToString())
        with pytest.raises(InputError, match="no valid ONNX file"):
            onnx_in.load(path)


def test_many_nodes(tmp_path):
    names = ["x", *(f"v{i}" for i in range(2999)), "y"]
    nodes = [helper.make_node("Neg" if i % 2 else "Relu", names[i : i + 1], names[i + 1 : i + 2]) for i in range(3000)]
    alike(saved(tmp_path / "m.onnx", nodes, {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])}), noise(2, 3))


HW = [SHAPE, ("Slice", ["s", "three", "far"], ["hw"], {})]
LESS = [*HW, ("Sub", ["most", "hw"], ["more"], {}), ("Div", ["more", "two"], ["low"], {})]
FREE = {
    "padded or cropped to the middle": [
        *LESS, ("Sub", ["more", "low"], ["high"], {}), ("Concat", ["zeros", "low", "zeros", "high"], ["p"], {"axis": 0}),
        ("Pad", ["x", "p"], ["y"], {}),
    ],
    "cropped by a negative number": [*LESS, ("Slice", ["x", "low", "last", "axes"], ["y"], {})],
    "cropped behind": [
        *HW, ("Div", ["hw", "two"], ["half"], {}), ("Neg", ["half"], ["low"], {}),
        ("Slice", ["x", "none", "low", "axes"], ["y"], {}),
    ],
    "scaled down": [("Squeeze", ["x", "depth"], ["f"], {}),
                    ("Resize", ["f", "", "quarter"], ["y"], {"mode": "linear"})],
    "scaled down to one": [
        ("Squeeze", ["x", "depth"], ["f"], {}),
        ("Resize", ["f", "", "quarter"], ["y"], {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
    ],
    "picked from far behind": [("Gather", ["x", "places"], ["y"], {"axis": 3})],
}  # fmt: skip
CONSTANTS = {
    "three": I([3]), "far": I([2**31 - 1]), "most": I([13]), "two": I([2]), "zeros": I([0] * 3),
    "last": I([99, 99]), "none": I([0, 0]),
    "axes": I([3, 4]), "depth": I([2]), "quarter": I([1, 1, 0.25, 0.25], np.float32), "places": I([0, 4, -5]),
}  # fmt: skip


@pytest.mark.parametrize("name", FREE)
def test_other_sizes_are_right_or_not_taken(tmp_path, name):
    used = {n for _, inputs, *_ in FREE[name] for n in inputs}
    constants = {k: v for k, v in CONSTANTS.items() if k in used}
    path = write(tmp_path / "net.onnx", FREE[name], {"x": ("n", 4, 1, "h", "w")}, ["y"], constants)
    for size in (12, 18):
        flat = flatconv.fold(onnx_in.load(path), (torch.randn(1, 4, 1, size, size),), tune=False)
        flat(torch.randn(1, 4, 1, size, size))
        for h, w in itertools.product((2, 3, 4, 7, 12, 13, 18, 19), (12, 18, 21)):
            x = torch.randn(2, 4, 1, h, w)
            try:
                result = flat(x)
            except GuardError:
                continue
            torch.testing.assert_close(result, runtimes.onnxruntime(path, [x])()[0], rtol=1e-4, atol=1e-5)
