"""Convolutions and transposed convolutions: how they are spelled, what they read, and how a plan is carried out.

What may be left out is decided by ``flatconv.rules``; this room knows the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import fx

from flatconv.facts import ZERO, Slices
from flatconv.ops.base import NONE, Axes, Carry, Facts, Lowering, Operator, after, ints
from flatconv.program import Node, Size

aten = torch.ops.aten


@dataclass(frozen=True)
class AxisPlan:
    """One spatial axis of a convolution, and what is to be computed of it.

    Tap t at result position o meets position ``o·stride − lo + t·dilation`` of the input; for a transposed convolution it
    meets position i where ``i·stride − lo + t·dilation == o``.

    Attributes:
        axis: the axis of the input and of the result.
        size: of the input.
        outputs: of the result.
        kernel: number of taps.
        stride: as in torch.
        dilation: as in torch.
        lo: zero slices in front.
        hi: zero slices behind (for a transposed convolution: cut off behind, less output_padding).
        ids: what is known of the input's slices; None where its size is free.
        transposed: direction.
        output_padding: of a transposed convolution.
        taps: groups of taps still computed; the weights of a group are added.
        first: only the first result slice is computed, the others are equal to it.
        dropped: the axis is gone from input, weight and result.
        cut: (position, number) of source slices that are left out, since they only make more equal results; ``size``,
            ``outputs`` and ``ids`` are without them.
        repeat: (position, number) of the result slice that is repeated in their stead.
    """

    axis: int
    size: Size
    outputs: Size
    kernel: int
    stride: int
    dilation: int
    lo: int
    hi: int
    ids: Slices | None
    transposed: bool
    output_padding: int = 0
    taps: tuple[tuple[int, ...], ...] = ()
    first: bool = False
    dropped: bool = False
    cut: tuple[int, int] | None = None
    repeat: tuple[int, int] | None = None

    @property
    def known(self) -> bool:
        """Whether input and result have known sizes."""
        return self.ids is not None and isinstance(self.outputs, int)

    def place(self, output: int, tap: int) -> int | None:
        """The input position that a tap meets; None in the padding."""
        assert self.ids is not None
        if self.transposed:
            place, rest = divmod(output + self.lo - tap * self.dilation, self.stride)
            return place if rest == 0 and 0 <= place < len(self.ids) else None
        place = output * self.stride - self.lo + tap * self.dilation
        return place if 0 <= place < len(self.ids) else None

    def meets(self, output: int, tap: int) -> int:
        """The number of the slice that a tap meets."""
        assert self.ids is not None
        place = self.place(output, tap)
        return ZERO if place is None else self.ids[place]

    def row(self, output: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """What a result position is made of: (slice, taps that meet it), zero slices left out."""
        met: dict[int, list[int]] = {}
        for group in self.taps:
            for tap in group:
                number = self.meets(output, tap)
                if number != ZERO:
                    met.setdefault(number, []).append(tap)
        return tuple(sorted((number, tuple(taps)) for number, taps in met.items()))

    @property
    def rows(self) -> list[tuple[tuple[int, tuple[int, ...]], ...]]:
        """``row`` of every result position."""
        return [self.row(o) for o in range(self.outputs)] if isinstance(self.outputs, int) else []

    def without_border(self) -> AxisPlan:
        """The same reads with zero slices at both ends of the input counted as padding."""
        ids = self.ids.ids if self.ids is not None else ()
        if isinstance(ids, range) or not any(ids):
            return self
        front = next(i for i, number in enumerate(ids) if number != ZERO)
        behind = next(i for i, number in enumerate(reversed(ids)) if number != ZERO)
        inner = ids[front : len(ids) - behind]
        if any(b != a + 1 for a, b in pairwise(inner)):
            return self
        distinct = Slices(range(inner[0], inner[-1] + 1))
        return replace(self, ids=distinct, size=len(inner), lo=self.lo + front, hi=self.hi + behind)

    @property
    def plain(self) -> bool:
        """Input slices all distinct, every position reading some: nothing is to be gained, seen without enumeration."""
        if self.transposed or self.ids is None or not self.ids.all_distinct or not isinstance(self.outputs, int):
            return False
        n, reach = len(self.ids), (self.kernel - 1) * self.dilation
        inner = n > 1 and self.lo <= reach and (self.outputs - 1) * self.stride - self.lo < n
        # The outer taps meet data at the last and at the first position that they can.
        alive = (self.outputs - 1) * self.stride >= self.lo and reach - self.lo < n and self.dilation <= n
        return inner and alive and self.stride <= n and self.dilation == 1 and self.outputs > 1

    @property
    def live(self) -> tuple[int, ...]:
        """Taps that meet data at some position."""
        if not self.known or self.plain or not isinstance(self.outputs, int):
            return tuple(t for g in self.taps for t in g)
        every = sorted(t for g in self.taps for t in g)
        return tuple(t for t in every if any(self.meets(o, t) != ZERO for o in range(self.outputs)))

    @property
    def useful(self) -> int | None:
        """Products of a tap and a slice that have to be computed; None where sizes are free."""
        if not self.known or not isinstance(self.outputs, int):
            return None
        if self.plain:
            return self.outputs * self.kernel
        # One product for each different slice of each different result.
        return sum(len(row) for row in set(self.rows))

    @property
    def changed(self) -> bool:
        """Whether anything is left out."""
        return bool(self.dropped or self.first or self.cut or self.taps != tuple((t,) for t in range(self.kernel)))


@dataclass(frozen=True)
class Site:
    """A convolution of the program, spelled out.

    Attributes:
        node: in the program.
        source: what is convolved (the input of a zero pad that was taken into the convolution).
        weight: (out, in/groups, *kernel), or (in, out/groups, *kernel) if transposed.
        bias: (out,), or None.
        groups: as in torch.
        transposed: direction.
        axes: the spatial axes.
        applied: names of the rules that changed something.
        refusals: (rule, why it does not apply).
        form: how it is computed, a name in ``flatconv.forms``; empty for the convolution itself.
        channels_last: whether its convolutions are given tensors in channels-last order.
        together: the convolutions of the same input, itself among them, that are computed as one; none if it is alone.
    """

    node: Node
    source: Node
    weight: Node
    bias: Node | None
    groups: int
    transposed: bool
    axes: tuple[AxisPlan, ...]
    applied: tuple[str, ...] = ()
    refusals: tuple[tuple[str, str], ...] = field(default=())
    form: str = ""
    channels_last: bool = False
    together: tuple[Node, ...] = ()

    @property
    def kept(self) -> tuple[AxisPlan, ...]:
        """The axes that are left: the last ones of the source once the others are dropped."""
        return tuple(a for a in self.axes if not a.dropped)

    @property
    def batched(self) -> bool:
        """Whether there is a batch axis."""
        return self.node.rank == len(self.axes) + 2

    @property
    def dropped(self) -> Axes:
        """Axes (of input and result) that are gone."""
        return frozenset(a.axis for a in self.axes if a.dropped)

    @property
    def name(self) -> str:
        """The operator: 'conv3d', 'conv_transpose2d'."""
        return f"conv{'_transpose' if self.transposed else ''}{len(self.axes)}d"

    def with_axis(self, plan: AxisPlan) -> Site:
        """This site with one axis planned anew."""
        return replace(self, axes=tuple(plan if a.axis == plan.axis else a for a in self.axes))

    def did(self, rule: str) -> Site:
        """This site with a rule noted as applied."""
        return self if rule in self.applied else replace(self, applied=(*self.applied, rule))

    def refuses(self, rule: str, why: str) -> Site:
        """This site with a reason noted why a rule does not apply."""
        return replace(self, refusals=(*self.refusals, (rule, why)))


def site(node: Node, facts: Facts) -> Site | None:
    """Read any spelling of a convolution; None if the node is none, or is not made of plain numbers."""
    base, overload = node.op.removeprefix("aten.").partition(".")[::2]
    if not node.op.startswith("aten.conv") or node.shape is None or not isinstance(node.args.get("weight"), Node):
        return None
    source: Node = node.args["input"]
    weight: Node = node.args["weight"]
    n = weight.rank - 2
    if base == "convolution":
        transposed = bool(node.args["transposed"])
    elif base in (f"conv{n}d", f"conv_transpose{n}d") and overload in ("default", "padding", "input"):
        transposed = "transpose" in base
    else:
        return None
    kernel = ints(list((weight.shape or ())[2:]), n)
    stride, dilation = ints(node.args["stride"], n), ints(node.args["dilation"], n)
    extra = ints(node.args.get("output_padding") or 0, n)
    if kernel is None or stride is None or dilation is None or extra is None or n < 1:
        return None
    sides = _sides(node.args["padding"], kernel, dilation, n)
    if sides is None:
        return None
    first = node.rank - n
    axes = tuple(
        AxisPlan(
            axis=first + i,
            size=(source.shape or ())[first + i],
            outputs=(node.shape or ())[first + i],
            kernel=kernel[i],
            stride=stride[i],
            dilation=dilation[i],
            lo=sides[i][0],
            hi=sides[i][1],
            ids=facts.along(source, first + i),
            transposed=transposed,
            output_padding=extra[i],
            taps=tuple((t,) for t in range(kernel[i])),
        )
        for i in range(n)
    )
    return Site(node, source, weight, node.args["bias"], node.args["groups"], transposed, axes)


def _sides(given: Any, kernel: tuple[int, ...], dilation: tuple[int, ...], n: int) -> list[tuple[int, int]] | None:
    if given == "valid":
        return [(0, 0)] * n
    if given == "same":
        # torch puts the odd slice behind: an even kernel is not centred.
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(t // 2, t - t // 2) for t in totals]
    numbers = ints(given, n)
    return None if numbers is None else [(p, p) for p in numbers]


class Conv(Operator):
    """``y[o] = b + Σ_t W[t]·x[o·s − p + t·d]``, and its transpose."""

    names = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution")

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and site(node, Facts()) is not None

    def carries(self, node: Node) -> list[Carry]:
        n = node.args["weight"].rank - 2
        return [Carry(0, ((node.args["input"], 0),))] if node.rank == n + 2 else []

    def zero(self, node: Node, zeros: Any) -> bool:
        return node.args["bias"] is None

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        found = list(super().facts(node, facts))
        here = site(node, facts)
        assert here is not None
        for plan in here.axes:
            if not plan.known or plan.ids is None or plan.without_border().plain:
                continue
            rows = plan.rows
            if len(set(rows)) == len(rows) and () not in rows:
                continue  # all distinct, as every result is until something is known of it
            number, nothing = facts.numbering.number, ZERO if here.bias is None else None
            ids = []
            for row in rows:
                made = number(("conv", node.index, plan.axis, row))
                ids.append(made if row or nothing is None else nothing)
            found[plan.axis] = Slices(tuple(ids), plan.ids.origin)
        return tuple(found)

    def links(self, node: Node, facts: Facts) -> Iterator[tuple[Node, int, int]]:
        """None here: what is dropped at a convolution is decided by its plan."""
        return iter(())

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        return NONE

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        return self.call(node, low, {t: low.get(t) for t in node.tensors})


Call = Callable[..., Any]


def reduce_weight(weight: Any, here: Site, dtype: torch.dtype, call: Call) -> Any:
    """The weight of a planned site: dead taps gone, merged taps added, dropped axes gone.

    Args:
        weight: a tensor, or a node that stands for one.
        here: the planned site.
        dtype: of the weight.
        call: runs an ATen operator on tensors, or adds it to a graph.
    """
    # Added in a wider type and rounded once, so that the sum is as good as the weights themselves.
    added = any(len(group) > 1 for plan in here.axes for group in plan.taps)
    if added:
        weight = call(aten.to.dtype, weight, torch.float64)
    gone = 0
    for i, plan in enumerate(here.axes):
        dim = 2 + i - gone
        if plan.taps != tuple((t,) for t in range(plan.kernel)):
            weight = _join_taps(weight, plan, dim, call)
        if plan.dropped:
            weight, gone = call(aten.squeeze.dim, weight, dim), gone + 1
    return call(aten.to.dtype, weight, dtype) if added else weight


def _join_taps(weight: Any, plan: AxisPlan, dim: int, call: Call) -> Any:
    parts = []
    for group in plan.taps:
        taps = [call(aten.slice.Tensor, weight, dim, t, t + 1) for t in group]
        joined = call(aten.cat.default, taps, dim) if len(taps) > 1 else taps[0]
        parts.append(call(aten.sum.dim_IntList, joined, [dim], True) if len(taps) > 1 else joined)
    return parts[0] if len(parts) == 1 else call(aten.cat.default, parts, dim)


def emit_plan(here: Site, low: Lowering, weight: Any, bias: Any) -> fx.Node:
    """The convolution that a plan describes, on the source without the dropped axes.

    The result lacks the dropped axes and has size 1 along axes of which only the first slice is computed.
    """
    given, kept = select_source(here, low), here.kept
    if not kept:
        return _matrix_product(here, low, given, weight, bias)
    if here.transposed:
        packet = getattr(aten, f"conv_transpose{len(kept)}d")
        target = packet.default if len(kept) == 1 else packet.input
        rest = [[a.stride for a in kept], [a.lo for a in kept], [a.output_padding for a in kept], here.groups]
        if here.channels_last:
            given = in_channels_last(low, given, len(kept))
        return low.call(target, given, weight, bias, *rest, [a.dilation for a in kept])
    return convolve(kept, here.groups, given, weight, bias, low, here.channels_last)


def convolve(
    axes: Sequence[AxisPlan], groups: int, given: Any, weight: Any, bias: Any, low: Lowering, channels_last: bool
) -> fx.Node:
    """A convolution over the last axes of ``given``, each as its plan says."""
    sides, dilations = [], []
    for a in axes:
        lo, hi, dilation = window(a)
        sides.append((lo, hi))
        dilations.append(dilation)
    common = [max(min(lo, hi), 0) for lo, hi in sides]
    rest_sides = [(lo - c, hi - c) for (lo, hi), c in zip(sides, common, strict=True)]
    if any(side != (0, 0) for side in rest_sides):
        amounts = [p for side in reversed(rest_sides) for p in side]
        given = low.call(aten.constant_pad_nd.default, given, amounts)
    if channels_last:
        given = in_channels_last(low, given, len(axes))
    target = getattr(aten, f"conv{len(axes)}d").default
    strides = [1 if a.first else a.stride for a in axes]
    return low.call(target, given, weight, bias, strides, common, dilations, groups)


FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}
"""Memory formats by the number of spatial axes."""


def in_channels_last(low: Lowering, given: Any, axes: int) -> Any:
    """The same tensor with its channels side by side, where there is such a format."""
    return low.call(aten.contiguous.default, given, memory_format=FORMATS[axes]) if axes in FORMATS else given


def pad_axis(low: Lowering, given: Any, axis: int, rank: int, lo: int, hi: int) -> Any:
    """Zeros at both ends of one axis; negative amounts crop."""
    return low.call(aten.constant_pad_nd.default, given, [0, 0] * (rank - 1 - axis) + [lo, hi]) if lo or hi else given


def window(plan: AxisPlan) -> tuple[int, int, int]:
    """Padding on both sides and dilation of an axis that stays, for the taps that stay. Negative padding crops."""
    leaders = leading_taps(plan)
    assert leaders is not None
    step = leaders[1] - leaders[0] if len(leaders) > 1 else 1
    dilation = plan.dilation * step
    lo = plan.lo - leaders[0] * plan.dilation
    hi = plan.hi - (plan.kernel - 1 - leaders[-1]) * plan.dilation
    if plan.first:
        assert isinstance(plan.size, int)
        hi = (leaders[-1] - leaders[0]) * plan.dilation + 1 - lo - plan.size
    return lo, hi, dilation


def leading_taps(plan: AxisPlan) -> list[int] | None:
    """One tap of each group such that all are evenly spaced; None if there is no such choice."""
    for choose in (max, min):
        leaders = [choose(g) for g in plan.taps]
        steps = {b - a for a, b in pairwise(leaders)}
        if len(steps) <= 1 and all(s > 0 for s in steps):
            return leaders
    return None


def select_source(here: Site, low: Lowering) -> fx.Node:
    """The source with, along every dropped axis, only the slice that the remaining taps meet."""
    drop = here.dropped
    stored = frozenset(a.axis for a in here.axes if a.dropped and a.ids is not None and a.ids.only is not None)
    given = low.get(here.source, stored)
    for a in sorted(drop - stored, reverse=True):
        plan = next(p for p in here.axes if p.axis == a)
        output = next(o for o, row in enumerate(plan.rows) if row)
        place = next(p for p in (plan.place(output, t) for g in plan.taps for t in g) if p is not None)
        given = low.call(aten.select.int, given, after(stored, a), place)
    for plan in here.kept:
        if plan.cut is not None:
            given = _cut(low, given, after(drop, plan.axis), *plan.cut)
    return given


def _cut(low: Lowering, given: fx.Node, axis: int, at: int, count: int) -> fx.Node:
    """Without ``count`` slices from ``at`` on."""
    behind = low.call(aten.slice.Tensor, given, axis, at + count)
    return low.call(aten.cat.default, [low.call(aten.slice.Tensor, given, axis, 0, at), behind], axis) if at else behind


def repeated(low: Lowering, made: fx.Node, axis: int, rank: int, at: int, count: int) -> fx.Node:
    """With slice ``at`` ``count`` times more."""
    one = low.call(aten.slice.Tensor, made, axis, at, at + 1)
    many = low.call(aten.expand.default, one, [count + 1 if a == axis else -1 for a in range(rank)])
    front = [low.call(aten.slice.Tensor, made, axis, 0, at)] if at else []
    return low.call(aten.cat.default, [*front, many, low.call(aten.slice.Tensor, made, axis, at + 1)], axis)


def length(here: Site, axis: AxisPlan, low: Lowering) -> int | fx.Node:
    """The size of an axis of the source, as far as it is read."""
    return axis.size if isinstance(axis.size, int) else low.size(here.source, axis.axis)


def _matrix_product(here: Site, low: Lowering, given: fx.Node, weight: Any, bias: Any) -> fx.Node:
    if here.transposed:
        weight = low.call(aten.t.default, weight)
    return low.call(aten.linear.default, given, weight, bias)
