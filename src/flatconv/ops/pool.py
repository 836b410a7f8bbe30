"""Pooling: max, average, and the adaptive kinds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from flatconv.facts import Slices
from flatconv.ops.base import Axes, Carry, Facts, Lowering, Operator, ints
from flatconv.program import Node

aten = torch.ops.aten


@dataclass(frozen=True)
class Window:
    """A window sliding along one axis: result slice o reads slices o·stride − pad + t·dilation."""

    kernel: int
    stride: int
    pad: int
    dilation: int

    def reads(self, o: int, size: int) -> list[int]:
        """The slices inside the tensor that position ``o`` reads."""
        places = (o * self.stride - self.pad + t * self.dilation for t in range(self.kernel))
        return [p for p in places if 0 <= p < size]


class _Pool(Operator):
    """Spatial axes last, batch and channels before them."""

    def accepts(self, node: Node) -> bool:
        base, overload = node.op.removeprefix("aten.").partition(".")[::2]
        return base in self.names and overload == "default" and node.shape is not None and self._plain(node)

    def _plain(self, node: Node) -> bool:
        return True

    def spatial(self, node: Node) -> int:
        """Number of spatial axes: the digit in the operator's name."""
        return int(node.op.partition("pool")[2][0])

    def carries(self, node: Node) -> list[Carry]:
        return [Carry(a, ((node.tensors[0], a),)) for a in range(node.rank - self.spatial(node))]

    def zero(self, node: Node, zeros: Any) -> bool:
        return self.meets_data(node)

    def meets_data(self, node: Node) -> bool:
        """Whether every window meets the tensor somewhere; the maximum of nothing but padding is −∞, not zero."""
        return True

    def reads(self, node: Node, axis: int, o: int, size: int) -> list[int]:
        """The slices that position ``o`` of the result reads along a spatial axis."""
        raise NotImplementedError  # pragma: no cover - both kinds have one

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        found = list(super().facts(node, facts))
        source = node.tensors[0]
        for a in range(node.rank - self.spatial(node), node.rank):
            known, size = facts.along(source, a), (node.shape or ())[a]
            if known is None or not isinstance(size, int) or (known.all_distinct and len(known) > 1):
                continue
            ids = []
            for o in range(size):
                places = self.reads(node, a, o, len(known))
                members = tuple(known[p] for p in places)
                zero = bool(members) and not any(members) and self.meets_data(node)
                value = (node.index, a, self.made_of(node, members), self.weight(node, a, o, len(known)))
                ids.append(0 if zero else facts.numbering.number(("pool", value)))
            found[a] = Slices(tuple(ids), known.origin)
        return tuple(found)

    def made_of(self, node: Node, members: tuple[int, ...]) -> Any:
        """What the slices in a window say of the result: a mean of equal slices is that slice, however many they are."""
        return members[:1] if len(set(members)) == 1 else members

    def weight(self, node: Node, axis: int, o: int, size: int) -> Any:
        """Whatever else about position ``o`` decides its value."""
        return None

    def single(self, node: Node, axis: int, facts: Facts) -> bool:
        """Whether the result's one slice along the axis comes from the source's one slice, read at least once."""
        known, given = facts.along(node, axis), facts.along(node.tensors[0], axis)
        if known is None or given is None or known.position is None or given.only is None:
            return False
        places = self.reads(node, axis, known.position, len(given))
        return bool(places) and {given[p] for p in places} == {given.only}

    def links(self, node: Node, facts: Facts) -> Any:
        for a in range(node.rank - self.spatial(node), node.rank):
            if self.single(node, a, facts):
                yield node.tensors[0], a, a

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        n = self.spatial(node)
        found = frozenset(a for a in drop if a >= node.rank - n and self.single(node, a, facts))
        return found if len(found) < n else found - {node.rank - 1}


