"""In whose memory a value lies, in the original and in a new graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from flatconv.program import Node

aten = torch.ops.aten

VIEWS = (
    "split",
    "split_with_sizes",
    "chunk",
    "unbind",
    "unsqueeze",
    "squeeze",
    "expand",
    "select",
    "slice",
    "permute",
    "reshape",
    "view",
    "transpose",
    "alias",
    "t",
)


def borrowed(made: fx.Node) -> bool:
    """Whether a new value lies in memory of an input or a weight, or has elements that share memory."""
    while made.op == "call_function" and base(made.target) in (*VIEWS, "getitem"):
        if made.target == aten.expand.default:
            return True
        made = made.all_input_nodes[0]
    return made.op in ("placeholder", "get_attr")


def owner(made: fx.Node) -> fx.Node:
    """The new value in whose memory another one lies."""
    while made.op == "call_function" and base(made.target) in (*VIEWS, "getitem") and made.all_input_nodes:
        made = made.all_input_nodes[0]
    return made


def origin(node: Node) -> Node:
    """The value of the original in whose memory another one lies."""
    while (
        node.op.removeprefix("aten.").partition(".")[0] in (*VIEWS, "flatten", "expand_as", "getitem") and node.inputs
    ):
        node = node.inputs[0]
    return node


def base(target: Any) -> str:
    """The operator's name without its overload."""
    packet = getattr(target, "_overloadpacket", target)
    return str(getattr(packet, "__name__", packet))


def views_input(node: Node) -> bool:
    """Whether the original returns memory of an input or a weight too, or a value expanded."""
    while node.op.removeprefix("aten.").partition(".")[0] in (*VIEWS, "flatten", "expand_as", "getitem"):
        if node.op.startswith("aten.expand"):
            return True
        node = node.inputs[0]
    return node.op in ("input", "weight")
