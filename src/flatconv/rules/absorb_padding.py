"""Take a zero pad in front of a convolution into the convolution's own padding.

``conv(pad(x, p), padding=q) == conv(x, padding=p + q)``.

Exact when: the pad is with zeros, by known amounts, on spatial axes, and takes nothing away. Transposed convolutions are left
alone: their padding cuts the result.
"""

from __future__ import annotations

from dataclasses import replace

from flatconv.ops.base import Facts
from flatconv.ops.conv import AxisPlan, Site
from flatconv.ops.pad import padding

NAME = "absorb padding"


def apply(site: Site, facts: Facts) -> Site:
    """Read through a zero pad, if there is one."""
    pad = padding(site.source)
    if pad is None:
        return site
    spatial = {a.axis for a in site.axes}
    if site.transposed:
        return site.refuses(NAME, "a transposed convolution does not read its padding as zeros")
    if not pad.zeros:
        return site.refuses(NAME, f"the pad in front is '{pad.mode}', not zeros")
    if not all(pad.known(a) for a in range(len(pad.sides))):
        return site.refuses(NAME, "the pad in front is by amounts that depend on free sizes")
    if any(side != (0, 0) and (a not in spatial or min(side) < 0) for a, side in enumerate(pad.sides)):
        return site.refuses(NAME, "the pad in front crops, or pads batch or channels")

    def through(axis: AxisPlan) -> AxisPlan:
        lo, hi = pad.sides[axis.axis]
        return replace(
            axis,
            lo=axis.lo + lo,
            hi=axis.hi + hi,
            size=(pad.source.shape or ())[axis.axis],
            ids=facts.along(pad.source, axis.axis),
        )

    return replace(site, source=pad.source, axes=tuple(through(a) for a in site.axes)).did(NAME)
