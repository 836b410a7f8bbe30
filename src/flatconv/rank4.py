"""Programs without any tensor of rank above four, for runtimes that have no others.

The graph of a fold takes the original's tensors, drops the axes of size one, and puts them back at the end. Here both are
taken out of the graph: the program itself takes and gives the lower rank. What still has more axes is a reason to refuse.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

from flatconv.aliases import base
from flatconv.errors import RefusedError
from flatconv.interpret import run_graph
from flatconv.ops.base import after

aten = torch.ops.aten
MOST = 4
SHOWN = 8
"""Reasons that are written out."""


@dataclass(frozen=True)
class Boundary:
    """What stands between the original's tensors and those of the program.

    Attributes:
        dropped: for each input, the axes of size one that it loses.
        restored: for each output, where axes of size one are put in, one after the other.
    """

    dropped: tuple[tuple[int, ...], ...]
    restored: tuple[tuple[int, ...], ...]

    def enter(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The program's inputs."""
        return [t.squeeze(d) if d else t for t, d in zip(tensors, self.dropped, strict=True)]

    def leave(self, results: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The original's outputs."""
        found = []
        for result, axes in zip(results, self.restored, strict=True):
            for axis in axes:
                result = result.unsqueeze(axis)
            found.append(result)
        return tuple(found)


def lowered(
    graph: fx.Graph, state: Mapping[str, torch.Tensor], example: Sequence[torch.Tensor], names: Sequence[str]
) -> tuple[fx.Graph, Boundary]:
    """The graph without the axes at its ends.

    Args:
        graph: of a fold.
        state: its weights, by the names that it reads them by.
        example: tensors that the fold takes.
        names: of the inputs, for messages.

    Raises:
        RefusedError: with every reason: which tensors have more than four axes, and where.
    """
    graph = copy.deepcopy(graph)
    reasons: list[str] = []
    inputs = [n for n in graph.nodes if n.op == "placeholder"]
    dropped = tuple(_enter(graph, n, t, name, reasons) for n, t, name in zip(inputs, example, names, strict=True))
    restored = _leave(graph)
    graph.eliminate_dead_code()
    graph.lint()
    boundary = Boundary(dropped, restored)
    if not reasons:
        reasons = _above(graph, state, boundary.enter(example), names)
    if reasons:
        more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
        raise RefusedError(f"tensors of rank above {MOST} are left: {'; '.join(reasons[:SHOWN])}{more}")
    return graph, boundary


def _enter(graph: fx.Graph, node: Any, example: torch.Tensor, name: str, reasons: list[str]) -> tuple[int, ...]:
    """Take the axes off an input that all its readers drop; they, if it has more than four."""
    if example.dim() <= MOST:
        return ()
    readers: list[Any] = [u for u in node.users if base(u.target) != "sym_size"]
    drops = [set(u.args[1]) for u in readers if u.target == aten.squeeze.dims]
    axes = set.intersection(*drops) if drops else {a for a, s in enumerate(example.shape) if s == 1 and a > 0}
    whole = [u for u in readers if u.target != aten.squeeze.dims]
    if whole or example.dim() - len(axes) > MOST:
        where = ", ".join(_where(u) for u in whole[:3]) or "no axis of it has size 1 and is dropped"
        reasons.append(f"the input '{name}' of shape {tuple(example.shape)} is read whole by {where}")
        return ()
    for user in list(node.users):
        with graph.inserting_after(user):
            if user.target == aten.squeeze.dims:
                rest = [after(frozenset(axes), a) for a in user.args[1] if a not in axes]
                made = graph.call_function(aten.squeeze.dims, (node, rest)) if rest else node
            elif user.args[1] in axes:
                _forget(graph, user)
                continue
            else:
                made = graph.call_function(aten.sym_size.int, (node, after(frozenset(axes), user.args[1])))
        user.replace_all_uses_with(made)
        graph.erase_node(user)
    return tuple(sorted(axes))


def _forget(graph: fx.Graph, node: Any) -> None:
    """Remove a size that is one: its readers get the number."""
    for user in list(node.users):
        user.args = fx.node.map_arg(user.args, lambda n: 1 if n is node else n)
        user.kwargs = fx.node.map_arg(user.kwargs, lambda n: 1 if n is node else n)
    graph.erase_node(node)


def _leave(graph: fx.Graph) -> tuple[tuple[int, ...], ...]:
    """Take the axes off the outputs that are put in at the very end."""
    output: Any = graph.output_node()
    found, results = [], []
    node: Any
    for node in output.args[0]:
        axes: list[int] = []
        copies: list[Any] = []
        while node.op == "call_function":
            if node.target == aten.unsqueeze.default:
                axes.insert(0, node.args[1])
            elif node.target in (aten.contiguous.default, aten.clone.default) and len(node.args) == 1:
                copies.append(node)
            else:
                break
            node = node.args[0]
        for copied in reversed(copies):
            with graph.inserting_before(output):
                node = graph.call_function(copied.target, (node,), dict(copied.kwargs))
        results.append(node)
        found.append(tuple(axes))
    output.args = (tuple(results),)
    return tuple(found)


def _above(
    graph: fx.Graph, state: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor], names: Sequence[str]
) -> list[str]:
    """The tensors that have more than four axes, each with where."""
    found: list[str] = []

    def seen(node: fx.Node, value: Any) -> None:
        for tensor in value if isinstance(value, list | tuple) else [value]:
            if isinstance(tensor, torch.Tensor) and tensor.dim() > MOST:
                found.append(f"{_where(node)} makes {tuple(tensor.shape)}")

    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        given = [mode.from_tensor(t) for t in inputs]
        weights = {name: mode.from_tensor(t.detach()) for name, t in state.items()}
        placeholders = [n.target for n in graph.nodes if n.op == "placeholder"]
        run_graph(graph, dict(zip(placeholders, given, strict=True)), weights, seen=seen)
    return list(dict.fromkeys(found))


def _where(node: fx.Node) -> str:
    if node.op == "get_attr":
        return f"the weight '{node.target}'"
    if node.op == "output":
        return "the output"
    path = node.meta.get("path")
    return f"{base(node.target)}{f' in {path}' if path else ''}"
