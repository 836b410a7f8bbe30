"""The taps of one axis as channels: a 3-D convolution as one of 2-D over kT·C channels.

``y[n, :, m] = conv(x[n, :, m·k : (m + 1)·k] as C·k channels, W as C·k channels)``

Exact when: along the axis kernel == stride, no padding, dilation 1, and groups is 1; what the size has beyond a multiple of
the kernel is cut off, as the convolution leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from flatconv.forms.patches import axis_why_not, blocks
from flatconv.forms.planes import back, planes
from flatconv.ops.base import Axes, Lowering
from flatconv.ops.conv import Site, convolve, select_source

NAME = "axis into channels"

aten = torch.ops.aten


def why_not(here: Site) -> str | None:
    """Why the first axis cannot join the channels."""
    kept = here.kept
    if len(kept) < 2 or kept[0].kernel == 1:
        return "no axis is left beside it" if len(kept) < 2 else "the kernel is 1 along the axis"
    if here.transposed or not here.batched or here.groups != 1:
        return "the convolution is transposed, has groups or has no batch axis"
    why = axis_why_not(kept[0])
    return None if why is None else f"axis {kept[0].axis}: {why}"


def weight(given: Any, here: Site, call: Callable[..., Any]) -> Any:
    """(out, in, k, …) to (out, in·k, …)."""
    return call(aten.flatten.using_ints, given, 1, 2)


def emit(here: Site, low: Lowering, weight: Any, bias: Any) -> tuple[fx.Node, Axes]:
    """Frames join the channels; where there are several groups of frames, these join the batch."""
    axis, *others = here.kept
    given = select_source(here, low)
    if axis.size == axis.kernel:
        given = low.call(aten.flatten.using_ints, given, 1, 2)
        made = convolve(others, 1, given, weight, bias, low, here.channels_last)
        return made, here.dropped | {axis.axis}
    count, given = blocks(here, axis, 2, given, low)
    given = low.call(aten.unflatten.int, given, 2, [count, axis.kernel])
    given = planes(low, low.call(aten.transpose.int, given, 1, 2))
    made = convolve(others, 1, low.call(aten.flatten.using_ints, given, 1, 2), weight, bias, low, here.channels_last)
    return back(low, made, here, count), here.dropped


def views(here: Site) -> bool:
    """Whether there is one group of frames."""
    return here.kept[0].size == here.kept[0].kernel


def left(here: Site) -> int:
    """All but one."""
    return len(here.kept) - 1
