"""Drop an axis along which one slice goes in and one comes out: conv3d becomes conv2d, conv2d conv1d, and so on.

``y = W[t]·x[i]`` for the one tap t and the one slice i that meet.

Exact when: all output positions that read anything read one and the same slice with one and the same (merged) tap, and
those that read nothing are zero. A convolution that loses all its axes is a matrix product.
"""

from __future__ import annotations

from dataclasses import replace

from flatconv.ops.base import Facts
from flatconv.ops.conv import AxisPlan, Site

NAME = "drop an axis"


def meets_one_slice(site: Site, axis: AxisPlan) -> bool:
    """Whether all that is left of an axis is one (merged) tap on one slice."""
    return _why_not(site, axis) is None


def _why_not(site: Site, axis: AxisPlan) -> str | None:
    if not axis.known:
        return "its size is free"
    if axis.plain:
        return f"{len(axis.ids or ())} slices are all different"
    rows = set(axis.rows)
    read = rows - {()}
    if not read:
        return "no tap meets data"
    if len(read) > 1:
        return f"each output position has its own subset of slices and taps ({len(read)} different ones)"
    if () in rows and site.bias is not None:
        return "positions that read nothing still get the bias"
    row = read.pop()
    if len(row) > 1:
        return f"{len(row)} different slices are read"
    if tuple(sorted(t for g in axis.taps for t in g)) != row[0][1]:
        return f"the taps {axis.taps} do not all meet the slice at once"
    last = axis.axis == site.axes[-1].axis
    if site.groups > 1 and last and (site.transposed or all(a.dropped for a in site.axes[:-1])):
        return "a grouped convolution keeps one axis"
    return None


def apply(site: Site, facts: Facts) -> Site:
    """Drop every axis that can be."""
    for axis in site.axes:
        why = _why_not(site, axis)
        if why is None and len(axis.taps) == 1:
            site = site.with_axis(replace(axis, dropped=True, first=False)).did(NAME)
        elif axis.axis == site.axes[0].axis or not axis.plain:
            site = site.refuses(NAME, f"axis {axis.axis}: {why or 'its taps are not merged'}")
    return site
