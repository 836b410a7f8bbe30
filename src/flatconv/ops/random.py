"""Random masks: dropout that is switched on.

A mask is drawn anew for every element, so all slices are distinct, whatever goes in. Without an axis of size one there are as
many elements in the same order, so that from one seed the same mask is drawn. Nothing may be drawn twice: a value with two
readers is one node, and stays one.
"""

from __future__ import annotations

import torch
from torch import fx

from flatconv.facts import Slices
from flatconv.ops.base import Axes, Carry, Facts, Lowering, Operator, call_of_first
from flatconv.program import Node


class Draw(Operator):
    """Ones with a given probability, and else zeros, in the shape of the input; or elements of the input, or zeros."""

    def accepts(self, node: Node) -> bool:
        named = node.op in ("aten.bernoulli.p", "aten.dropout.default", "aten.alpha_dropout.default")
        return named and node.args.get("train", True) is True and node.shape is not None

    def carries(self, node: Node) -> list[Carry]:
        (source,) = node.tensors
        return [Carry(a, ((source, a),)) for a in range(node.rank)]

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        return tuple(facts.fresh(node, a) for a in range(node.rank))


class DrawChannels(Draw):
    """Whole channels of the input, or zeros: one number for each along the first two axes."""

    def accepts(self, node: Node) -> bool:
        named = node.op in ("aten.feature_dropout.default", "aten.feature_alpha_dropout.default")
        return named and node.args.get("train") is True and node.shape is not None

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        return super().twin(node, drop, facts) - {0, 1}


class Dropped(Draw):
    """``native_dropout`` in train mode, of whose two results the first alone is read, and once."""

    names = ("native_dropout",)

    def _call(self, node: Node) -> Node:
        found: Node = node.args["0"]
        return found

    def accepts(self, node: Node) -> bool:
        call = call_of_first(node, self.names)
        if call is None or node.shape is None:
            return False
        return call.args.get("train") is True and len(call.users) == 1

    def carries(self, node: Node) -> list[Carry]:
        source = self._call(node).args["input"]
        return [Carry(a, ((source, a),)) for a in range(node.rank)]

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        call = self._call(node)
        # As models call it: on a CPU the two multiply in another order.
        return low.call(torch.ops.aten.dropout.default, low.get(call.args["input"], drop), call.args["p"], True)


class Blank(Operator):
    """Memory for a mask."""

    names = ("empty_like", "new_empty")

    def accepts(self, node: Node) -> bool:
        masks = bool(node.users) and all(u.op == "aten.bernoulli.p" for u in node.users)
        return super().accepts(node) and masks and node.shape is not None

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        return self.call(node, low, {t: low.get(t) for t in node.tensors})
