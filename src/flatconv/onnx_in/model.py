"""An ONNX graph as a module of torch."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flatconv.errors import InputError, first_line
from flatconv.modelstate import Declared
from flatconv.onnx_in import arithmetic
from flatconv.onnx_in.check import check_inputs, confirm, written
from flatconv.onnx_in.operators import READERS
from flatconv.onnx_in.step import Known, Step, Value, nested, reads


@dataclass(frozen=True)
class Given:
    """An input or an output of the file.

    Attributes:
        name: in the file.
        dtype: of its elements.
        shape: None where a size is free.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Graph:
    """What a file holds.

    Attributes:
        path: of it.
        inputs: that are no constants.
        outputs: in order.
        constants: tensors of the file, by name.
        steps: in an order in which they can be computed.
    """

    path: Path
    inputs: tuple[Given, ...]
    outputs: tuple[Given, ...]
    constants: Mapping[str, Tensor]
    steps: tuple[Step, ...]


class Node(nn.Module):
    """One step, so that reports and errors can say where in the file something is."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step

    def forward(self, *values: Value) -> tuple[Value, ...]:
        """The step's results.

        Raises:
            RefusedError: it is not read, or cannot be computed of these inputs.
        """
        try:
            found: Any = arithmetic.computed(self.step, values)
            if found is None:
                found = READERS[self.step.op](self.step, values)
        except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as e:
            if torch.compiler.is_exporting():
                raise  # whoever captures reads them, and tries fixed sizes
            shapes = ", ".join("none" if v is None else str(tuple(_array(v).shape)) for v in values)
            self.step.refuse(f"of inputs of shape {shapes} it cannot be computed: {type(e).__name__}: {first_line(e)}")
        return found if isinstance(found, tuple) else (found,)

    def extra_repr(self) -> str:
        """The operator, for printing."""
        return self.step.op


class OnnxModel(Declared):
    """A file's network. It takes tensors in the file's order or by name, and gives a tensor, or a tuple of several.

    Constants are parameters (floating point, frozen) and buffers; nodes are submodules, under their names in the file with
    dots and slashes as underscores.

    Attributes:
        graph: what the file holds.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.fixed_axes = frozenset(
            (i, a) for i, given in enumerate(graph.inputs) for a, s in enumerate(given.shape) if s is not None
        )
        taken = set(dir(self))
        self._held: dict[str, str] = {}
        self._numbers: dict[str, Any] = {}
        for name, value in graph.constants.items():
            self._held[name] = own = identifier(name, taken, "constant")
            if value.dtype.is_floating_point:
                self.register_parameter(own, nn.Parameter(value, requires_grad=False))
            else:
                self.register_buffer(own, value)
            if value.numel() <= arithmetic.LARGEST:
                array = (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()
                self._numbers[name] = array.astype(np.int64) if array.dtype.kind in "iu" else array
        self._places: dict[str, str] = {}  # by the first result, whose name is unique in a file
        for step in nested(graph.steps):
            own = identifier(step.name, taken, step.op)
            self.add_module(own, Node(step))
            self._places[step.outputs[0]] = own

    def __new__(cls, graph: Graph) -> OnnxModel:
        """An instance of a class of its own, whose forward has the file's inputs as parameters."""
        name = identifier(graph.path.stem, set(), "onnx")  # reports call a model by its class
        body = {"forward": _forward(graph), "__module__": cls.__module__}
        return super().__new__(type(name, (cls,), body))

    @property
    def file(self) -> Path | None:
        """The file that it was read from, which is what runs without flatconv; None if it is gone."""
        return self.graph.path if self.graph.path.is_file() else None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made anew: the class of its own cannot be imported."""
        return OnnxModel, (self.graph,), self.__dict__

    def run(self, tensors: Sequence[Tensor]) -> Any:
        """The results for the file's inputs in order."""
        check_inputs(self, tensors)
        values: dict[str, Value] = {name: self._constant(name) for name in self._held}
        values |= {given.name: tensor for given, tensor in zip(self.graph.inputs, tensors, strict=True)}
        self._compute(self.graph.steps, values, {given.name for given in self.graph.outputs})
        results = tuple(_data(values[given.name]) for given in self.graph.outputs)
        return results[0] if len(results) == 1 else results

    def _compute(self, steps: Sequence[Step], values: dict[str, Value], wanted: Set[str]) -> None:
        """Add the results of steps, and forget what neither later steps nor ``wanted`` need of them."""
        last = {name: i for i, step in enumerate(steps) for name in (*step.outputs, *reads(step))}
        made = {name for step in steps for name in step.outputs}
        for i, step in enumerate(steps):
            if step.op == "If":
                results = self._branch(step, values)
            else:
                results = getattr(self, self._places[step.outputs[0]])(*(values[n] if n else None for n in step.inputs))
            values |= {name: result for name, result in zip(step.outputs, results, strict=False) if name}
            for name in (made & {*step.outputs, *reads(step)}) - wanted:
                if last[name] <= i:
                    values.pop(name, None)

    def _branch(self, step: Step, values: Mapping[str, Value]) -> tuple[Value, ...]:
        """The results of the side that a condition takes, which must be known: one that depends on sizes is."""
        known = step.known([values[step.inputs[0]]], 0)
        side = step.get("then_branch" if known is not None and bool(known.numbers()[0]) else "else_branch")
        inner = dict(values)
        self._compute(side.steps, inner, set(side.outputs))
        return tuple(inner[name] for name in side.outputs)

    def confirm(self, tensors: Sequence[Tensor]) -> dict[tuple[tuple[int, ...], ...], float]:
        """Hold what was read against ONNX Runtime; see ``flatconv.onnx_in.check``."""
        return confirm(self, tensors)

    def example(self) -> list[Tensor]:
        """Random tensors of the sizes that the file fixes.

        Raises:
            InputError: it leaves some free.
        """
        if any(None in given.shape for given in self.graph.inputs):
            listed = ", ".join(written(given) for given in self.graph.inputs)
            raise InputError(
                f"{self.graph.path.name} takes {listed}: sizes that it leaves free must be chosen, with one "
                "--input SIZES for each input"
            )
        noise = torch.Generator().manual_seed(0)
        return [
            torch.randn([int(s or 0) for s in given.shape], generator=noise).to(given.dtype)
            for given in self.graph.inputs
        ]

    def _constant(self, name: str) -> Value:
        held: Tensor = getattr(self, self._held[name])
        return Known(self._numbers[name], held) if name in self._numbers else held


def _array(value: Tensor | Known) -> Any:
    return value.array if isinstance(value, Known) else value


def _data(value: Value) -> Tensor:
    assert value is not None
    return value.tensor() if isinstance(value, Known) else value


def _forward(graph: Graph) -> Any:
    """A forward whose parameters are the file's inputs."""
    taken = {"self"}
    parameters = [
        inspect.Parameter(identifier(g.name, taken, "input"), inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for g in graph.inputs
    ]
    signature = inspect.Signature(parameters)

    def forward(self: OnnxModel, *args: Tensor, **kwargs: Tensor) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as e:
            raise InputError(f"{graph.path.name} takes {', '.join(signature.parameters)}: {e}") from e
        return self.run(list(bound.arguments.values()))

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    forward.__signature__ = inspect.Signature([own, *parameters])  # type: ignore[attr-defined]
    return forward


def identifier(name: str, taken: set[str], fallback: str) -> str:
    """A name that Python and torch accept and that is not taken yet, which it is from here on."""
    found = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or fallback
    found = f"{fallback}_{found}" if found[0].isdigit() or keyword.iskeyword(found) else found
    made, count = found, 1
    while made in taken:
        count += 1
        made = f"{found}_{count}"
    taken.add(made)
    return made
