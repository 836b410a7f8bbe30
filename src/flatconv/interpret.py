"""Running graphs and parts of programs on given tensors, in the captured types or in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from flatconv.accuracy import REAL
from flatconv.gradients import without_autocast
from flatconv.program import Node, transform


def widen(value: Any) -> Any:
    """Floating tensors and dtypes as float64; everything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.to(torch.float64) if value.dtype in REAL else value
    return torch.float64 if value in REAL and isinstance(value, torch.dtype) else value


def evaluate(node: Node, weights: Mapping[Node, torch.Tensor], wide: bool = False) -> torch.Tensor:
    """The value of a node that depends on weights alone."""
    if node in weights:
        return widen(weights[node]) if wide else weights[node]

    def resolve(value: Any) -> Any:
        if isinstance(value, Node):
            return evaluate(value, weights, wide)
        return widen(value) if wide else value

    assert node.target is not None
    with without_autocast():
        found: torch.Tensor = node.target(**transform(node.args, resolve))
    return found


def run_graph(
    graph: fx.Graph,
    inputs: Mapping[str, torch.Tensor],
    attributes: Mapping[str, torch.Tensor],
    wide: bool = False,
    seen: Callable[[fx.Node, Any], None] | None = None,
) -> list[torch.Tensor]:
    """Run a graph node by node, forgetting values once they are no longer needed.

    Args:
        graph: placeholders and attributes are looked up by name.
        inputs: tensors of the placeholders.
        attributes: tensors of the ``get_attr`` nodes.
        wide: float64 for every floating tensor, and for every dtype that the graph names.
        seen: is shown every value.
    """
    last: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        for used in node.all_input_nodes:
            last[used] = node
    dying: dict[fx.Node, list[fx.Node]] = {}
    for used, node in last.items():
        dying.setdefault(node, []).append(used)
    values: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = widen(inputs[node.target]) if wide else inputs[node.target]
        elif node.op == "get_attr":
            values[node] = widen(attributes[node.target]) if wide else attributes[node.target]
        elif node.op == "output":
            return [values[n] for n in node.args[0]]
        elif "_assert_" not in str(node.target):  # checks of dtypes and sizes have no value
            args = fx.node.map_arg(node.args, lambda n: values[n])
            kwargs = fx.node.map_arg(node.kwargs, lambda n: values[n])
            if wide:
                args = fx.node.map_aggregate(args, widen)
                kwargs = fx.node.map_aggregate(kwargs, widen)
            values[node] = node.target(*args, **kwargs)
        if seen is not None and node in values:
            seen(node, values[node])
        for used in dying.get(node, ()):
            values.pop(used, None)
    raise AssertionError("a graph ends with its output")
