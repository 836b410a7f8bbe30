"""Oracles for a single convolution.

The rewritten convolution is built by the very code that builds the folded model, on a program that holds nothing but the
convolution and the pad in front of it, and is compared with the original operators:

* dyadic integers: with small whole numbers as weights and inputs every partial sum is exactly representable, so both
  sides must agree bit for bit, whatever the order of summation;
* unit impulses, with the real weights: every result has one non-zero product, so coefficients are compared bit for bit;
* rounding: with real weights and random inputs the difference must lie within 2·γₙ·conv(|x|, |w|),
  γₙ = n·u/(1 − n·u) (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import sympy
import torch
from torch import fx

from flatconv import forms
from flatconv.errors import VerificationError
from flatconv.forms import native
from flatconv.interpret import run_graph
from flatconv.isolate import isolate
from flatconv.lower import lower
from flatconv.ops.base import Facts
from flatconv.ops.conv import Site
from flatconv.program import Program, Size

MAX_WORK = 2e10
"""Multiply-adds above which a site is not put to the oracles."""
MAX_IMPULSE_WORK = 4e8
EXACT_SUM = 2**24
"""Whole numbers below this are exact in float32."""


@dataclass(frozen=True)
class SiteEvidence:
    """What is known of one rewritten convolution.

    Attributes:
        level: 'exact', 'bounded' or 'tested' (by the runs of the whole model alone).
        how: in words.
        bound_used: the worst difference as a share of the rounding bound; None if it was not measured.
    """

    level: str
    how: str
    bound_used: float | None = None


@dataclass(frozen=True)
class _Pair:
    """Original and rewritten convolution, to be run on the same tensors."""

    here: Site
    facts: Facts
    program: Program
    graph: fx.Graph

    def original(self, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor:
        """The operators of the captured graph."""
        before = self.here.node.args["input"]
        if before is not self.here.source:
            x = before.target(**(before.args | {"self": x}))
        changed = {"input": x, "weight": w, "bias": b}
        target = self.here.node.target
        assert target is not None
        found: torch.Tensor = target(**(self.here.node.args | changed))
        return found

    def folded(self, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor:
        """What the rules and the lowering made of them."""
        given = {"x": x, "w": w} | ({"b": b} if b is not None else {})
        return run_graph(self.graph, given, {})[0]


def site_evidence(here: Site, facts: Facts, weight: torch.Tensor | None, name: str) -> SiteEvidence:
    """Put one rewritten site to the oracles.

    Raises:
        VerificationError: an oracle found a difference.
    """
    source = _uncut(here, facts)
    shape = _small_shape(source)
    work = math.prod(shape) * math.prod(_ints(here.weight.shape)) / max(shape[-len(here.axes) - 1], 1) * 27
    if work > MAX_WORK:
        return SiteEvidence("tested", "too large for an oracle of its own")
    generator = torch.Generator().manual_seed(here.node.index)
    if 0 in (here.node.shape or ())[-len(here.axes) :]:
        # Whether torch accepts such a size depends on the type and the batch.
        return SiteEvidence("tested", "the result has no elements")
    try:
        # A form other than the convolution itself is written for fixed sizes; the batch is free, as the oracles want.
        pair = _pair(here, facts, (sympy.Symbol("batch"), *shape[1:]) if here.form else None)
        pair.original(torch.zeros(shape), torch.zeros(_ints(here.weight.shape)), None)
    except RuntimeError:  # parameters that torch accepts for an empty batch alone
        return SiteEvidence("tested", "the operator does not run at the sizes of an oracle")
    level, how = "bounded", ["rounding bound"]
    fan_in = math.prod(_ints(here.weight.shape)) // (1 if here.transposed else _ints(here.weight.shape)[0])
    if 9 * fan_in + 3 < EXACT_SUM:
        x = _with_facts(_integers(shape, generator), source)
        w = _integers(_ints(here.weight.shape), generator)
        b = _integers(_ints(here.bias.shape), generator) if here.bias is not None else None
        if not torch.equal(pair.original(x, w, b), pair.folded(x, w, b)):
            raise VerificationError(
                f"'{name}': with whole numbers as weights and inputs the rewritten {here.name} "
                f"({', '.join(here.applied)}) differs from the original on an input of shape {tuple(shape)}. "
                "Nothing was written. This is a bug in flatconv: please report it with the model"
            )
        level, how = "exact", ["dyadic integers"]
    if weight is None:
        return SiteEvidence(level, " and ".join(how) + "; the weight is computed at run time")
    w = weight.detach().to(device="cpu", dtype=torch.float32)
    merged = any(len(g) > 1 for a in here.axes for g in a.taps)
    if (
        not merged
        and not _repeats(source)
        and _impulse_work(here, shape, w) < MAX_IMPULSE_WORK
        and bool(w.isfinite().all())
    ):
        x = _with_facts(_impulses(source, shape), source)
        blank = torch.zeros(_ints(here.bias.shape)) if here.bias is not None else None
        if not torch.equal(pair.original(x, w, blank), pair.folded(x, w, blank)):
            raise VerificationError(
                f"'{name}': unit impulses show other coefficients in the rewritten {here.name}. Nothing was written"
            )
        how.append("unit impulses")
    x = _with_facts(torch.randn(shape, generator=generator), source)
    used = _bound_used(pair, x, w)
    if not used <= 1:
        raise VerificationError(
            f"'{name}': the rewritten {here.name} differs by {used:.3g} times the rounding bound. Nothing was written"
        )
    return SiteEvidence(level, " and ".join(how), used)


def _uncut(here: Site, facts: Facts) -> Site:
    """The site with its source whole: inputs are made for that."""
    axes = [
        replace(a, size=(here.source.shape or ())[a.axis], ids=facts.along(here.source, a.axis)) if a.cut else a
        for a in here.axes
    ]
    return replace(here, axes=tuple(axes))


def _bound_used(pair: _Pair, x: torch.Tensor, w: torch.Tensor) -> float:
    here = pair.here
    blank = torch.zeros(_ints(here.bias.shape)) if here.bias is not None else None
    terms = math.prod(w.shape) // (1 if here.transposed else w.shape[0]) + 1
    unit = torch.finfo(torch.float32).eps / 2
    gamma = terms * unit / (1 - terms * unit)
    size = pair.original(x.double().abs(), w.double().abs(), None if blank is None else blank.double())
    difference = (pair.original(x, w, blank).double() - pair.folded(x, w, blank).double()).abs()
    bound = 2 * gamma * size
    if not difference.numel():
        return 0.0
    share = torch.where(difference == 0, 0.0, difference / bound)
    return float(share.max())


def _pair(here: Site, facts: Facts, shape: tuple[Size, ...] | None = None) -> _Pair:
    """A program of the source, its zero pad if the site reads through one, and the convolution."""
    # The oracles count in float32, whatever the type of the model.
    alone = isolate(here, facts, torch.float32, shape=shape)
    same = {n: forms.take(s, here.form or native.NAME, here.channels_last) for n, s in alone.analysis.sites.items()}
    graph = lower(alone.program, replace(alone.analysis, sites=same), "shared").graph
    return _Pair(here, facts, alone.program, graph)


def _ints(shape: object) -> tuple[int, ...]:
    assert isinstance(shape, tuple)
    return tuple(int(s) for s in shape)


def _small_shape(here: Site) -> tuple[int, ...]:
    """The source's shape, cut down along axes of which nothing special is known."""
    shape: list[int] = []
    for a, size in enumerate(here.source.shape or ()):
        plan = next((p for p in here.axes if p.axis == a), None)
        if plan is None and a == 0 and here.batched:
            shape.append(2)
        elif plan is None:  # channels, as the weight has them
            out, into = _ints(here.weight.shape)[:2]
            shape.append(out if here.transposed else into * here.groups)
        elif plan.known and not plan.plain:
            shape.append(int(size))
        else:
            enough = (plan.kernel - 1) * plan.dilation + 1 + 2 * plan.stride
            shape.append(enough if not isinstance(size, int) else min(size, max(enough, 1)))
    return tuple(shape)


