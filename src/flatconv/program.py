"""The captured graph behind typed nodes.

A ``Program`` is a functional ATen graph: no node changes a tensor in place. Each ``Node`` has its arguments by their
schema names with defaults filled in, its shape with symbolic sizes as sympy expressions, and the path of the module that
it came from. Nothing here knows what an operator means; that is the business of ``flatconv.ops``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import sympy
import torch
from torch import fx

Size: TypeAlias = int | sympy.Expr
"""A size: a number, or an expression over the sizes that stay free."""

DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
DRAWS = ("aten.native_dropout.default", "aten.bernoulli.p", *(f"aten.{name}.default" for name in DROPOUTS))
"""Operators that draw random numbers, and may be in a program: masks."""


@dataclass(eq=False, repr=False)
class Node:
    """One value of the program.

    Attributes:
        index: position in the program, unique.
        name: the name in the captured graph.
        op: 'input', 'weight', 'size' (an integer computed from sizes), or the operator, such as 'aten.conv3d.default'.
        target: what is called, for operators.
        args: arguments by schema name, with defaults; nodes stand for values.
        shape: sizes, or None where the value is no single tensor.
        dtype: of the tensor, else None.
        path: where in the model, as in ``named_modules``.
        literal: the values, for weights that are literals of the code, which nobody can change later.
        users: nodes that read this one.
        contiguous: whether the tensor lies in memory in the order of its axes.
    """

    index: int
    name: str
    op: str
    target: Callable[..., Any] | None
    args: dict[str, Any]
    shape: tuple[Size, ...] | None
    dtype: torch.dtype | None
    path: str
    literal: torch.Tensor | None = field(default=None, repr=False)
    users: list[Node] = field(default_factory=list, repr=False)
    contiguous: bool = True

    def __repr__(self) -> str:
        # Arguments hold nodes, whose arguments hold nodes: the whole graph would be printed.
        return f"Node({self.name}, {self.op}, {self.shape})"

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape or ())

    @cached_property
    def inputs(self) -> tuple[Node, ...]:
        """All nodes among the arguments, in order."""
        return tuple(n for n in walk(self.args) if isinstance(n, Node))

    @cached_property
    def tensors(self) -> tuple[Node, ...]:
        """The tensor nodes among the arguments, in order."""
        return tuple(n for n in self.inputs if n.shape is not None)

    @property
    def where(self) -> str:
        """The module path, or the node's name where the path says nothing."""
        return self.path or self.name

    def key(self, carried: tuple[Node, ...] = ()) -> Hashable:
        """The operator and every argument except the ``carried`` tensors: equal keys compute equal functions of those."""

        def freeze(value: Any) -> Hashable:
            if isinstance(value, Node):
                return ("carried", carried.index(value)) if value in carried else ("node", value.index)
            if isinstance(value, list | tuple):
                return tuple(freeze(v) for v in value)
            # Zeros of both signs are equal, and functions of them need not be.
            return (type(value).__name__, repr(value) if isinstance(value, float | complex) else value)

        return (self.op, tuple((k, freeze(v)) for k, v in self.args.items()))


