"""A convolution along an axis as one of one rank less over kT·C channels.

``y[:, o] = conv((x[:, o·s − p + t·d] for every t) as C·kT channels, W as C·kT channels)``

Exact when: always (stride, dilation, groups and padding are honoured). It holds kT copies of the input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from flatconv.forms import sum_of_slices
from flatconv.forms.planes import back, planes
from flatconv.ops.base import Axes, Lowering
from flatconv.ops.conv import Site, convolve, pad_axis, select_source, window

NAME = "unfold along an axis"

aten = torch.ops.aten


def why_not(here: Site) -> str | None:
    """Why the first axis cannot be unfolded."""
    return sum_of_slices.why_not(here)


def weight(given: Any, here: Site, call: Callable[..., Any]) -> Any:
    """(out, in, k, …) to (out, in·k, …). A group's channels stay side by side."""
    return call(aten.flatten.using_ints, given, 1, 2)


def emit(here: Site, low: Lowering, weight: Any, bias: Any) -> tuple[fx.Node, Axes]:
    """The slices that each tap meets, side by side as channels."""
    axis, *others = here.kept
    lo, hi, dilation = window(axis)
    stride, count = (1, 1) if axis.first else (axis.stride, axis.outputs)
    assert isinstance(count, int)
    given = pad_axis(low, select_source(here, low), 2, len(here.kept) + 2, lo, hi)
    given = low.call(aten.transpose.int, given, 1, 2)
    reach = (count - 1) * stride + 1
    met = [
        low.call(aten.slice.Tensor, given, 1, i * dilation, i * dilation + reach, stride) for i in range(len(axis.taps))
    ]
    given = planes(low, low.call(aten.stack.default, met, 3))
    given = low.call(aten.flatten.using_ints, given, 1, 2)
    made = convolve(others, here.groups, given, weight, bias, low, here.channels_last)
    return back(low, made, here, count), here.dropped


def views(here: Site) -> bool:
    """Slices are copied."""
    return False


def left(here: Site) -> int:
    """All but one."""
    return len(here.kept) - 1
