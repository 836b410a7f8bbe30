"""Small ONNX files, and what ONNX Runtime computes from them."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from flatconv import onnx_in, runtimes

FILES = Path(__file__).parent / "files"
KINDS = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL, "int32": TensorProto.INT32}
IR = 8


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def write(path, nodes, inputs, outputs, constants=(), opset=20, domains=()):
    """A file of nodes.

    Args:
        path: of it.
        nodes: (operator, inputs, outputs, attributes).
        inputs: shapes by name, or (shape, type); sizes may be names.
        outputs: names.
        constants: arrays by name.
        opset: of ONNX's own operators.
        domains: others.
    """
    made = [
        helper.make_node(op, list(a), list(b), name=f"{op.lower()}{i}", **more)
        for i, (op, a, b, more) in enumerate(nodes)
    ]
    given = []
    for name, shape in inputs.items():
        shape, kind = (
            shape if isinstance(shape, tuple) and len(shape) == 2 and isinstance(shape[1], str) else (shape, "float32")
        )
        given.append(helper.make_tensor_value_info(name, KINDS[kind], list(shape)))
    results = [helper.make_value_info(name, helper.TypeProto()) for name in outputs]
    graph = helper.make_graph(
        made, "graph", given, results, [numpy_helper.from_array(np.asarray(v), k) for k, v in dict(constants).items()]
    )
    sets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=IR)
    if not domains:
        model = onnx.shape_inference.infer_shapes(model)
    for value in model.graph.output:
        if not value.type.HasField("tensor_type"):
            value.type.tensor_type.elem_type = TensorProto.FLOAT
        if not value.type.tensor_type.HasField("shape"):  # what inference does not know
            for i in range(len(given[0].type.tensor_type.shape.dim)):
                value.type.tensor_type.shape.dim.add().dim_param = f"{value.name}{i}"
    onnx.save(model, path)
    return path


def both(path, *arrays):
    """The outputs as read here and by ONNX Runtime."""
    tensors = [torch.from_numpy(np.asarray(a)) for a in arrays]
    model = onnx_in.load(path)
    with torch.no_grad():
        made = model(*tensors)
    return (made if isinstance(made, tuple) else (made,)), runtimes.onnxruntime(path, tensors)()
