"""Elementwise operators with broadcasting, casts and copies."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import fx

from flatconv.facts import Slices
from flatconv.ops.base import Axes, Carry, Facts, Lowering, Operator
from flatconv.program import Node


def broadcast(node: Node, sources: tuple[Node, ...]) -> list[Carry]:
    """All axes of the result, aligned from the right as torch broadcasts."""
    found = []
    for out in range(node.rank):
        axes: list[tuple[Node, int | None]] = []
        for source in dict.fromkeys(sources):
            axis = out - (node.rank - source.rank)
            axes.append((source, axis if axis >= 0 else None))
        found.append(Carry(out, tuple(axes)))
    return found


class Pointwise(Operator):
    """``y[i] = f(x₁[i], x₂[i], …)`` with broadcasting.

    Everything that torch tags as pointwise is read here, so a new elementwise operator needs no line of code. Zero is
    carried if ``f(0, …) == 0``, found by calling the operator on zeros, or if the operator is a product with a zero factor.
    """

    also = (
        "clone", "contiguous", "to", "_to_copy", "type_as", "lift_fresh_copy", "lift_fresh", "detach", "detach_",
        "rsub", "hardswish", "hardsigmoid", "relu6", "hardtanh", "elu", "selu", "celu", "mish", "softplus", "threshold",
        "where", "masked_fill", "square", "float_power", "subtract", "multiply", "divide", "true_divide",
    )  # fmt: skip

    # These tell zeros of both signs apart, which are one zero in facts.
    never = ("prelu", "dropout", "copysign", "atan2", "arctan2", "signbit", "nextafter")

    def accepts(self, node: Node) -> bool:
        if not isinstance(node.target, torch._ops.OpOverload) or node.shape is None:
            return False
        tags = node.target.tags
        base = node.op.removeprefix("aten.").partition(".")[0]
        known = torch.Tag.pointwise in tags or (node.op.startswith("aten.") and base in self.also)
        aligned = all(_aligns(t, node) for t in self.sources(node))
        return known and torch.Tag.nondeterministic_seeded not in tags and aligned and base not in self.never

    def sources(self, node: Node) -> tuple[Node, ...]:
        if node.op in ("aten.type_as.default", "aten.to.other"):
            return node.tensors[:1]
        return node.tensors

    def carries(self, node: Node) -> list[Carry]:
        return broadcast(node, self.sources(node))

    def zero(self, node: Node, zeros: Mapping[Node, bool]) -> bool:
        base = node.op.removeprefix("aten.").partition(".")[0]
        if base in ("mul", "multiply") and any(zeros.values()):
            return True
        if not all(zeros.get(t, False) for t in node.tensors):
            return False
        return _zero_of_zeros(node)

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        copied = node.op in ("aten.clone.default", "aten.contiguous.default", "aten.lift_fresh_copy.default")
        if copied or is_identity(node):
            return facts.of[node.tensors[0]]
        return super().facts(node, facts)

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        tensors = self.dropped_inputs(node, drop, low)
        if is_identity(node):
            return tensors[node.tensors[0]]
        changed: dict[str, Any] = {}
        if drop and node.args.get("memory_format") in (torch.channels_last_3d, torch.channels_last):
            # A layout named after a rank: its lower-rank sibling where there is one.
            left = node.rank - len(drop)
            changed["memory_format"] = torch.channels_last if left == 4 else torch.contiguous_format
        return self.call(node, low, tensors, **changed)


def _aligns(source: Node, node: Node) -> bool:
    """Whether a tensor broadcasts against the result from the right (an index or a table would not)."""
    offset = node.rank - source.rank
    if offset < 0:
        return False
    pairs = zip(source.shape or (), (node.shape or ())[offset:], strict=True)
    # Free sizes may be equal by a condition of the capture without being spelled alike.
    return all(s == 1 or s == size or not (isinstance(s, int) and isinstance(size, int)) for s, size in pairs)


def is_identity(node: Node) -> bool:
    """Whether the node returns its input unchanged, as the same values in the same dtype."""
    if node.op in (
        "aten.to.dtype",
        "aten.to.dtype_layout",
        "aten._to_copy.default",
        "aten.type_as.default",
        "aten.to.other",
    ):
        same = node.tensors[0].dtype == node.dtype and not node.args.get("copy")
        return same and node.args.get("memory_format") in (None, torch.preserve_format) and not node.args.get("device")
    return node.op in ("aten.detach.default", "aten.detach_.default", "aten.alias.default", "aten.lift_fresh.default")


def _zero_of_zeros(node: Node) -> bool:
    others = {k: v for k, v in node.args.items() if v not in node.tensors}
    if any(isinstance(v, Node) for v in others.values()):
        return False
    arguments = tuple((k, TENSOR if isinstance(v, Node) else v) for k, v in node.args.items())
    try:
        return _call_on_zeros(node.target, arguments, tuple(t.dtype for t in node.tensors))
    except TypeError:  # an argument that cannot be hashed: nothing is claimed
        return False


TENSOR = "<tensor>"


@lru_cache(maxsize=4096)
def _call_on_zeros(target: Any, arguments: tuple[tuple[str, Any], ...], dtypes: tuple[torch.dtype | None, ...]) -> bool:
    left = iter(dtypes)
    values = {k: torch.zeros(1, dtype=next(left)) if v == TENSOR else v for k, v in arguments}
    try:
        return bool(target(**values).eq(0).all())
    except (RuntimeError, TypeError, NotImplementedError):
        return False


class Prelu(Operator):
    """``y = max(x, 0) + w·min(x, 0)``, the slope by channel (axis 1)."""

    names = ("prelu",)

    def carries(self, node: Node) -> list[Carry]:
        source = node.args["self"]
        return [Carry(a, ((source, a),)) for a in range(node.rank) if a != 1]

    def zero(self, node: Node, zeros: Mapping[Node, bool]) -> bool:
        return zeros[node.args["self"]]

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        # Channels are axis 1: no axis in front of them may go.
        return super().twin(node, drop, facts) - {0}


class Dropout(Operator):
    """Dropout that is switched off: the input itself."""

    names = (
        "dropout",
        "dropout_",
        "alpha_dropout",
        "feature_dropout",
        "feature_alpha_dropout",
        "native_dropout",
        "alias",
    )

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and node.shape is not None and not node.args.get("train")

    def carries(self, node: Node) -> list[Carry]:
        return broadcast(node, node.tensors)

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        return facts.of[node.tensors[0]]

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        return low.get(node.tensors[0], drop)


class Create(Operator):
    """Tensors of one value: ``zeros``, ``ones``, ``full`` and their like."""

    values: ClassVar = {"zeros": 0, "zeros_like": 0, "new_zeros": 0, "ones": 1, "ones_like": 1, "new_ones": 1}
    names = (*values, "full", "full_like", "new_full")

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and node.shape is not None

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        base = node.op.removeprefix("aten.").partition(".")[0]
        value = self.values.get(base, node.args.get("fill_value"))
        if isinstance(value, Node):
            return super().facts(node, facts)
        # The slice's own shape and dtype belong to its identity.
        return tuple(
            facts.constant(0, size)
            if value == 0
            else facts.constant((value, node.dtype, (node.shape or ())[:a] + (node.shape or ())[a + 1 :], a), size)
            for a, size in enumerate(node.shape or ())
        )

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        return frozenset()

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        return self.call(node, low, {t: low.get(t) for t in node.tensors})
