"""Interpolation: nearest, nearest-exact, linear, cubic."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from flatconv.facts import Slices
from flatconv.ops.base import Axes, Carry, Facts, Lowering, Operator
from flatconv.program import Node

aten = torch.ops.aten

# The same interpolation by number of spatial axes.
FAMILIES: dict[str, dict[int, str]] = {
    "nearest": {1: "upsample_nearest1d", 2: "upsample_nearest2d", 3: "upsample_nearest3d"},
    "nearest-exact": {n: f"_upsample_nearest_exact{n}d" for n in (1, 2, 3)},
    "linear": {1: "upsample_linear1d", 2: "upsample_bilinear2d", 3: "upsample_trilinear3d"},
    "cubic": {2: "upsample_bicubic2d"},
}
KINDS = {name: (family, n) for family, by_rank in FAMILIES.items() for n, name in by_rank.items()}


class Resize(Operator):
    """``y[i] = Σ_j w(i, j)·x[j]`` along each spatial axis, with weights that sum to one."""

    names = tuple(KINDS)

    def kind(self, node: Node) -> tuple[str, int]:
        """Family, and number of spatial axes."""
        return KINDS[node.op.removeprefix("aten.").partition(".")[0]]

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and node.shape is not None and node.op.endswith((".vec", ".default"))

    def _source(self, node: Node) -> Node:
        return node.tensors[0]

    def carries(self, node: Node) -> list[Carry]:
        return [Carry(0, ((self._source(node), 0),)), Carry(1, ((self._source(node), 1),))]

    def zero(self, node: Node, zeros: Any) -> bool:
        return True

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        found = list(super().facts(node, facts))
        source = self._source(node)
        for a in range(2, node.rank):
            known, size = facts.along(source, a), (node.shape or ())[a]
            if known is None or not isinstance(size, int) or not len(known):
                continue
            if len(set(known)) == 1:  # every slice is a weighted mean of equal slices
                number = known[0] and facts.numbering.number(("resized", node.key((source,)), a, known[0]))
                found[a] = Slices((number,) * size, known.origin)
            elif not known.all_distinct or size > len(known):
                found[a] = self._nearest(node, a, known, size, facts) or found[a]
        return tuple(found)

    def _nearest(self, node: Node, axis: int, known: Slices, size: int, facts: Facts) -> Slices | None:
        """Which slice each result copies, where that is beyond doubt: a whole number of copies of each."""
        family, _ = self.kind(node)
        if not family.startswith("nearest") or size % len(known) or size // len(known) != self._factor(node, axis):
            return None
        times, key = size // len(known), node.key((self._source(node),))
        if times & (times - 1):  # 1/times is not a binary fraction: torch's rounding decides, and nothing is claimed
            return None
        number = facts.numbering.number
        ids = tuple(i and number(("resized", key, axis, i)) for i in known for _ in range(times))
        return Slices(ids, f"slices repeated by upsampling in {node.where}")

    def _factor(self, node: Node, axis: int) -> float:
        given = node.args.get("scale_factors")
        if given is None:
            name = "scales" if self.kind(node)[1] == 1 else f"scales_{'dhw'[axis - 2 + 3 - self.kind(node)[1]]}"
            scale = node.args.get(name)
        else:
            scale = given[axis - 2]
        if scale is not None:
            return float(scale) if isinstance(scale, int | float) else math.nan
        before, behind = (self._source(node).shape or ())[axis], (node.shape or ())[axis]
        return behind / before if isinstance(before, int) and isinstance(behind, int) and before else math.nan

    def links(self, node: Node, facts: Facts) -> Any:
        yield from super().links(node, facts)
        yield from ((self._source(node), a, a) for a in self._uniform(node, facts))

    def _uniform(self, node: Node, facts: Facts) -> set[int]:
        """Spatial axes of equal slices before and after."""
        found = set()
        for a in range(2, node.rank):
            known, given = facts.along(node, a), facts.along(self._source(node), a)
            if known is not None and given is not None and known.uniform and given.uniform:
                found.add(a)
        return found

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        found = frozenset(a for a in drop if a in self._uniform(node, facts))
        family, n = self.kind(node)
        left = n - len(found)
        if left == 0 or left in FAMILIES[family]:
            return found
        return frozenset()

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        source = self._source(node)
        given = low.get(source, drop)
        family, n = self.kind(node)
        if not drop:
            return self.call(node, low, {source: given})
        kept = [a for a in range(2, node.rank) if a not in drop]
        if not kept:
            return given
        name = FAMILIES[family][len(kept)]
        align = [node.args["align_corners"]] if "align_corners" in node.args else []
        if node.op.endswith(".vec"):
            target = getattr(aten, name).vec
            sizes, factors = node.args.get("output_size"), node.args.get("scale_factors")
            sizes = None if sizes is None else [low.scalar(sizes[a - 2]) for a in kept]
            factors = None if factors is None else [factors[a - 2] for a in kept]
            return low.call(target, given, sizes, *align, factors)
        target = getattr(aten, name).default
        sizes = [low.scalar(node.args["output_size"][a - 2]) for a in kept]
        names = ["scales_d", "scales_h", "scales_w"][3 - n :] if n > 1 else ["scales"]
        scales = [node.args.get(names[a - 2]) for a in kept]
        return low.call(target, given, sizes, *align, *scales)