def _integers(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randint(-3, 4, shape, generator=generator).float()


def _with_facts(x: torch.Tensor, here: Site) -> torch.Tensor:
    """``x`` made to satisfy what is known of the source: equal slices equal, zero slices zero."""
    for plan in here.axes:
        if plan.ids is None or plan.plain:
            continue
        ids = list(plan.ids)
        x = x.index_select(plan.axis, torch.tensor([ids.index(i) for i in ids], dtype=torch.long))
        keep = torch.tensor([i != 0 for i in ids], dtype=x.dtype)
        x = x * keep.reshape([-1 if a == plan.axis else 1 for a in range(x.dim())])
    return x


def _repeats(here: Site) -> bool:
    """Whether slices of the source are known to be equal: an impulse is then in several, and results are sums."""
    known = [[i for i in p.ids if i != 0] for p in here.axes if p.ids is not None and not p.plain]
    return any(len(set(ids)) < len(ids) for ids in known)


def _impulse_work(here: Site, shape: tuple[int, ...], w: torch.Tensor) -> float:
    if not here.batched:
        return math.inf
    count = math.prod(shape[1:])
    return float(count) * math.prod(shape[2:]) * 27 * math.prod(w.shape[:2])


def _impulses(here: Site, shape: tuple[int, ...]) -> torch.Tensor:
    count = math.prod(shape[1:])
    return torch.eye(count).reshape(count, *shape[1:])
