"""Every convolution of a model alone, in each form that computes it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sympy
import torch

from flatconv import forms
from flatconv.analyse import Analysis
from flatconv.forms import native
from flatconv.isolate import isolate
from flatconv.lower import lower
from flatconv.measure import alternate
from flatconv.program import Node, concrete
from flatconv.tune.cache import Choice
from flatconv.tune.combine import module
from flatconv.tune.device import peak, synchronised, works

FAR = 2.0
SHORT = 2e-3
"""A form whose first call takes this many times as long as the fastest's, and this many seconds more, is not called again."""


@dataclass(frozen=True)
class Alone:
    """One form of a convolution.

    Attributes:
        choice: the form.
        seconds: of a call, median.
        peak: bytes that a call needs; None where that cannot be told.
    """

    choice: Choice
    seconds: float
    peak: int | None


def groups(analysis: Analysis, sizes: Mapping[sympy.Symbol, int]) -> list[list[Node]]:
    """Convolutions that are the same in everything but the values of weights and inputs; those with most to do first."""
    found: dict[Any, list[Node]] = {}
    for node, here in analysis.sites.items():
        axes = tuple(replace(a, ids=None, axis=0) for a in here.axes)
        rows = tuple(str(a.rows) if a.known and not a.plain else "" for a in here.axes)
        shapes = (concrete(here.source.shape or (), sizes), here.weight.shape, node.dtype, here.bias is None)
        found.setdefault((axes, rows, shapes, here.groups, here.transposed), []).append(node)
    return sorted(found.values(), key=lambda group: -work(analysis, group, sizes))


def work(analysis: Analysis, group: Sequence[Node], sizes: Mapping[sympy.Symbol, int]) -> int:
    """About the multiply-adds of a group: time is short, and they say where it is spent."""
    here = analysis.sites[group[0]]
    batch, _, *spatial = concrete(here.source.shape or (), sizes)
    return len(group) * math.prod(concrete(here.weight.shape or (), sizes)) * batch * math.prod(spatial)


def kind(analysis: Analysis, node: Node) -> Hashable:
    """What convolutions of other sizes and channels may have in common: forms that are fast for one are likely so for all."""
    here = analysis.sites[node]
    axes = tuple((a.kernel, a.stride, a.dilation, a.lo, a.hi, a.first, len(a.taps)) for a in here.kept)
    return axes, here.batched, here.groups == 1, here.transposed, node.dtype


def in_turn(analysis: Analysis, found: Sequence[list[Node]]) -> list[list[Node]]:
    """Groups with one of each kind before the second of any: what is found out for it serves the others if time runs out."""
    seen: dict[Hashable, int] = {}
    turns = []
    for group in found:
        own = kind(analysis, group[0])
        seen[own] = turn = seen.get(own, 0) + 1
        turns.append((turn, group))
    return [group for _, group in sorted(turns, key=lambda t: t[0])]


def nearest(
    analysis: Analysis, group: Sequence[Node], others: Sequence[Sequence[Node]], sizes: Mapping[sympy.Symbol, int]
) -> Sequence[Node] | None:
    """The group of the same kind that has about as much to do; None if there is none."""
    own = max(work(analysis, group[:1], sizes), 1)
    alike = [g for g in others if kind(analysis, g[0]) == kind(analysis, group[0])]
    return min(alike, key=lambda g: abs(math.log(max(work(analysis, g[:1], sizes), 1) / own)), default=None)


def options(analysis: Analysis, node: Node) -> list[Choice]:
    """All forms of a convolution, each also in channels-last where there is such a format."""
    here = analysis.sites[node]
    found = []
    for name in forms.possible(here):
        found.append((name, False))
        if forms.has_format(here, name):
            found.append((name, True))
    return found


def time_alone(
    analysis: Analysis, node: Node, sizes: Mapping[sympy.Symbol, int], device: torch.device, budget: float
) -> list[Alone]:
    """Time all forms of one convolution alternately, on random numbers of the sizes at hand."""
    ready: list[tuple[Choice, Callable[[], object], float]] = []
    for choice in options(analysis, node):
        call = synchronised(_single(analysis, node, choice, sizes, device), device)
        begun = time.perf_counter()
        if works(call):
            ready.append((choice, call, time.perf_counter() - begun))
    # Some forms take many times as long as others, and all the time that there is for the rest. A GPU looks for algorithms
    # in its first call, which says little of the second.
    most = FAR * min((s for *_, s in ready), default=0.0) + SHORT if device.type == "cpu" else math.inf
    choices, calls = [c for c, _, s in ready if s <= most], [f for _, f, s in ready if s <= most]
    taken = alternate(calls, budget, least=2, most=10, turn=0.001)
    return [Alone(c, statistics.median(t), peak(f, device)) for c, t, f in zip(choices, taken, calls, strict=True)]


def copies_nothing(analysis: Analysis, node: Node, choice: Choice) -> bool:
    """Whether a form holds no more than the convolution itself, whatever the device."""
    name, last = choice
    return not last and (name == native.NAME or forms.FORMS[name].views(analysis.sites[node]))


def _single(
    analysis: Analysis, node: Node, choice: Choice, sizes: Mapping[sympy.Symbol, int], device: torch.device
) -> Callable[[], object]:
    here = analysis.sites[node]
    generator = torch.Generator().manual_seed(0)

    def like(n: Node) -> torch.Tensor:
        shape = concrete(n.shape or (), sizes)
        return torch.randn(shape, generator=generator).to(device, n.dtype or torch.float32)

    tensors = {n: like(n) for n in (here.weight, here.bias) if n is not None}
    single = isolate(here, analysis.facts, weights=tensors, sizes=sizes)
    taken = {n: forms.take(s, *choice) for n, s in single.analysis.sites.items()}
    run = module(lower(single.program, replace(single.analysis, sites=taken)), single.program, {})
    x = like(here.source)
    return lambda: run(x)
