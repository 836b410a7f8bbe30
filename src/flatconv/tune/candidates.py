"""The combinations of forms that a whole model is tried in, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sympy

from flatconv import forms
from flatconv.analyse import Analysis
from flatconv.forms import native
from flatconv.program import Node
from flatconv.tune.alone import Alone, nearest, options
from flatconv.tune.cache import Choice

Choices = dict[Node, Choice]
CAPTURED, FIXED, FASTEST, PLAIN, VIEWS = "as captured", "fixed", "fastest alone", "rules alone", "nothing copied"
ORDINARY = "fastest alone in the ordinary format"
"""Tried only where the fastest alone does not run: compilers fail on some mixtures of memory formats."""
PREFERRED = (CAPTURED, FIXED, FASTEST, ORDINARY, PLAIN, VIEWS)
"""The order in which they are tried; in channels-last afterwards."""


def fixed(analysis: Analysis, engine: str) -> Choices:
    """The choice that needs no measuring."""
    taken = forms.choose(analysis.sites, engine)
    return {n: (here.form or native.NAME, here.channels_last) for n, here in taken.items()}


def in_pytorch(
    analysis: Analysis,
    groups: Sequence[Sequence[Node]],
    alone: Mapping[Node, Sequence[Alone]],
    sizes: Mapping[sympy.Symbol, int],
) -> dict[str, Choices]:
    """The fixed choice, the rules alone and what is fastest alone, each in channels-last too."""
    known = fixed(analysis, "eager")

    def fastest(times: Mapping[Node, Sequence[Alone]]) -> Choices:
        return (
            known | _likely(analysis, groups, times, sizes) | {n: each[0].choice for n, each in times.items() if each}
        )

    named = {FIXED: known, PLAIN: plain(analysis), FASTEST: fastest(alone)}
    last = {
        f"{name}, {forms.LAST}": {n: _last(analysis, n, c) for n, c in each.items()} for name, each in named.items()
    }
    named[ORDINARY] = fastest({n: [t for t in each if not t.choice[1]] for n, each in alone.items()})
    return _different(named | last)


def in_runtimes(analysis: Analysis) -> dict[str, Choices]:
    """The fixed choice of runtimes, the rules alone, and the fixed choice of PyTorch.

    What copies in PyTorch copies in a runtime, which has memory formats of its own as well.
    """
    bare = plain(analysis)
    named = _different({FIXED: fixed(analysis, "onnx"), PLAIN: bare, VIEWS: fixed(analysis, "eager")})
    if not any(s.applied for s in analysis.sites.values()):
        named = {CAPTURED if each == bare else n: each for n, each in named.items()}
    return named


def plain(analysis: Analysis) -> Choices:
    """Every convolution as the rules left it."""
    return dict.fromkeys(analysis.sites, (native.NAME, False))


def ranked(names: Iterable[str]) -> list[str]:
    """The order in which combinations are tried: where a call takes seconds there is time for few."""
    return sorted(names, key=lambda n: PREFERRED.index(n.split(",")[0]) + len(PREFERRED) * (forms.LAST in n))


def _likely(
    analysis: Analysis,
    groups: Sequence[Sequence[Node]],
    alone: Mapping[Node, Sequence[Alone]],
    sizes: Mapping[sympy.Symbol, int],
) -> Choices:
    """For groups that there was no time for, what is best for the nearest of their kind."""
    timed = [g for g in groups if alone.get(g[0])]
    found: Choices = {}
    for group in groups:
        like = None if group[0] in alone else nearest(analysis, group, timed, sizes)
        if like is not None and (best := alone[like[0]][0].choice) in options(analysis, group[0]):
            found |= dict.fromkeys(group, best)
    return found


def _last(analysis: Analysis, node: Node, taken: Choice) -> Choice:
    return (taken[0], True) if (taken[0], True) in options(analysis, node) else taken


def _different(named: Mapping[str, Choices]) -> dict[str, Choices]:
    found: dict[str, Choices] = {}
    for name, choices in named.items():
        if choices not in found.values():
            found[name] = choices
    return found