class SlidingPool(_Pool):
    """``y[o] = max`` or mean of ``x[o·s − p + t·d]`` over t. Max pads with −∞, so padding never wins over a zero slice."""

    names = tuple(f"{k}_pool{n}d" for k in ("max", "avg") for n in (1, 2, 3))

    def window(self, node: Node, axis: int) -> Window:
        """The window along a spatial axis."""
        n = self.spatial(node)
        i = axis - (node.rank - n)
        kernel, stride = ints(node.args["kernel_size"], n), ints(node.args["stride"], n)
        pad, dilation = ints(node.args["padding"], n), ints(node.args.get("dilation", 1), n)
        assert kernel
        assert pad is not None
        assert dilation
        return Window(kernel[i], (stride or kernel)[i], pad[i], dilation[i])

    def _plain(self, node: Node) -> bool:
        n = self.spatial(node)
        arguments = (node.args["kernel_size"], node.args["stride"], node.args["padding"], node.args.get("dilation", 1))
        return all(ints(a, n) is not None for a in arguments)

    def reads(self, node: Node, axis: int, o: int, size: int) -> list[int]:
        return self.window(node, axis).reads(o, size)

    def meets_data(self, node: Node) -> bool:
        n = self.spatial(node)
        return "avg" in node.op or set(ints(node.args["dilation"], n) or ()) == {1}

    def made_of(self, node: Node, members: tuple[int, ...]) -> Any:
        if "max" in node.op:
            return frozenset(members)
        # With padding in the divisor, or a divisor of its own, it matters how many slices are added.
        counted = node.args["count_include_pad"] or node.args.get("divisor_override") is not None
        return members if counted else super().made_of(node, members)

    def weight(self, node: Node, axis: int, o: int, size: int) -> Any:
        if "avg" not in node.op or not (node.args["count_include_pad"] or node.args.get("divisor_override")):
            return None
        w = self.window(node, axis)
        start = o * w.stride - w.pad
        # torch's divisor: the window cut off at the padded end.
        return min(start + w.kernel, size + w.pad) - start

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        found = super().twin(node, drop, facts)
        if node.args.get("divisor_override") is not None and self.spatial(node) - len(found) == 1:
            found -= {max(found, default=0)}  # avg_pool1d takes no divisor
        return found

    def _correction(self, node: Node, axis: int, facts: Facts) -> float:
        """What a dropped axis of an average divides by, beyond what the average over the other axes does.

        The window reads the one slice ``places`` times; torch divides by the slices read, by the window with its
        padding, or by a given number that counts no axis in particular.
        """
        known, given = facts.along(node, axis), facts.along(node.tensors[0], axis)
        assert known is not None
        assert given is not None
        assert known.position is not None
        places = len(self.reads(node, axis, known.position, len(given)))
        if node.args.get("divisor_override") is not None:
            return 1 / places
        window: int = self.weight(node, axis, known.position, len(given))
        return window / places if node.args["count_include_pad"] else 1.0

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        source, n = node.tensors[0], self.spatial(node)
        lost = frozenset(a for a in drop if a >= node.rank - n)
        given = low.get(source, lost)
        if not lost:
            return self.call(node, low, {source: given})
        kept = [a - (node.rank - n) for a in range(node.rank - n, node.rank) if a not in lost]
        kind = node.op.removeprefix("aten.").partition("_")[0]
        target = getattr(aten, f"{kind}_pool{len(kept)}d").default
        picked = {
            k: [(ints(node.args[k], n) or ints(node.args["kernel_size"], n) or ())[i] for i in kept]
            for k in ("kernel_size", "stride", "padding", "dilation")
            if k in node.args
        }
        if "dilation" in picked:
            return low.call(target, given, *picked.values(), node.args["ceil_mode"])
        rest = [node.args["ceil_mode"], node.args["count_include_pad"]]
        rest += [node.args["divisor_override"]] if node.args.get("divisor_override") is not None else []
        mean = low.call(target, given, *picked.values(), *rest)
        divisor = math.prod(self._correction(node, a, low.facts) for a in lost)
        return mean if divisor == 1 else low.call(aten.div.Scalar, mean, divisor)


class AdaptivePool(_Pool):
    """``y[o] = mean of x[⌊o·n/m⌋ … ⌈(o+1)·n/m⌉ − 1]`` for n slices made into m."""

    names = tuple(f"adaptive_avg_pool{n}d" for n in (1, 2, 3))

    def reads(self, node: Node, axis: int, o: int, size: int) -> list[int]:
        out = (node.shape or ())[axis]
        assert isinstance(out, int)
        return list(range(o * size // out, -(-(o + 1) * size // out)))

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        source, n = node.tensors[0], self.spatial(node)
        lost = frozenset(a for a in drop if a >= node.rank - n)
        given = low.get(source, lost)
        if not lost:
            return self.call(node, low, {source: given})
        kept = [a - (node.rank - n) for a in range(node.rank - n, node.rank) if a not in lost]
        target = getattr(aten, f"adaptive_avg_pool{len(kept)}d").default
        return low.call(target, given, [low.scalar(node.args["output_size"][i]) for i in kept])
