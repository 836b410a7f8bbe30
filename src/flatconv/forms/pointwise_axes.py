"""Neighbouring axes with a kernel of 1 as one axis: (k, 1, 1) as a 2-D convolution with a kernel of (k, 1) on D × H·W.

``y[…, h, w] = f(x[…, h, w])`` for each (h, w) by itself, so the pair can be one index.

Exact when: kernel 1, stride 1 and no padding along two axes beside each other. It is a matter of views.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from flatconv.ops.base import Axes, Lowering
from flatconv.ops.conv import AxisPlan, Site, convolve, select_source

NAME = "pointwise axes as one"

aten = torch.ops.aten


def _pointwise(a: AxisPlan) -> bool:
    return (a.kernel, a.stride, a.lo, a.hi) == (1, 1, 0, 0) and not a.changed


def _run(here: Site) -> tuple[int, int] | None:
    """First and last of the longest run of pointwise axes, as positions among those that are kept."""
    kept, best = here.kept, None
    for i in range(len(kept)):
        j = i
        while j < len(kept) and _pointwise(kept[j]):
            j += 1
        if j - i >= 2 and (best is None or j - i > best[1] - best[0] + 1):
            best = (i, j - 1)
    return best


def why_not(here: Site) -> str | None:
    """Why no two axes can be one."""
    if here.transposed or not here.batched:
        return "the convolution is transposed or has no batch axis"
    return None if _run(here) else "no two axes beside each other have a kernel of 1"


def _weight_dims(here: Site) -> list[int]:
    run = _run(here)
    assert run is not None
    return [2 + i for i in range(run[0] + 1, run[1] + 1)]


def weight(given: Any, here: Site, call: Callable[..., Any]) -> Any:
    """One of the kernel's ones is left."""
    return call(aten.squeeze.dims, given, _weight_dims(here))


def emit(here: Site, low: Lowering, weight: Any, bias: Any) -> tuple[fx.Node, Axes]:
    """The axes flattened, a convolution of lower rank, and the axes as they were."""
    run = _run(here)
    assert run is not None
    kept = here.kept
    joined = kept[run[0] : run[1] + 1]
    # Made out of sizes, so that one free size is not the product of two.
    sizes = [low.size(here.source, a.axis) for a in joined]
    given = low.call(aten.flatten.using_ints, select_source(here, low), 2 + run[0], 2 + run[1])
    one = replace(kept[run[0]], size=_product(joined), outputs=_product(joined), ids=None)
    made = convolve(
        [*kept[: run[0]], one, *kept[run[1] + 1 :]], here.groups, given, weight, bias, low, here.channels_last
    )
    return low.call(aten.unflatten.int, made, 2 + run[0], sizes), here.dropped


def _product(axes: list[AxisPlan] | tuple[AxisPlan, ...]) -> Any:
    found: Any = 1
    for a in axes:
        found = found * a.size
    return found


def views(here: Site) -> bool:
    """Always."""
    return True


def left(here: Site) -> int:
    """A run of axes counts as one."""
    return len(here.kept) - len(_weight_dims(here))
