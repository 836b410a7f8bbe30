"""Matrix products and attention: the axes in front of the matrices pass through."""

from __future__ import annotations

from collections.abc import Mapping

from flatconv.ops.base import Axes, Carry, Facts, Operator
from flatconv.ops.pointwise import broadcast
from flatconv.program import Node


class Linear(Operator):
    """``y = x·Wᵀ + b`` over the last axis."""

    names = ("linear",)

    def carries(self, node: Node) -> list[Carry]:
        source = node.args["input"]
        return [Carry(a, ((source, a),)) for a in range(node.rank - 1)]

    def zero(self, node: Node, zeros: Mapping[Node, bool]) -> bool:
        return node.args.get("bias") is None


class Matmul(Operator):
    """``y = a·b`` over the last two axes, the others broadcast."""

    names = ("matmul", "bmm")

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and all(t.rank >= 2 for t in node.tensors)

    def carries(self, node: Node) -> list[Carry]:
        a, b = node.tensors[0], node.tensors[-1]
        found = [c for c in broadcast(node, node.tensors) if c.out < node.rank - 2]
        rows, columns = node.rank - 2, node.rank - 1
        if a is b:
            return found
        return [*found, Carry(rows, ((a, a.rank - 2),)), Carry(columns, ((b, b.rank - 1),))]

    def zero(self, node: Node, zeros: Mapping[Node, bool]) -> bool:
        return True

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        if node.op.startswith("aten.bmm"):
            return frozenset()
        # Vectors are another operation to matmul: the matrix axes stay.
        return super().twin(node, frozenset(a for a in drop if a < node.rank - 2), facts)


class Attention(Operator):
    """``softmax(q·kᵀ/√d)·v``: batch and head axes pass through."""

    names = ("scaled_dot_product_attention",)

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and node.args.get("dropout_p", 0.0) == 0.0 and node.shape is not None

    def carries(self, node: Node) -> list[Carry]:
        parts = (node.args["query"], node.args["key"], node.args["value"])
        mask = node.args.get("attn_mask")
        batch = range(node.rank - 2)
        if any(p.rank != node.rank for p in parts) or node.args.get("enable_gqa"):
            return []
        return [c for c in broadcast(node, (*parts, *([mask] if mask is not None else []))) if c.out in batch]

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        # Fused kernels want four axes: nothing is gained by dropping one.
        return frozenset()