def walk(value: Any) -> Iterator[Any]:
    """All leaves of nested lists, tuples and dicts."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        yield value
        return
    for item in value:
        yield from walk(item)


def transform(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """``value`` with every leaf replaced."""
    if isinstance(value, dict):
        return {k: transform(v, leaf) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [transform(v, leaf) for v in value]
    return leaf(value)


@dataclass
class Program:
    """A functional graph with its weights.

    Attributes:
        nodes: in an order in which every node follows its inputs.
        inputs: tensor inputs, in the order of the signature.
        outputs: the tensors returned.
        weights: the tensor behind every 'weight' node.
        names: the original's name of every 'weight' node ('encoder.conv.weight').
    """

    nodes: list[Node]
    inputs: list[Node]
    outputs: list[Node]
    weights: dict[Node, torch.Tensor]
    names: dict[Node, str]

    @cached_property
    def random(self) -> bool:
        """Whether a call draws random numbers."""
        return any(_draws(n) for n in self.nodes)

    @cached_property
    def constant(self) -> frozenset[Node]:
        """Nodes that depend on weights alone, and on no draw."""
        found: set[Node] = set()
        for node in self.nodes:
            if node.op == "weight" or (
                node.target is not None and node.inputs and not _draws(node) and all(i in found for i in node.inputs)
            ):
                found.add(node)
        return frozenset(found)

    def sizes(self, shapes: Mapping[Node, tuple[int, ...]]) -> dict[sympy.Symbol, int]:
        """The value of every free size for inputs of the given shapes."""
        found: dict[sympy.Symbol, int] = {}
        for node, shape in shapes.items():
            for size, value in zip(node.shape or (), shape, strict=True):
                if isinstance(size, sympy.Symbol):
                    found[size] = value
        return found


def _draws(node: Node) -> bool:
    return node.op in DRAWS and node.args.get("train", True) is not False


def concrete(shape: tuple[Size, ...], sizes: Mapping[sympy.Symbol, int]) -> tuple[int, ...]:
    """The numbers of a shape once the free sizes are known."""
    return tuple(s if isinstance(s, int) else int(s.subs(dict(sizes))) for s in shape)


def build(
    graph: fx.Graph,
    weights: Mapping[str, torch.Tensor],
    names: Mapping[str, str],
    fixed: frozenset[str],
    path: Callable[[fx.Node], str],
) -> Program:
    """Read an exported graph.

    Args:
        graph: functional, with weights as placeholders.
        weights: the tensor of every weight placeholder, by placeholder name.
        names: the original's name of every weight placeholder.
        fixed: placeholders that hold literals of the code.
        path: the module path of a graph node.
    """
    made: dict[fx.Node, Node] = {}
    program = Program([], [], [], {}, {})
    live = _live(graph)
    for source in graph.nodes:
        if source.op == "output":
            program.outputs = [made[n] for n in source.args[0]]
        if source not in live:
            continue
        value = source.meta.get("val")
        tensor = isinstance(value, torch.Tensor)
        node = Node(
            index=len(program.nodes),
            name=source.name,
            op=_op(source, weights),
            target=source.target if source.op == "call_function" else None,
            args=_arguments(source, made),
            shape=tuple(_size(s) for s in value.shape) if tensor else None,
            dtype=value.dtype if tensor else None,
            path=path(source),
            literal=weights[source.name] if source.name in fixed else None,
            contiguous=not tensor or value.layout != torch.strided or value.is_contiguous(),
        )
        made[source] = node
        program.nodes.append(node)
        for i in dict.fromkeys(node.inputs):
            i.users.append(node)
        if node.op == "input":
            program.inputs.append(node)
        if node.op == "weight":
            program.weights[node] = weights[source.name]
            program.names[node] = names[source.name]
    return program


def _live(graph: fx.Graph) -> set[fx.Node]:
    output = next(n for n in graph.nodes if n.op == "output")
    live: set[fx.Node] = {n for n in graph.nodes if n.op == "placeholder"}
    todo = list(output.all_input_nodes)
    while todo:
        node = todo.pop()
        if node not in live or node.op == "placeholder":
            live.add(node)
            todo.extend(n for n in node.all_input_nodes if n not in live)
    return live


def _op(source: fx.Node, weights: Mapping[str, torch.Tensor]) -> str:
    if source.op == "placeholder":
        return "weight" if source.name in weights else "input"
    if isinstance(source.target, torch._ops.OpOverload):
        return str(source.target)
    if not isinstance(source.meta.get("val"), torch.Tensor) and getattr(source.target, "__name__", "") != "getitem":
        return "size"
    return getattr(source.target, "__name__", str(source.target))


def _size(size: Any) -> Size:
    if isinstance(size, int):
        return size
    expression = sympy.sympify(size.node.expr)
    return int(expression) if expression.is_Integer else expression


def _arguments(source: fx.Node, made: Mapping[fx.Node, Node]) -> dict[str, Any]:
    if source.op == "placeholder":
        return {}

    def read(value: Any) -> Any:
        return transform(value, lambda v: made[v] if isinstance(v, fx.Node) else v)

    if not isinstance(source.target, torch._ops.OpOverload):
        given = {str(i): read(a) for i, a in enumerate(source.args)}
        return given | {k: read(v) for k, v in source.kwargs.items()}
    found: dict[str, Any] = {}
    for i, argument in enumerate(source.target._schema.arguments):
        if i < len(source.args):
            found[argument.name] = read(source.args[i])
        elif argument.name in source.kwargs:
            found[argument.name] = read(source.kwargs[argument.name])
        else:
            found[argument.name] = argument.default_value
    return found
