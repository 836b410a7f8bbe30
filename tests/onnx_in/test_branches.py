"""Branches whose condition follows from sizes, as older exporters write for a squeeze."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import flatconv
from flatconv import onnx_in, runtimes
from flatconv.errors import RefusedError
from tests.onnx_in.files_here import noise, write

X = (2, 4, 1, 6, 5)


def side(name, *nodes, constants=(), output="z"):
    """A branch; its values have names of their own."""
    made = [helper.make_node(op, a, [f"{name}_{b}"], **more) for op, a, b, more in nodes]
    held = [numpy_helper.from_array(np.asarray(v), f"{name}_{k}") for k, v in dict(constants).items()]
    return helper.make_graph(made, name, [], [helper.make_value_info(f"{name}_{output}", helper.TypeProto())], held)


def squeezed(axis):
    """conv → squeeze of an axis if it has size one."""
    yes = side("yes", ("Squeeze", ["c", "yes_axes"], "z", {}), constants={"axes": [axis]})
    no = side("no", ("Relu", ["c"], "r", {}), ("Identity", ["no_r"], "z", {}))
    return [
        ("Conv", ["x", "k"], ["c"], {"pads": [1] * 6}),
        ("Shape", ["c"], ["s"], {}),
        ("Gather", ["s", "axis"], ["n"], {}),
        ("Equal", ["n", "one"], ["is"], {}),
        ("If", ["is"], ["t"], {"then_branch": yes, "else_branch": no}),
        ("Sigmoid", ["t"], ["y"], {}),
    ], {"k": noise(4, 4, 3, 3, 3), "axis": np.array(axis), "one": np.array(1)}


def file(tmp_path, nodes, constants, shape=X):
    path = write(tmp_path / "branch.onnx", nodes, {"x": shape}, ["y"], constants)
    model = onnx.load(path)
    for graph in (a.g for n in model.graph.node for a in n.attribute if a.type == a.GRAPH):
        for value in graph.output:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(("axis", "operator"), [(2, "squeeze"), (3, "relu")])
def test_the_side_that_the_sizes_take(tmp_path, axis, operator):
    path, x = file(tmp_path, *squeezed(axis), shape=("n", 4, 1, "h", "w")), torch.randn(X)
    flat = flatconv.fold(onnx_in.load(path), (x,))
    (wanted,) = runtimes.onnxruntime(path, [x])()
    torch.testing.assert_close(flat(x), wanted, rtol=1e-4, atol=1e-5)
    assert "conv3d" not in flat.code
    assert ("relu" in flat.code) == (operator == "relu")


def test_free_sizes_stay_free_where_the_side_does_not_depend_on_them(tmp_path):
    path = file(tmp_path, *squeezed(2), shape=("n", 4, 1, "h", "w"))
    flat = flatconv.fold(onnx_in.load(path), (torch.randn(X),))
    assert flat.guards.inputs[0].shape == (None, 4, 1, None, None)
    for shape in (X, (1, 4, 1, 9, 7)):
        x = torch.randn(shape)
        torch.testing.assert_close(flat(x), runtimes.onnxruntime(path, [x])()[0], rtol=1e-4, atol=1e-5)


def test_a_branch_within_a_branch(tmp_path):
    inner = {
        "then_branch": side("in_yes", ("Add", ["c", "in_yes_w"], "z", {}), constants={"w": noise(4, 1, 1, 1)}),
        "else_branch": side("in_no", ("Neg", ["c"], "z", {})),
    }
    nodes, constants = squeezed(2)
    outer = side("yes", ("If", ["is"], "z", inner))
    nodes[4] = ("If", ["is"], ["t"], {"then_branch": outer, "else_branch": nodes[4][3]["else_branch"]})
    path, x = file(tmp_path, nodes, constants), torch.randn(X)
    model = onnx_in.load(path)
    torch.testing.assert_close(model(x), runtimes.onnxruntime(path, [x])()[0], rtol=1e-4, atol=1e-5)
    assert any(p.shape == (4, 1, 1, 1) for p in model.parameters())


def test_a_condition_on_data_is_refused(tmp_path):
    nodes, constants = squeezed(2)
    nodes[1:4] = [("ReduceMax", ["c"], ["m"], {"keepdims": 0}), ("Greater", ["m", "zero"], ["is"], {})]
    path = file(tmp_path, nodes, {**constants, "zero": np.float32(0)})
    with pytest.raises(RefusedError, match=r"If 'if3'.*computed from data"):
        onnx_in.load(path)(torch.randn(X))


def test_operators_of_branches_are_refused_too(tmp_path):
    nodes, constants = squeezed(2)
    nodes[4][3]["else_branch"] = side("no", ("Det", ["c"], "z", {}))
    with pytest.raises(RefusedError, match=r"Det \(1\)"):
        onnx_in.load(file(tmp_path, nodes, constants))
