"""Compute one result slice where all are equal; the rest is an expand.

``y[o] == y[0]`` for every o.

Exact when: every output position reads the same slices with the same taps.
"""

from __future__ import annotations

from dataclasses import replace

from flatconv.ops.base import Facts
from flatconv.ops.conv import Site

NAME = "one output for all"


def apply(site: Site, facts: Facts) -> Site:
    """Compute the first result slice only, along every axis where all are equal."""
    for axis in site.axes:
        if not axis.known or axis.plain or site.transposed or not isinstance(axis.outputs, int) or axis.outputs < 2:
            continue
        rows = set(axis.rows)
        if len(rows) == 1 and rows != {()}:
            site = site.with_axis(replace(axis, first=True)).did(NAME)
        elif len(rows) < axis.outputs:
            site = site.refuses(NAME, f"{len(rows)} different result slices along axis {axis.axis}")
    return site
