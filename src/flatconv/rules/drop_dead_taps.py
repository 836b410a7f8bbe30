"""Leave out the taps that meet nothing but zeros.

``Σ_t W[t]·x[o·s − p + t·d]`` over the live taps only.

Exact when: the tap meets a slice that is zero for every input, or the padding, at every output position. Inputs must be
finite: NaN or Inf times a dropped zero is the one difference.
"""

from __future__ import annotations

from dataclasses import replace

from flatconv.ops.base import Facts
from flatconv.ops.conv import Site, leading_taps
from flatconv.rules.drop_axis import meets_one_slice

NAME = "drop dead taps"


def apply(site: Site, facts: Facts) -> Site:
    """Drop dead taps along every axis."""
    for axis in site.axes:
        live = axis.live
        if len(live) == axis.kernel:
            continue
        if not live:
            site = site.refuses(NAME, f"no tap along axis {axis.axis} meets data: the result is the bias alone")
            continue
        fewer = replace(axis, taps=tuple((t,) for t in live))
        if site.transposed and not meets_one_slice(site, fewer):
            site = site.refuses(
                NAME, f"the live taps {live} of a transposed convolution each make another result slice"
            )
        elif not site.transposed and leading_taps(fewer) is None and not meets_one_slice(site, fewer):
            site = site.refuses(NAME, f"the live taps {live} along axis {axis.axis} are not evenly spaced")
        else:
            site = site.with_axis(fewer).did(NAME)
    return site
