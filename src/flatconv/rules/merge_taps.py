"""Add the weights of taps that meet the same slice.

``W[a]·x[i] + W[b]·x[i] == (W[a] + W[b])·x[i]``.

Exact when: at every output position the taps meet slices that are equal for every input. The sum is made in float64 and
rounded once to the weight's own type, so it is no worse than the weights are.
"""

from __future__ import annotations

from dataclasses import replace

from flatconv.ops.base import Facts
from flatconv.ops.conv import Site, leading_taps
from flatconv.rules.drop_axis import meets_one_slice

NAME = "merge taps"


def apply(site: Site, facts: Facts) -> Site:
    """Merge taps along every axis."""
    for axis in site.axes:
        if not axis.known or axis.plain or not isinstance(axis.outputs, int) or not axis.live:
            continue
        groups: dict[tuple[int, ...], list[int]] = {}
        for tap in (t for g in axis.taps for t in g):
            groups.setdefault(tuple(axis.meets(o, tap) for o in range(axis.outputs)), []).append(tap)
        if len(groups) == len(axis.taps):
            continue
        merged = replace(axis, taps=tuple(tuple(g) for g in groups.values()))
        if site.transposed:
            if meets_one_slice(site, merged):
                site = site.with_axis(merged).did(NAME)
            else:
                site = site.refuses(NAME, "the taps of a transposed convolution make several result slices")
        elif leading_taps(merged) is None:
            site = site.refuses(NAME, f"the merged taps {merged.taps} along axis {axis.axis} are not evenly spaced")
        else:
            site = site.with_axis(merged).did(NAME)
    return site
