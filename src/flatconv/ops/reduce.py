"""Reductions and softmax."""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from flatconv.ops.base import Axes, Carry, Facts, Lowering, Operator, after, wrap
from flatconv.program import Node


class Reduce(Operator):
    """``y = f(x over some axes)``: sum, mean, extrema, variance, norms. The other axes pass through."""

    names = (
        "sum",
        "mean",
        "amax",
        "amin",
        "var",
        "std",
        "linalg_vector_norm",
        "norm",
        "logsumexp",
        "prod",
        "any",
        "all",
    )
    keep_zero = ("sum", "mean", "amax", "amin", "var", "std", "linalg_vector_norm", "norm", "prod", "any")

    def dims(self, node: Node) -> tuple[int, ...]:
        """Axes reduced, counted from the front."""
        rank = node.tensors[0].rank
        given = node.args.get("dim")
        given = [given] if isinstance(given, int) else list(given or ())
        return tuple(sorted(wrap(d, rank) for d in given)) or tuple(range(rank))

    def accepts(self, node: Node) -> bool:
        dim = node.args.get("dim") if super().accepts(node) and node.shape is not None else None
        return dim is not None and bool(node.tensors) and dim != []

    def carries(self, node: Node) -> list[Carry]:
        source, dims, keep = node.tensors[0], self.dims(node), bool(node.args.get("keepdim"))
        outs, found = 0, []
        for axis in range(source.rank):
            if axis in dims:
                outs += keep
            else:
                found.append(Carry(outs, ((source, axis),)))
                outs += 1
        return found

    def zero(self, node: Node, zeros: Any) -> bool:
        base = node.op.removeprefix("aten.").partition(".")[0]
        order = node.args.get("ord", node.args.get("p", 2))
        if isinstance(order, int | float) and order < 0:
            return False
        if base in ("mean", "prod", "var", "std"):
            # Of nothing, and the variance of too little, these are one or NaN.
            sizes = [(node.tensors[0].shape or ())[d] for d in self.dims(node)]
            correction = node.args.get("correction", int(node.args.get("unbiased", True)))
            least = 0 if base in ("mean", "prod") else 1 if correction is None else correction
            if not all(isinstance(s, int) for s in sizes) or math.prod(sizes) <= least:
                return False
        return base in self.keep_zero

    def _ones(self, node: Node) -> set[int]:
        """Reduced axes of one slice, over which there is nothing to reduce: they are left out with their slice."""
        return {a for a in self.dims(node) if (node.tensors[0].shape or ())[a] == 1}

    def links(self, node: Node, facts: Facts) -> Any:
        yield from super().links(node, facts)
        if node.args.get("keepdim"):
            yield from ((node.tensors[0], a, a) for a in self._droppable_ones(node))

    def _droppable_ones(self, node: Node) -> set[int]:
        """At least one axis is left to reduce, since no axis at all means every axis to torch."""
        ones = self._ones(node)
        return ones if len(ones) < len(self.dims(node)) else set()

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        kept = {a for a in drop if node.args.get("keepdim") and a in self.dims(node)}
        ones = self._droppable_ones(node)
        return super().twin(node, drop, facts) | (kept & ones)

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        source, dims, keep = node.tensors[0], self.dims(node), bool(node.args.get("keepdim"))
        lost = {a for c in self.carries(node) if c.out in drop for _, a in c.sources if a is not None}
        ones = self._droppable_ones(node)
        lost |= (ones & drop) if keep else (ones & low.stored(source))
        given = low.get(source, frozenset(lost))
        if not lost:
            return self.call(node, low, {source: given})
        left = [after(frozenset(lost), a) for a in dims if a not in lost]
        dim: Any = left[0] if isinstance(node.args["dim"], int) else left
        return self.call(node, low, {source: given}, dim=dim)


class Softmax(Operator):
    """``y = exp(x)/Σ exp(x)`` along one axis; its logarithm; and scans along one axis."""

    names = ("softmax", "_softmax", "log_softmax", "_log_softmax", "cumsum", "cumprod", "logcumsumexp", "glu")

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and node.shape is not None and isinstance(node.args.get("dim"), int)

    def carries(self, node: Node) -> list[Carry]:
        source, dim = node.tensors[0], wrap(node.args["dim"], node.rank)
        return [Carry(a, ((source, a),)) for a in range(node.rank) if a != dim]

    def zero(self, node: Node, zeros: Any) -> bool:
        return node.op in ("aten.cumsum.default", "aten.glu.default")

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        dim = after(drop, wrap(node.args["dim"], node.rank))
        return self.call(node, low, self.dropped_inputs(node, drop, low), dim=dim)
