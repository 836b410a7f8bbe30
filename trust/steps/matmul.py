"""Matrix products: linear layers, products of two values, attention."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trust.steps.base import Form, Kind, Scope, Step


class Linear(Kind):
    """``nn.Linear`` on the last axis."""

    name = "linear"
    share = 1.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        value = scope.pick(r, (5, 4, 3, 2))
        if value is None or not 0 < scope.shapes[value][-1] <= 64:
            return None
        sizes = [scope.shapes[value][-1], r.choice([1, 2, 3])]
        return Step("linear", {"sizes": sizes, "bias": r.random() < 0.5, "module": scope.name()}, (value,))

    def form(self, args: Mapping[str, Any]) -> Form:
        into, out = args["sizes"]
        bias = "" if args["bias"] else ", bias=False"
        return Form("{m}({0})", f"nn.Linear({into}, {out}{bias})", "linear", terms=into + 1)


PRODUCTS: dict[str, Form] = {
    "self": Form("{0} @ {0}.transpose(-1, -2)"),
    "other": Form("{0}.transpose(-1, -2) @ {1}"),
    "attention": Form("F.scaled_dot_product_attention({0}, {0}, {0})"),
    "einsum": Form("torch.einsum('bcdhw,bcdhw->bdhw', {0}, {0})"),
    "bmm": Form("torch.bmm({0}, {0}.transpose(1, 2))"),
}


class Product(Kind):
    """Products of values with each other."""

    name = "product"
    share = 1.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        name = r.choice(list(PRODUCTS))
        first = scope.pick(r, {"einsum": (5,), "bmm": (3,)}.get(name, (5, 4, 3)))
        if first is None:
            return None
        same = [i for i, s in enumerate(scope.shapes) if s == scope.shapes[first]]
        return Step("product", {"operator": name}, (first, r.choice(same)) if name == "other" else (first,))

    def form(self, args: Mapping[str, Any]) -> Form:
        return PRODUCTS[args["operator"]]


KINDS = (Linear(), Product())
