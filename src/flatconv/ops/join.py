"""Joining and repeating slices: cat, stack, expand, repeat."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from flatconv.facts import ZERO, Slices
from flatconv.ops.base import Axes, Carry, Facts, Lowering, Operator, slice_kind, wrap
from flatconv.ops.pick import picked
from flatconv.program import Node

aten = torch.ops.aten


class Cat(Operator):
    """``y = [x₁; x₂; …]`` along one axis."""

    names = ("cat", "concat", "concatenate")

    def parts(self, node: Node) -> list[Node]:
        """The tensors joined. Old-style empty 1-D tensors, which torch skips, are not among them."""
        found: list[Node] = node.args["tensors"]
        return [t for t in found if not (t.shape == (0,) and node.rank != 1)]

    def axis(self, node: Node) -> int:
        return wrap(node.args["dim"], node.rank)

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and isinstance(node.args.get("dim"), int) and node.shape is not None

    def carries(self, node: Node) -> list[Carry]:
        parts = tuple(dict.fromkeys(self.parts(node)))
        return [Carry(a, tuple((p, a) for p in parts)) for a in range(node.rank) if a != self.axis(node)]

    def zero(self, node: Node, zeros: Any) -> bool:
        return all(zeros.values())

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        axis = self.axis(node)
        found = list(super().facts(node, facts))
        known = [facts.along(p, axis) for p in self.parts(node)]
        # The dtypes may differ (torch promotes): then a slice of the result is not the slice of the part.
        if all(k is not None for k in known) and len({p.dtype for p in self.parts(node)}) == 1:
            joined = Slices.concatenate([k for k in known if k is not None], f"slices joined by cat in {node.where}")
            found[axis] = joined
        return tuple(found)

    def links(self, node: Node, facts: Facts) -> Any:
        yield from super().links(node, facts)
        axis = self.axis(node)
        known = facts.along(node, axis)
        if known is not None and known.only is not None:
            for part in self.parts(node):
                given = facts.along(part, axis)
                if given is not None and given.only == known.only:
                    yield part, axis, axis

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        found, axis = super().twin(node, drop, facts), self.axis(node)
        return found | {axis} if axis in drop and self._holder(node, facts) is not None else found

    def _holder(self, node: Node, facts: Facts) -> Node | None:
        """A part that holds the one slice that the result consists of."""
        axis = self.axis(node)
        known = facts.along(node, axis)
        if known is None or known.only is None or len({p.dtype for p in self.parts(node)}) != 1:
            return None
        for part in self.parts(node):
            given = facts.along(part, axis)
            if given is not None and given.only == known.only:
                return part
        return None

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        axis = self.axis(node)
        if axis in drop:
            holder = self._holder(node, low.facts)
            assert holder is not None
            return low.get(holder, drop)
        parts = [low.get(p, drop) for p in self.parts(node)]
        return low.call(aten.cat.default, parts, axis - sum(a < axis for a in drop))


class Stack(Operator):
    """``y = [x₁, x₂, …]`` along a new axis."""

    names = ("stack",)

    def carries(self, node: Node) -> list[Carry]:
        axis = wrap(node.args["dim"], node.rank)
        parts = tuple(dict.fromkeys(node.args["tensors"]))
        outs = [a for a in range(node.rank) if a != axis]
        return [Carry(a, tuple((p, a - (a > axis)) for p in parts)) for a in outs]

    def zero(self, node: Node, zeros: Any) -> bool:
        return all(zeros.values())

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        axis = wrap(node.args["dim"], node.rank)
        found = list(super().facts(node, facts))
        parts: list[Node] = node.args["tensors"]
        taken = [self._slice(p, node, axis, facts) for p in parts]
        if len(set(parts)) < len(parts) or any(t is not None for t in taken):
            ids = tuple(
                facts.numbering.number(("whole", p.index)) if t is None else t
                for p, t in zip(parts, taken, strict=True)
            )
            run = ids == tuple(range(ids[0], ids[0] + len(ids)))
            equal = len(set(ids)) < len(ids) or ZERO in ids
            found[axis] = Slices(range(ids[0], ids[-1] + 1) if run and not equal else ids, f"stacked in {node.where}")
        return tuple(found)

    def _slice(self, part: Node, node: Node, axis: int, facts: Facts) -> int | None:
        """The number of the very slice that a part was picked from a tensor as, so that frames taken apart meet again."""
        if any(s is not None and s.all_zero for s in facts.of[part]):
            return ZERO
        source, at, position = picked(part) or (None, 0, 0)
        if source is None or at != axis or slice_kind(source, axis) != slice_kind(node, axis):
            return None
        known = facts.along(source, axis)
        return None if known is None else known[position]

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        axis = wrap(node.args["dim"], node.rank)
        whole = {axis} if axis in drop and len(set(node.args["tensors"])) == 1 else set()
        return super().twin(node, drop, facts) | whole

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        axis = wrap(node.args["dim"], node.rank)
        lost = frozenset(a - (a > axis) for a in drop if a != axis)
        parts: list[Node] = node.args["tensors"]
        if axis in drop:
            return low.get(parts[0], lost)
        return low.call(aten.stack.default, [low.get(p, lost) for p in parts], axis - sum(a < axis for a in drop))


class Expand(Operator):
    """``y[i] = x[0]`` along axes of size 1, and along new axes in front."""

    names = ("expand", "expand_as", "broadcast_to")

    def carries(self, node: Node) -> list[Carry]:
        source = node.tensors[0]
        offset = node.rank - source.rank
        return [Carry(a, ((source, a - offset),)) for a in range(offset, node.rank)]

    def zero(self, node: Node, zeros: Any) -> bool:
        return True

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        source = node.tensors[0]
        offset = node.rank - source.rank
        if source.shape == node.shape:
            return facts.of[source]
        found = list(super().facts(node, facts))
        repeated = [a for a, s in enumerate(node.shape or ()) if a < offset or s != (source.shape or ())[a - offset]]
        for a in repeated:
            size = (node.shape or ())[a]
            if not isinstance(size, int):
                continue
            given = facts.along(source, a - offset) if a >= offset else None
            number = facts.numbering.number(("expanded", node.index, a))
            if given is not None and (given[0] == ZERO or repeated == [a]):
                number = given[0]  # the very slice of the source, nothing else of it repeated
            found[a] = Slices((number,) * size, f"one slice repeated by {node.op.split('.')[1]} in {node.where}")
        return tuple(found)

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        offset = node.rank - node.tensors[0].rank
        return super().twin(node, drop, facts) | {a for a in drop if a < offset}

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        source = node.tensors[0]
        offset = node.rank - source.rank
        given = low.get(source, frozenset(a - offset for a in drop if a >= offset))
        before = [s for a, s in enumerate(source.shape or ()) if a + offset not in drop]
        wanted = [a for a in range(node.rank) if a not in drop]
        if before == [(node.shape or ())[a] for a in wanted]:
            return given
        return low.call(aten.expand.default, given, [self._size(node, a, offset, low) for a in wanted])

    def _size(self, node: Node, axis: int, offset: int, low: Lowering) -> Any:
        size = (node.shape or ())[axis]
        if isinstance(size, int):
            return size
        source = node.tensors[0]
        if axis >= offset and (source.shape or ())[axis - offset] == size:
            return -1
        if len(node.tensors) > 1:  # expand_as
            other = node.tensors[1]
            return low.size(other, axis - (node.rank - other.rank))
        return low.scalar(node.args["size"][axis])


class Repeat(Operator):
    """``y[i] = x[i mod size]`` along every axis that is tiled."""

    names = ("repeat", "tile")

    def repeats(self, node: Node) -> list[Any]:
        """One factor for every axis of the result."""
        given: list[Any] = node.args.get("repeats") or node.args.get("dims") or []
        return [1] * (node.rank - len(given)) + list(given)

    def carries(self, node: Node) -> list[Carry]:
        source = node.tensors[0]
        offset = node.rank - source.rank
        repeats = self.repeats(node)
        return [Carry(a, ((source, a - offset),)) for a in range(offset, node.rank) if repeats[a] == 1]

    def zero(self, node: Node, zeros: Any) -> bool:
        return True

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        source, repeats = node.tensors[0], self.repeats(node)
        offset = node.rank - source.rank
        if source.shape == node.shape and all(r == 1 for r in repeats):
            return facts.of[source]
        found = list(super().facts(node, facts))
        for a, size in enumerate(node.shape or ()):
            if repeats[a] == 1 or not isinstance(size, int) or not isinstance(repeats[a], int):
                continue
            # A new axis has one slice, the whole tensor. It is not known to be zero.
            known = facts.along(source, a - offset) if a >= offset else Slices((-1,))
            if known is None:
                continue
            # The slices themselves are the source's only if no other axis is tiled or added.
            same = offset == 0 and all(r == 1 for b, r in enumerate(repeats) if b != a)
            number = facts.numbering.number
            ids = known.ids if same else [i and number(("tile", node.index, a, i)) for i in known.ids]
            found[a] = Slices(tuple(ids) * repeats[a], f"slices repeated by repeat in {node.where}")
        return tuple(found)

    def links(self, node: Node, facts: Facts) -> Any:
        yield from super().links(node, facts)
        offset = node.rank - node.tensors[0].rank
        for a in self._tiled(node, frozenset(range(offset, node.rank)), facts):
            yield node.tensors[0], a - offset, a

    def _tiled(self, node: Node, axes: Axes, facts: Facts) -> set[int]:
        """Tiled axes that consist of one slice before and after."""
        repeats, offset = self.repeats(node), node.rank - node.tensors[0].rank
        found = set()
        for a in axes:
            known = facts.along(node, a)
            if repeats[a] == 1 or not isinstance(repeats[a], int) or known is None or known.only is None:
                continue
            given = facts.along(node.tensors[0], a - offset) if a >= offset else None
            if a < offset or (given is not None and given.only is not None):
                found.add(a)
        return found

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        return super().twin(node, drop, facts) | self._tiled(node, drop, facts)

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        source, repeats = node.tensors[0], self.repeats(node)
        offset = node.rank - source.rank
        given = low.get(source, frozenset(a - offset for a in drop if a >= offset))
        left = [low.scalar(r) for a, r in enumerate(repeats) if a not in drop]
        new_axes = sum(a not in drop for a in range(offset))
        if all(r == 1 for r in left) and not new_axes:
            return given
        return low.call(aten.repeat.default, given, left)
