"""Reductions over axes, and running ones along an axis."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trust.steps.base import Form, Kind, Scope, Step, literal

OVER: dict[str, Form] = {
    "mean": Form("{0}.mean(dim=%s, keepdim=%s)", nature="linear", terms=0, divisor=0),
    "sum": Form("{0}.sum(dim=%s, keepdim=%s)", nature="linear", terms=0),
    "amax": Form("{0}.amax(dim=%s, keepdim=%s)", nature="moves"),
    "amin": Form("{0}.amin(dim=%s, keepdim=%s)", nature="moves", absolute="{0}.amax(dim=%s, keepdim=%s)"),
    "var": Form("{0}.var(dim=%s, keepdim=%s, unbiased=False)"),
    "std": Form("(torch.var({0}, dim=%s, keepdim=%s, correction=0.5) + 0.25).sqrt()"),
    "norm": Form("torch.linalg.vector_norm({0}, ord=2, dim=%s, keepdim=%s)"),
    "logsumexp": Form("{0}.logsumexp(dim=%s, keepdim=%s)"),
}

ALONG: dict[str, Form] = {
    "softmax": Form("torch.softmax({0}, %s)"),
    "log_softmax": Form("F.log_softmax({0}, %s)"),
    "cumsum": Form("torch.cumsum({0}, %s)", nature="exact"),
    "cummax": Form("{0}.cummax(%s)[0]", nature="exact"),
    "sort": Form("{0}.sort(%s)[0]", nature="exact", absolute="{0}.amax(%s, keepdim=True).expand_as({0}).clone()"),
    "prod": Form("({0} * 0.5).prod(%s)"),
    "diff": Form("torch.diff({0}, dim=%s)"),
    "glu": Form("F.glu({0}, %s)"),
}


class Reduce(Kind):
    """Statistics over some axes."""

    name = "reduce"
    share = 2.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        value = scope.pick(r)
        if value is None or not scope.shapes[value]:
            return None
        rank = len(scope.shapes[value])
        dims = r.sample(range(rank), min(r.choice([1, 1, 2, 3]), rank))
        if r.random() < 0.3:
            dims = [d - rank for d in dims]
        args = {"operator": r.choice(list(OVER)), "dims": dims, "keep": r.random() < 0.6}
        return Step("reduce", args, (value,))

    def form(self, args: Mapping[str, Any]) -> Form:
        form, words = OVER[args["operator"]], (literal(args["dims"]), args["keep"])
        absolute = form.absolute % words if form.absolute else ""
        return Form(form.code % words, "", form.nature, absolute, form.terms, form.unit, form.divisor)


class Along(Kind):
    """Operators that mix the slices of one axis."""

    name = "along"
    share = 1.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        value = scope.pick(r)
        if value is None or not scope.shapes[value]:
            return None
        rank = len(scope.shapes[value])
        return Step("along", {"operator": r.choice(list(ALONG)), "dim": r.randrange(-rank, rank)}, (value,))

    def form(self, args: Mapping[str, Any]) -> Form:
        form = ALONG[args["operator"]]
        absolute = form.absolute % args["dim"] if form.absolute else ""
        return Form(form.code % args["dim"], nature=form.nature, absolute=absolute)


KINDS = (Reduce(), Along())
