"""Neighbouring axes with a kernel of 1 as one axis: (k, 1, 1) as a 2-D convolution with a kernel of (k, 1) on D × H·W.

``y[…, h, w] = f(x[…, h, w])`` for each (h, w) by itself, so the pair can be one index.

Exact when: kernel 1, stride 1 and no padding along two axes beside each other. It is a matter of views. It is for
convolutions of three axes and more: engines have fast kernels for two, and a memory format that one axis has not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from flatconv.ops.base import Axes, Lowering
from flatconv.ops.conv import AxisPlan, Site, convolve, length, select_source

NAME = "pointwise axes as one"

aten = torch.ops.aten


def _pointwise(a: AxisPlan) -> bool:
    return (a.kernel, a.stride, a.lo, a.hi) == (1, 1, 0, 0) and not a.changed


def _pair(here: Site) -> int | None:
    """The last two pointwise axes beside each other: the place of the first among those that are kept."""
    kept = here.kept
    pairs = [i for i in range(len(kept) - 1) if _pointwise(kept[i]) and _pointwise(kept[i + 1])]
    return pairs[-1] if pairs else None


def why_not(here: Site) -> str | None:
    """Why no two axes can be one."""
    if here.transposed or not here.batched:
        return "the convolution is transposed or has no batch axis"
    if len(here.kept) < 3:
        return f"{len(here.kept)} axes are left"
    return None if _pair(here) is not None else "no two axes beside each other have a kernel of 1"


def weight(given: Any, here: Site, call: Callable[..., Any]) -> Any:
    """One of the kernel's ones is left."""
    at = _pair(here)
    assert at is not None
    return call(aten.squeeze.dim, given, 2 + at)


def emit(here: Site, low: Lowering, weight: Any, bias: Any) -> tuple[fx.Node, Axes]:
    """The axes flattened, a convolution of lower rank, and the axes as they were."""
    at, kept = _pair(here), here.kept
    assert at is not None
    one, other = kept[at : at + 2]
    sizes = [length(here, a, low) for a in (one, other)]
    given = low.call(aten.flatten.using_ints, select_source(here, low), 2 + at, 3 + at)
    joined = replace(one, size=one.size * other.size, outputs=one.size * other.size, ids=None)
    axes = [*kept[:at], joined, *kept[at + 2 :]]
    made = convolve(axes, here.groups, given, weight, bias, low, here.channels_last)
    return low.call(aten.unflatten.int, made, 2 + at, sizes), here.dropped


def views(here: Site) -> bool:
    """Always."""
    return True


def left(here: Site) -> int:
    """Two axes count as one."""
    return len(here.kept) - 1
