"""Padding: constant, replicate, reflect, circular."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from flatconv.facts import ZERO, Slices, pad_positions
from flatconv.ops.base import Axes, Carry, Facts, Lowering, Operator, slice_kind
from flatconv.program import Node

aten = torch.ops.aten

FOLDED_MODES = {"replication": "replicate", "reflection": "reflect"}


@dataclass(frozen=True)
class Padding:
    """Slices added on both sides of every axis.

    Attributes:
        source: the tensor padded.
        mode: 'constant', 'replicate', 'reflect' or 'circular'.
        value: of constant padding.
        sides: (in front, behind) for every axis: numbers, or nodes that compute them from free sizes.
    """

    source: Node
    mode: str
    value: float
    sides: tuple[tuple[Any, Any], ...]

    @property
    def zeros(self) -> bool:
        """Padding with zeros."""
        return self.mode == "constant" and self.value == 0

    def known(self, axis: int) -> bool:
        """Whether the amounts along an axis are numbers."""
        return all(isinstance(p, int) for p in self.sides[axis])


def padding(node: Node) -> Padding | None:
    """Read any spelling of a pad; None if the node is none, or its amounts are computed and it repeats slices."""
    base = node.op.removeprefix("aten.").partition(".")[0]
    if node.shape is None:
        return None
    if base == "pad":
        amounts, mode, value = node.args["pad"], node.args["mode"], node.args["value"]
    elif base == "constant_pad_nd":
        amounts, mode, value = node.args["pad"], "constant", node.args["value"]
    elif base[:-6] in ("replication", "reflection") and base.endswith(("_pad1d", "_pad2d", "_pad3d")):
        amounts, mode, value = node.args["padding"], FOLDED_MODES[base[:-6]], 0
    else:
        return None
    value = 0 if value is None else value
    plain = all(isinstance(p, int) for p in amounts)
    if isinstance(value, Node) or not (
        plain or (mode == "constant" and all(isinstance(p, int | Node) for p in amounts))
    ):
        return None
    sides = [(amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2)]
    sides += [(0, 0)] * (node.rank - len(sides))
    return Padding(node.args["self"], mode, value, tuple(reversed(sides)))


class Pad(Operator):
    """``y[i] = x[i − lo]`` inside, and zeros, a constant or other slices of x outside."""

    def accepts(self, node: Node) -> bool:
        return node.op.startswith("aten.") and padding(node) is not None

    def _read(self, node: Node) -> Padding:
        found = padding(node)
        assert found is not None
        return found

    def carries(self, node: Node) -> list[Carry]:
        pad = self._read(node)
        return [Carry(a, ((pad.source, a),)) for a, side in enumerate(pad.sides) if side == (0, 0)]

    def zero(self, node: Node, zeros: Any) -> bool:
        pad = self._read(node)
        return pad.mode != "constant" or pad.zeros

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        pad = self._read(node)
        if all(side == (0, 0) for side in pad.sides):
            return facts.of[pad.source]
        found = list(super().facts(node, facts))
        for a, (lo, hi) in enumerate(pad.sides):
            known = facts.along(pad.source, a)
            if (lo, hi) == (0, 0) or known is None or not pad.known(a):
                continue
            positions = pad_positions(pad.mode, len(known), lo, hi)
            # Padding of the other axes changes the slices themselves, each in the same way.
            others = tuple(side for b, side in enumerate(pad.sides) if b != a)
            number = facts.numbering.number
            key = ("pad", pad.mode, pad.value, a, others, slice_kind(pad.source, a))
            changed = any(side != (0, 0) for side in others)
            keeps_zero = pad.mode != "constant" or pad.zeros
            outside = ZERO if pad.zeros else number(("border", node.index, a))

            def inside(number_in: int, changed: bool = changed, keep: bool = keeps_zero, key: Any = key) -> int:
                if not changed or (number_in == ZERO and keep):
                    return number_in
                return facts.numbering.number((key, number_in))

            ids = tuple(outside if p is None else inside(known[p]) for p in positions)
            origin = self._words(pad, lo, hi, node.where)
            found[a] = Slices(ids, known.origin if known.origin and lo <= 0 and hi <= 0 else origin)
        return tuple(found)

    def _words(self, pad: Padding, lo: int, hi: int, where: str) -> str:
        """Where the new slices come from, for reports."""
        kind = "of zeros" if pad.zeros else "of a constant" if pad.mode == "constant" else f"repeated ({pad.mode})"
        numbers = [str(n) for n in (lo, hi) if n > 0]
        slices = "slice" if numbers in (["1"], []) else "slices"
        side = "causal pad" if lo > 0 >= hi else "pad"
        return f"{' + '.join(numbers)} {slices} {kind} from the {side} in {where}"

    def _single(self, node: Node, axes: Axes, facts: Facts) -> set[int]:
        """Padded axes of one slice (beside zeros) before and after."""
        pad = self._read(node)
        found = set()
        for a in axes:
            known, given = facts.along(node, a), facts.along(pad.source, a)
            if pad.sides[a] == (0, 0) or not pad.known(a):
                continue
            if known is not None and given is not None and given.only is not None:
                inner = pad_positions(pad.mode, len(given), *pad.sides[a])
                picked = {given[p] for p in inner if p is not None} - {ZERO}
                if known.only is not None and picked == {given.only}:
                    found.add(a)
        return found

    def links(self, node: Node, facts: Facts) -> Any:
        yield from super().links(node, facts)
        pad = self._read(node)
        yield from ((pad.source, a, a) for a in self._single(node, frozenset(range(node.rank)), facts))

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        found = super().twin(node, drop, facts) | self._single(node, drop, facts)
        pad = self._read(node)
        left = [side for a, side in enumerate(pad.sides) if a not in found]
        if pad.mode == "constant" or all(side == (0, 0) for side in left):
            return found
        # Other modes pad the last one to three axes of a tensor with one or two axes before them, and no fewer.
        padded = len(left) - next(a for a, side in enumerate(left) if side != (0, 0))
        return found if padded <= 3 and 1 <= len(left) - padded <= 2 else frozenset()

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        pad = self._read(node)
        given = low.get(pad.source, drop)
        left = [side for a, side in enumerate(pad.sides) if a not in drop]
        while left and left[0] == (0, 0):
            left.pop(0)
        if not left:
            return given
        if not drop:
            return self.call(node, low, {pad.source: given})
        amounts = [low.scalar(p) for side in reversed(left) for p in side]
        if pad.mode == "constant":
            return low.call(aten.constant_pad_nd.default, given, amounts, *([pad.value] if pad.value else []))
        rank = node.rank - len(drop)
        spatial = next(n for n in range(max(len(left), rank - 2, 1), 4) if rank - n >= 1)
        return low.call(aten.pad.default, given, amounts + [0, 0] * (spatial - len(left)), pad.mode)
