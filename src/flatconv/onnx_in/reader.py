"""An ONNX file, opened, checked and listed step by step."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flatconv import runtimes
from flatconv.archives import open_regular
from flatconv.errors import InputError, RefusedError, first_line, plain
from flatconv.onnx_in.model import Given, Graph
from flatconv.onnx_in.operators import READERS
from flatconv.onnx_in.operators.pointwise import DTYPES
from flatconv.onnx_in.step import Branch, Step, nested

EXTRA = ("onnx", "reading ONNX")
OWN = ("", "ai.onnx")
OLDEST, NEWEST = 7, 24
"""Operator sets: before the first, broadcasting was another; after the last, operators may have changed."""


def read(path: Path) -> Graph:
    """What a file holds.

    Raises:
        InputError: it is no valid ONNX file.
        RefusedError: it holds something that is not read, all of which is named.
        MissingExtraError: onnx is not installed.
    """
    runtimes.require("onnx", extra=EXTRA)
    onnx = importlib.import_module("onnx")
    open_regular(path).close()
    try:
        onnx.checker.check_model(str(path))  # with weights beside it, a model is too large otherwise
        model = onnx.load(path, load_external_data=False)
        if len(model.functions):
            model = importlib.import_module("onnx.inliner").inline_local_functions(model)
        beside = importlib.import_module("onnx.external_data_helper")
        beside.load_external_data_for_model(model, str(path.parent))  # from its own folder alone
    except Exception as e:
        raise InputError(f"'{path}' is no valid ONNX file: {type(e).__name__}: {first_line(e)}") from e
    version = _version(model, path)
    graph = model.graph
    constants = {t.name: _tensor(t, path) for t in graph.initializer}
    if graph.sparse_initializer:
        raise RefusedError(f"'{path}' holds sparse constants, which are not read")
    steps = _steps(graph.node, version, path, constants)
    _check_read(steps, path)
    inputs = tuple(_given(v, path) for v in graph.input if v.name not in constants)
    if not inputs or not graph.output:
        raise RefusedError(f"'{path}' has no {'outputs' if inputs else 'inputs'}")
    return Graph(path, inputs, tuple(_given(v, path) for v in graph.output), constants, tuple(steps))


def _version(model: Any, path: Path) -> int:
    version = max((o.version for o in model.opset_import if o.domain in OWN), default=0)
    if not OLDEST <= version <= NEWEST:
        raise RefusedError(
            f"'{path}' is of ONNX operator set {version}, and {OLDEST} to {NEWEST} are read: export it again with one of "
            "these, or bring it there with onnx.version_converter"
        )
    return int(version)


def _steps(nodes: Iterable[Any], version: int, path: Path, constants: dict[str, Tensor]) -> tuple[Step, ...]:
    """The nodes as steps; constants among them, and within branches, join the others: names are unique in a file."""
    found = []
    for i, node in enumerate(nodes):
        if node.op_type == "Constant" and node.domain in OWN:
            constants[node.output[0]] = _constant(node, path)
        else:
            found.append(_step(node, i, version, path, constants))
    return tuple(found)


def _check_read(steps: Sequence[Step], path: Path) -> None:
    unread = Counter(s.op for s in nested(steps) if s.op not in READERS and s.op != "If")
    if unread:
        listed = ", ".join(f"{plain(op)} ({count})" for op, count in sorted(unread.items()))
        raise RefusedError(f"'{path}' holds operators that flatconv does not read: {listed}")


def _step(node: Any, place: int, version: int, path: Path, constants: dict[str, Tensor]) -> Step:
    own = node.domain in OWN
    attributes: dict[str, Any] = {}
    for a in node.attribute:
        if a.type == a.GRAPH and own and node.op_type == "If":
            constants |= {t.name: _tensor(t, path) for t in a.g.initializer}
            inner = _steps(a.g.node, version, path, constants)
            attributes[a.name] = Branch(inner, tuple(v.name for v in a.g.output))
        else:
            attributes[a.name] = _attribute(a, path)
    op = node.op_type if own else f"{node.domain}.{node.op_type}"  # of another maker, and refused
    return Step(op, node.name or f"{node.op_type}_{place}", version, attributes, tuple(node.input), tuple(node.output))


def _attribute(attribute: Any, path: Path) -> Any:
    onnx = importlib.import_module("onnx")
    kind = onnx.AttributeProto
    if attribute.type == kind.TENSOR:
        return onnx.numpy_helper.to_array(attribute.t)
    if attribute.type in (kind.GRAPH, kind.GRAPHS):
        return None  # its operator is refused
    found = onnx.helper.get_attribute_value(attribute)
    if isinstance(found, bytes):
        return found.decode("utf-8", "replace")
    return list(found) if attribute.type in (kind.FLOATS, kind.INTS, kind.STRINGS) else found


def _constant(node: Any, path: Path) -> Tensor:
    (attribute,) = node.attribute
    if attribute.name == "value":
        return _tensor(attribute.t, path)
    onnx = importlib.import_module("onnx")
    found = onnx.helper.get_attribute_value(attribute)
    types = {
        "value_float": torch.float32,
        "value_floats": torch.float32,
        "value_int": torch.int64,
        "value_ints": torch.int64,
    }
    if attribute.name not in types:
        raise RefusedError(f"'{path}' holds a constant of kind {attribute.name}, which is not read")
    return torch.tensor(list(found) if attribute.name.endswith("s") else found, dtype=types[attribute.name])


def _tensor(proto: Any, path: Path) -> Tensor:
    onnx = importlib.import_module("onnx")
    if proto.data_type not in DTYPES:
        kind = onnx.TensorProto.DataType.Name(proto.data_type)
        raise RefusedError(f"'{path}' holds the constant '{plain(proto.name)}' of type {kind}, which is not read")
    try:
        array = onnx.numpy_helper.to_array(proto)
    except Exception as e:
        raise InputError(f"'{path}': the constant '{plain(proto.name)}' cannot be read: {first_line(e)}") from e
    if proto.data_type == onnx.TensorProto.BFLOAT16:
        return torch.from_numpy(np.ascontiguousarray(array).view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def _given(value: Any, path: Path) -> Given:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in DTYPES:
        raise RefusedError(f"'{path}': '{plain(value.name)}' is no tensor of a type that is read")
    shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in kind.shape.dim)
    return Given(value.name, DTYPES[kind.elem_type], shape)
