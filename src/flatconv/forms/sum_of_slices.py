"""A convolution along an axis as a sum over its taps: kT convolutions of one rank less.

``y[:, o] = b + Σ_t conv(x[:, o·s − p + t·d], W[t])``

Exact when: always (stride, dilation, groups and padding are honoured).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from flatconv.forms.planes import back, cannot_part, planes
from flatconv.ops.base import Axes, Lowering
from flatconv.ops.conv import Site, convolve, pad_axis, select_source, window

NAME = "sum of slices"

aten = torch.ops.aten


def why_not(here: Site) -> str | None:
    """Why the first axis cannot be summed over."""
    if why := cannot_part(here):
        return why
    axis = here.kept[0]
    if len(axis.taps) < 2:
        return f"one tap is left along axis {axis.axis}"
    if not isinstance(axis.outputs, int) or not isinstance(axis.size, int) or not axis.outputs:
        return f"the size of axis {axis.axis} is free, or there is no result"
    return None


def weight(given: Any, here: Site, call: Callable[..., Any]) -> Any:
    """(out, in, k, …) to (k, out, in, …), so that the weights of a tap lie side by side."""
    return call(aten.movedim.int, given, 2, 0)


def emit(here: Site, low: Lowering, weight: Any, bias: Any) -> tuple[fx.Node, Axes]:
    """For every tap: the slices that it meets into the batch, a convolution, and an addition."""
    axis, *others = here.kept
    lo, hi, dilation = window(axis)
    stride, count = (1, 1) if axis.first else (axis.stride, axis.outputs)
    assert isinstance(count, int)
    given = pad_axis(low, select_source(here, low), 2, len(here.kept) + 2, lo, hi)
    given = low.call(aten.transpose.int, given, 1, 2)
    total = None
    for i in range(len(axis.taps)):
        start = i * dilation
        met = low.call(aten.slice.Tensor, given, 1, start, start + (count - 1) * stride + 1, stride)
        tap = low.call(aten.select.int, weight, 0, i)
        met = planes(low, met)
        made = convolve(others, here.groups, met, tap, bias if total is None else None, low, here.channels_last)
        total = made if total is None else low.call(aten.add.Tensor, total, made)
    assert total is not None
    return back(low, total, here, count), here.dropped


def views(here: Site) -> bool:
    """Slices are copied."""
    return False


def left(here: Site) -> int:
    """All but one."""
    return len(here.kept) - 1
