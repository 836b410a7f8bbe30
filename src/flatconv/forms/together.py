"""Convolutions that read the same input with the same geometry, computed as one.

``[y_a, y_b] = conv(x, [W_a; W_b]) + [b_a; b_b]``

Exact when: the same source, kernel, stride, dilation, padding and taps, groups 1, not transposed, all with a bias or all
without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flatconv.ops.conv import Site
from flatconv.program import Node

NAME = "computed together"


def bundles(sites: Mapping[Node, Site]) -> list[tuple[Node, ...]]:
    """The sets of two and more convolutions that can be computed as one, in program order."""
    found: dict[Any, list[Node]] = {}
    for node, here in sites.items():
        # A weight that is computed may come later in the program than the first that would need it.
        held = all(n is None or n.op == "weight" for n in (here.weight, here.bias))
        if here.transposed or here.groups != 1 or not here.batched or here.weight.shape is None or not held:
            continue
        axes = tuple(replace(a, ids=None) for a in here.axes)
        kind = (here.source, axes, here.bias is None, node.dtype, here.weight.dtype, here.weight.shape[1:])
        found.setdefault(kind, []).append(node)
    return [tuple(nodes) for nodes in found.values() if len(nodes) > 1]


def why_not(members: list[Site]) -> str | None:
    """Why sites that form a bundle cannot be computed as one in the forms that they have."""
    if len({(m.form, m.channels_last) for m in members}) > 1:
        return "they are computed in different forms"
    return None


def take(sites: Mapping[Node, Site], bundle: tuple[Node, ...]) -> dict[Node, Site]:
    """The sites of a bundle as one; all others as they are."""
    if bundle not in bundles(sites) or why_not([sites[n] for n in bundle]) is not None:
        raise ValueError("these convolutions cannot be computed together")
    return {n: replace(s, together=bundle).did(NAME) if n in bundle else s for n, s in sites.items()}
