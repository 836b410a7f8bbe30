"""An axis with a kernel of 1 as part of the batch: (1, k, k) as a 2-D convolution over N·D images.

``y[n, :, o] = conv(x[n, :, o·s], W[0])``

Exact when: kernel 1 and no padding along the axis. Groups, and everything along the other axes, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from flatconv.forms.planes import back, cannot_part, planes
from flatconv.ops.base import Axes, Lowering
from flatconv.ops.conv import Site, convolve, length, select_source, window

NAME = "axis into batch"

aten = torch.ops.aten


def why_not(here: Site) -> str | None:
    """Why the first axis cannot join the batch."""
    if why := cannot_part(here):
        return why
    axis = here.kept[0]
    if len(axis.taps) != 1:
        return f"{len(axis.taps)} taps are left along axis {axis.axis}"
    if axis.first:
        return f"one result slice stands for all along axis {axis.axis}"
    lo, hi, _ = window(axis)
    if lo or hi:
        return f"axis {axis.axis} is padded or cropped by {lo} and {hi}"
    if axis.stride > 1 and not isinstance(axis.outputs, int):
        return f"the size of axis {axis.axis} is free"
    return None


def weight(given: Any, here: Site, call: Callable[..., Any]) -> Any:
    """(out, in, 1, …) to (out, in, …)."""
    return call(aten.squeeze.dim, given, 2)


def emit(here: Site, low: Lowering, weight: Any, bias: Any) -> tuple[fx.Node, Axes]:
    """Slices into the batch, a convolution of one rank less, and back."""
    axis, *others = here.kept
    given = select_source(here, low)
    count: int | fx.Node
    if axis.stride > 1:
        given = low.call(aten.slice.Tensor, given, 2, 0, None, axis.stride)
        assert isinstance(axis.outputs, int)
        count = axis.outputs
    else:
        count = length(here, axis, low)
    given = planes(low, low.call(aten.transpose.int, given, 1, 2))
    made = convolve(others, here.groups, given, weight, bias, low, here.channels_last)
    return back(low, made, here, count), here.dropped


def views(here: Site) -> bool:
    """The axis passes the channels, which moves all elements."""
    return False


def left(here: Site) -> int:
    """All but one."""
    return len(here.kept) - 1
