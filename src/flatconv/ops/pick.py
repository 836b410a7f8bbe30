"""Choosing slices: select, slice, split, index by constants, flip, roll."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from flatconv.facts import ZERO, Slices
from flatconv.ops.base import Axes, Carry, Facts, Lowering, Operator, after, wrap
from flatconv.program import Node

aten = torch.ops.aten


class Pick(Operator):
    """``y = x[positions]`` along one axis, the other axes untouched.

    A subclass names the axis and the positions; ``positions`` is None where they are not known before the program runs.
    """

    def source(self, node: Node) -> Node:
        return node.tensors[0]

    def axis(self, node: Node) -> int:
        raise NotImplementedError  # pragma: no cover - every subclass has one

    def positions(self, node: Node) -> list[int] | range | None:
        raise NotImplementedError  # pragma: no cover - every subclass has one

    def keeps_axis(self, node: Node) -> bool:
        return node.rank == self.source(node).rank

    def carries(self, node: Node) -> list[Carry]:
        source, axis = self.source(node), self.axis(node)
        lost = 0 if self.keeps_axis(node) else 1
        outs = [a for a in range(node.rank) if not (self.keeps_axis(node) and a == axis)]
        return [Carry(a, ((source, a + lost if a >= axis else a),)) for a in outs]

    def zero(self, node: Node, zeros: Any) -> bool:
        return True

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        source, axis = self.source(node), self.axis(node)
        known, positions = facts.along(source, axis), self.positions(node)
        if self._whole(node):
            return facts.of[source]
        found = list(super().facts(node, facts))
        if self.keeps_axis(node) and known is not None and positions is not None:
            found[axis] = known.take(positions)
        elif not self.keeps_axis(node) and known is not None and positions is not None and known[positions[0]] == ZERO:
            found = [Slices((ZERO,) * s, known.origin) if isinstance(s, int) else None for s in node.shape or ()]
        return tuple(found)

    def _whole(self, node: Node) -> bool:
        """Whether every slice is taken, in order."""
        source = self.source(node)
        if not self.keeps_axis(node) or node.shape != source.shape:
            return False
        size, positions = (source.shape or ())[self.axis(node)], self.positions(node)
        return isinstance(size, int) and positions is not None and list(positions) == list(range(size))

    def links(self, node: Node, facts: Facts) -> Any:
        yield from super().links(node, facts)
        source, axis = self.source(node), self.axis(node)
        if self.keeps_axis(node):
            picked, known = facts.along(node, axis), facts.along(source, axis)
            if picked is not None and known is not None and picked.only is not None and picked.only == known.only:
                yield source, axis, axis

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        found = super().twin(node, drop, facts)
        axis = self.axis(node)
        if axis in drop and self.keeps_axis(node):
            picked, known = facts.along(node, axis), facts.along(self.source(node), axis)
            if picked is not None and known is not None and picked.only is not None and picked.only in known.ids:
                found |= {axis}
        return found

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        source, axis = self.source(node), self.axis(node)
        shift = 0 if self.keeps_axis(node) else 1
        others = frozenset(a + shift if a >= axis else a for a in drop if not (self.keeps_axis(node) and a == axis))
        known, positions = low.facts.along(source, axis), self.positions(node)
        single = not self.keeps_axis(node) or axis in drop
        if self._whole(node) and not single:
            return low.get(source, others)
        if single and known is not None and positions is not None:
            picked = low.facts.along(node, axis) if self.keeps_axis(node) else None
            wanted = known[positions[0]] if picked is None else picked.only
            if wanted is not None and wanted == known.only and axis in low.stored(source):
                return low.get(source, others | {axis})
            if picked is not None and wanted is not None:
                given = low.get(source, others)
                return low.call(aten.select.int, given, after(others, axis), list(known).index(wanted))
        given = low.get(source, others)
        return self.again(node, low, given, after(others, axis))

    def again(self, node: Node, low: Lowering, given: fx.Node, axis: int) -> fx.Node:
        """The same choice on a tensor whose chosen axis is ``axis``."""
        return self.call(node, low, {self.source(node): given}, dim=axis)


class Slice(Pick):
    """``x[..., start:end:step, ...]``."""

    names = ("slice", "narrow")

    def axis(self, node: Node) -> int:
        return wrap(node.args["dim"], node.rank)

    def positions(self, node: Node) -> range | None:
        size = (self.source(node).shape or ())[self.axis(node)]
        start = node.args.get("start")
        if node.op.startswith("aten.narrow"):
            length = node.args["length"]
            if not isinstance(size, int) or not isinstance(start, int) or not isinstance(length, int):
                return None
            start = wrap(start, size)
            return range(start, start + length)
        end, step = node.args.get("end"), node.args.get("step", 1)
        if not isinstance(size, int) or any(isinstance(v, Node) for v in (start, end, step)):
            return None
        return range(*slice(start, end, step).indices(size))

    def _whole(self, node: Node) -> bool:
        if super()._whole(node):
            return True
        # An axis whose size stays free: all of it is taken if the bounds say so and the size stays what it was.
        all_of_it = node.args.get("start") in (None, 0) and node.args.get("end") in (None, 2**63 - 1)
        return node.op == "aten.slice.Tensor" and all_of_it and node.args.get("step") == 1


class Select(Pick):
    """``x[..., index, ...]``: the axis is gone."""

    names = ("select",)

    def accepts(self, node: Node) -> bool:
        return node.op in ("aten.select.int", "aten.select_copy.int")

    def axis(self, node: Node) -> int:
        return wrap(node.args["dim"], self.source(node).rank)

    def positions(self, node: Node) -> list[int] | None:
        size, index = (self.source(node).shape or ())[self.axis(node)], node.args["index"]
        return [wrap(index, size)] if isinstance(size, int) and isinstance(index, int) else None


class Piece(Pick):
    """One piece of a split, chunk or unbind: the node that takes it out of the list of pieces."""

    splits = ("split", "split_with_sizes", "chunk", "unbind", "tensor_split", "unsafe_split", "unsafe_chunk")

    def accepts(self, node: Node) -> bool:
        if node.op != "getitem" or node.shape is None or not isinstance(node.args["0"], Node):
            return False
        split = node.args["0"]
        base = split.op.removeprefix("aten.").partition(".")[0]
        if (
            0 in node.shape
            or base not in self.splits
            or not split.tensors
            or split.op.endswith(("indices", "tensor_indices_or_sections"))
        ):
            return False
        return self.positions(node) is not None

    def source(self, node: Node) -> Node:
        found: Node = node.args["0"].tensors[0]
        return found

    def axis(self, node: Node) -> int:
        return wrap(node.args["0"].args.get("dim", 0), self.source(node).rank)

    def positions(self, node: Node) -> list[int] | range | None:
        split, index = node.args["0"], node.args["1"]
        size = (self.source(node).shape or ())[self.axis(node)]
        if not isinstance(size, int):
            return None
        if "unbind" in split.op:
            return [wrap(index, size)]
        length = (node.shape or ())[self.axis(node)]
        if not isinstance(length, int):
            return None
        before = self._lengths(split, size)
        if before is None or index < 0 or index >= len(before) or before[index] != length:
            return None
        start = sum(before[:index])
        return range(start, start + length)

    def _lengths(self, split: Node, size: int) -> list[int] | None:
        sizes = split.args.get("split_size", split.args.get("split_sizes"))
        if isinstance(sizes, list):
            return [s for s in sizes if isinstance(s, int)] if all(isinstance(s, int) for s in sizes) else None
        if "tensor_split" in split.op:
            n = split.args["sections"]
            return [size // n + (i < size % n) for i in range(n)] if isinstance(n, int) else None
        if "chunk" in split.op:
            sizes = -(-size // split.args["chunks"])
        if not isinstance(sizes, int) or sizes <= 0:
            return None
        return [min(sizes, size - s) for s in range(0, size, sizes)]

    def again(self, node: Node, low: Lowering, given: fx.Node, axis: int) -> fx.Node:
        positions = self.positions(node) or range(0)
        if not self.keeps_axis(node):
            return low.call(aten.select.int, given, axis, positions[0])
        return low.call(aten.slice.Tensor, given, axis, positions[0], positions[-1] + 1)


def picked(node: Node) -> tuple[Node, int, int] | None:
    """(tensor, axis, position) of the slice that a node is, if it is one slice of another tensor and nothing else."""
    for room in (Select(), Piece()):
        if room.accepts(node) and not room.keeps_axis(node):
            positions = room.positions(node)
            return None if positions is None else (room.source(node), room.axis(node), positions[0])
    return None


class Interleave(Pick):
    """``y[i] = x[i // n]``: every slice n times, one after the other."""

    names = ("repeat_interleave",)

    def accepts(self, node: Node) -> bool:
        sized = isinstance(node.args.get("repeats"), int) and node.args.get("dim") is not None
        return node.op == "aten.repeat_interleave.self_int" and sized and node.rank > 0

    def axis(self, node: Node) -> int:
        return wrap(node.args["dim"], node.rank)

    def positions(self, node: Node) -> list[int] | None:
        size, count = (self.source(node).shape or ())[self.axis(node)], node.args["repeats"]
        return [i // count for i in range(size * count)] if isinstance(size, int) else None

    def again(self, node: Node, low: Lowering, given: fx.Node, axis: int) -> fx.Node:
        return low.call(aten.repeat_interleave.self_int, given, node.args["repeats"], axis)


class Reorder(Pick):
    """The slices of one axis in another order."""

    names = ("flip", "roll")

    def accepts(self, node: Node) -> bool:
        if not super().accepts(node) or node.shape is None:
            return False
        return len(node.args["dims"]) == 1 and isinstance((node.shape or ())[self.axis(node)], int)

    def axis(self, node: Node) -> int:
        return wrap(node.args["dims"][0], node.rank)

    def positions(self, node: Node) -> list[int] | None:
        size = (node.shape or ())[self.axis(node)]
        if not isinstance(size, int):
            return None
        if node.op == "aten.flip.default":
            return list(range(size))[::-1]
        shift = node.args["shifts"][0]
        return [(i - shift) % size for i in range(size)] if isinstance(shift, int) and size else None

    def again(self, node: Node, low: Lowering, given: fx.Node, axis: int) -> fx.Node:
        return self.call(node, low, {self.source(node): given}, dims=[axis])


class Index(Pick):
    """``x[..., [i, j, …], ...]`` with positions that are literals of the code."""

    names = ("index", "index_select")

    def _indices(self, node: Node) -> list[tuple[int, Node]]:
        if node.op == "aten.index_select.default":
            return [(wrap(node.args["dim"], node.rank), node.args["index"])]
        return [(a, i) for a, i in enumerate(node.args["indices"]) if i is not None]

    def accepts(self, node: Node) -> bool:
        if node.op not in ("aten.index.Tensor", "aten.index_select.default"):
            return False
        indices = self._indices(node)
        return len(indices) == 1 and _literal(indices[0][1]) is not None and self.positions(node) is not None

    def axis(self, node: Node) -> int:
        return self._indices(node)[0][0]

    def positions(self, node: Node) -> list[int] | None:
        axis, index = self._indices(node)[0]
        literal, size = _literal(index), (self.source(node).shape or ())[axis]
        if literal is None or literal.dim() != 1 or literal.dtype == torch.bool or not isinstance(size, int):
            return None
        return [wrap(i, size) for i in literal.tolist()]

    def again(self, node: Node, low: Lowering, given: fx.Node, axis: int) -> fx.Node:
        index = self._indices(node)[0][1]
        return low.call(aten.index.Tensor, given, [None] * axis + [low.get(index)])


def _literal(node: Node) -> torch.Tensor | None:
    while node.literal is None and is_copy(node):
        node = node.tensors[0]
    return node.literal


def is_copy(node: Node) -> bool:
    """Whether the node only copies a literal, as captured code does before it is used."""
    base = node.op.removeprefix("aten.").partition(".")[0]
    return base in ("lift_fresh_copy", "detach", "detach_", "clone", "lift_fresh") and len(node.tensors) == 1
