"""Every convolution of a model alone, in each form that computes it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
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
    choices, calls = [], []
    for choice in options(analysis, node):
        call = synchronised(_single(analysis, node, choice, sizes, device), device)
        if works(call):
            choices.append(choice)
            calls.append(call)
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
