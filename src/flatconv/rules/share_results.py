"""Compute each of several equal neighbouring results once: a still clip between zero-padded ends.

``y[o] == y[o + 1] == …`` for a run of result slices; the source is shortened so that the convolution makes one of them.

Exact when: every result of the shortened source reads the same slices with the same taps as the result that it stands for.
"""

from __future__ import annotations

from dataclasses import replace

from flatconv.facts import Slices
from flatconv.ops.base import Facts
from flatconv.ops.conv import AxisPlan, Site

NAME = "share equal results"


def apply(site: Site, facts: Facts) -> Site:
    """Shorten every axis along which neighbouring results are equal."""
    if site.transposed:
        return site
    for axis in site.axes:
        shorter = _shortened(axis)
        if shorter is not axis:
            site = site.with_axis(shorter).did(NAME)
    return site


def _shortened(axis: AxisPlan) -> AxisPlan:
    """The axis without the source slices that only make more of the same."""
    if axis.dropped or axis.first or not axis.known or axis.plain or axis.ids is None:
        return axis
    rows = axis.rows
    start, length = _longest(rows)
    if length < 2:
        return axis
    more = length - 1
    wanted = rows[: start + 1] + rows[start + length :]
    ids, gone = tuple(axis.ids), more * axis.stride
    # What is cut lies where the run is read: no need to look elsewhere.
    first = start * axis.stride - axis.lo
    reach = (axis.kernel - 1) * axis.dilation + 1
    for at in range(max(first, 0), min(first + reach, len(ids) - gone) + 1):
        left = ids[:at] + ids[at + gone :]
        shorter = replace(
            axis,
            size=len(left),
            outputs=len(wanted),
            ids=Slices(left, axis.ids.origin),
            cut=(at, gone),
            repeat=(start, more),
        )
        if left and shorter.rows == wanted:
            return shorter
    return axis


def _longest(rows: list[tuple[tuple[int, tuple[int, ...]], ...]]) -> tuple[int, int]:
    """Start and length of the longest run of equal rows."""
    best, start = (0, 0), 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i] != rows[start]:
            best, start = max(best, (start, i - start), key=lambda run: run[1]), i
    return best
