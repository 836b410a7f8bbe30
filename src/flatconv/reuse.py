"""Steps that write into the memory of what they read, where nothing else will ever read it.

A captured graph is functional: every activation has memory of its own, where the model's code may have said ``inplace=True``.
New memory costs time (its pages are touched for the first time) and room. So the graph that is run writes in place again,
also where the model's own code did not: the values are the same, bit for bit.
Not while gradients may be asked for: they need what the steps read.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx

from flatconv.aliases import base

aten = torch.ops.aten

IN_PLACE: dict[Any, Any] = {
    aten.relu.default: aten.relu_.default,
    aten.relu6.default: aten.relu6_.default,
    aten.leaky_relu.default: aten.leaky_relu_.default,
    aten.elu.default: aten.elu_.default,
    aten.silu.default: aten.silu_.default,
    aten.gelu.default: aten.gelu_.default,
    aten.hardtanh.default: aten.hardtanh_.default,
    aten.hardswish.default: aten.hardswish_.default,
    aten.hardsigmoid.default: aten.hardsigmoid_.default,
    aten.sigmoid.default: aten.sigmoid_.default,
    aten.tanh.default: aten.tanh_.default,
    aten.clamp.default: aten.clamp_.default,
}
"""Steps from one floating tensor to one of the same shape and type."""
FRESH = (
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "linear",
    "batch_norm",
    "group_norm",
    "layer_norm",
    "instance_norm",
)
"""Their results are floating, and always new memory."""
VIEWS = ("unflatten", "flatten", "unsqueeze", "squeeze", "view", "reshape", "permute", "transpose")
"""Between the two: the same memory, whole."""


def in_place(graph: fx.Graph) -> fx.Graph:
    """The graph with in-place steps; the graph itself where there are none.

    Exact when: what is written over is the result of an operator that makes new memory, and the step is all that reads it,
    perhaps by way of views that have no other reader.
    """
    if not any(_may(node) for node in graph.nodes):
        return graph
    written = copy.deepcopy(graph)
    for node in written.nodes:
        if _may(node):
            node.target = IN_PLACE[node.target]
    return written


def _may(node: fx.Node) -> bool:
    if node.op != "call_function" or node.target not in IN_PLACE:
        return False
    given = node.all_input_nodes
    if len(given) != 1 or given[0] is not node.args[0]:
        return False
    made = given[0]
    while made.op == "call_function" and _read_once(made) and base(made.target) in VIEWS:
        made = made.args[0]  # type: ignore[assignment]
    return made.op == "call_function" and _read_once(made) and base(made.target) in FRESH


def _read_once(made: fx.Node) -> bool:
    """Whether one step alone reads the values; sizes stay what they are."""
    return sum(base(user.target) != "sym_size" for user in made.users) == 1
