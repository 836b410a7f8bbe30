"""A kernel that moves by its own size, as a matrix product of patches.

``y[n, m] = b + W·vec(x[n, :, m·k : (m + 1)·k])``

Exact when: along every remaining axis kernel == stride, no padding, dilation 1, and groups is 1; what a size has beyond a
multiple of the kernel is cut off, as the convolution leaves it out. Where each axis has a single patch, it is a matter of
views; where patches have been cut out and laid flat before (by a processor of a vision-language model), no tensor of higher
rank is left.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import sympy
import torch
from torch import fx

from flatconv import ops
from flatconv.ops.base import NONE, Axes, Lowering
from flatconv.ops.conv import AxisPlan, Site, select_source
from flatconv.ops.shape import Reshape
from flatconv.program import Node

NAME = "patches to a matrix product"

aten = torch.ops.aten


def why_not(here: Site) -> str | None:
    """Why the kernel does not cut its input into patches."""
    kept = here.kept
    if not kept or all(a.kernel == 1 for a in kept):
        return "no axis has a kernel"
    if here.transposed:
        return "a transposed convolution makes patches, it does not read them"
    if not here.batched:
        return "there is no batch axis"
    if here.groups != 1:
        return f"the convolution has {here.groups} groups"
    for a in kept:
        why = axis_why_not(a)
        if why is not None:
            return f"axis {a.axis}: {why}"
    return None


def axis_why_not(a: AxisPlan) -> str | None:
    """Why an axis does not fall into blocks of the kernel's size."""
    if a.kernel != a.stride:
        return f"the kernel is {a.kernel} and the stride {a.stride}"
    if a.dilation != 1 and a.kernel > 1:
        return f"the dilation is {a.dilation}"
    if a.lo or a.hi:
        return f"it is padded by {a.lo} and {a.hi}"
    if a.changed:
        return "only some of its taps or results are computed"
    if isinstance(a.size, int) and a.size < a.kernel:
        return f"its size {a.size} is less than the kernel {a.kernel}"
    return None


def weight(given: Any, here: Site, call: Callable[..., Any]) -> Any:
    """(out, in, *kernel) to (out, in·kernel)."""
    return call(aten.flatten.using_ints, given, 1, -1)


def emit(here: Site, low: Lowering, weight: Any, bias: Any) -> tuple[fx.Node, Axes]:
    """Views, one matrix product, views."""
    split = [a for a in here.kept if a.size != a.kernel]
    gone = frozenset(a.axis for a in here.kept if a.size == a.kernel) | here.dropped
    if not split:
        flat = _laid_flat(here, low)
        if flat is None:
            flat = low.call(aten.flatten.using_ints, select_source(here, low), 1, -1)
        return low.call(aten.linear.default, flat, weight, bias), gone
    given = select_source(here, low)
    # (N, C, m·k, …) to (N, m, …, C, k, …)
    sizes: list[int | fx.Node] = []
    counts, inner = [], []
    for i, a in enumerate(here.kept):
        if a.size != a.kernel:
            count, given = blocks(here, a, 2 + i, given, low)
            counts.append(2 + len(sizes))
            sizes.append(count)
        inner.append(2 + len(sizes))
        sizes.append(a.kernel)
    batch, channels = low.size(here.source, 0), low.size(here.source, 1)
    cut = low.call(aten.reshape.default, given, [batch, channels, *sizes])
    cut = low.call(aten.permute.default, cut, [0, *counts, 1, *inner])
    made = low.call(aten.linear.default, low.call(aten.flatten.using_ints, cut, 1 + len(counts), -1), weight, bias)
    return low.call(aten.permute.default, made, [0, 1 + len(counts), *range(1, 1 + len(counts))]), gone


def blocks(here: Site, a: AxisPlan, at: int, given: fx.Node, low: Lowering) -> tuple[int | fx.Node, fx.Node]:
    """How many kernels fit into an axis, and the tensor without what is left over."""
    if isinstance(a.size, int):
        count, rest = divmod(a.size, a.kernel)
        return count, low.call(aten.slice.Tensor, given, at, 0, count * a.kernel) if rest else given
    fits = low.call(operator.floordiv, low.size(here.source, a.axis), a.kernel)
    if sympy.Mod(a.size, a.kernel) == 0:
        return fits, given
    return fits, low.call(aten.slice.Tensor, given, at, 0, low.call(operator.mul, fits, a.kernel))


def _laid_flat(here: Site, low: Lowering) -> fx.Node | None:
    """The matrix of patches that the source is but a view of."""
    if here.dropped:
        return None
    source: Node = here.source
    shape = source.shape or ()
    if not all(isinstance(s, int) for s in shape[1:]):
        return None
    wanted = (shape[0], math.prod(int(s) for s in shape[1:]))
    while isinstance(ops.room(source), Reshape):
        source = source.tensors[0]
        if source.shape == wanted:
            return low.get(source, NONE)
    return None


def views(here: Site) -> bool:
    """Whether each axis has a single patch."""
    return all(a.size == a.kernel for a in here.kept)


def left(here: Site) -> int:
    """A matrix product."""
    return 0
