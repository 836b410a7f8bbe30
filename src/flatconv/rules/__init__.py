"""Exact rewrites of a convolution, one a file, applied in the order of the tuple below.

A rule takes a ``Site`` and returns it planned anew, or with a refusal that says why it does not apply. It changes nothing
else. To add a rule: one file with ``NAME`` and ``apply``, one line here, one test file.
"""

from __future__ import annotations

from collections.abc import Callable

from flatconv.ops.base import Facts
from flatconv.ops.conv import Site
from flatconv.rules import absorb_padding, drop_axis, drop_dead_taps, merge_taps, one_output, share_results

Rule = Callable[[Site, Facts], Site]

RULES: tuple[tuple[str, Rule], ...] = (
    (absorb_padding.NAME, absorb_padding.apply),
    (drop_dead_taps.NAME, drop_dead_taps.apply),
    (merge_taps.NAME, merge_taps.apply),
    (one_output.NAME, one_output.apply),
    (drop_axis.NAME, drop_axis.apply),
    (share_results.NAME, share_results.apply),
)


def plan(site: Site, facts: Facts) -> Site:
    """Apply every rule in order."""
    for _, rule in RULES:
        site = rule(site, facts)
    return site
