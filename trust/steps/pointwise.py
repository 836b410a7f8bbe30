"""Pointwise operators of one value."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trust.steps.base import Form, Kind, Scope, Step

# Thresholds are no multiples of a small power of two, so that no result sits on one by design.
UNARY: dict[str, Form] = {
    "relu": Form("F.relu({0})", nature="moves"),
    "negative": Form("-{0}", nature="moves", absolute="{0}.clone()"),
    "abs": Form("{0}.abs()", nature="moves"),
    "clamp": Form("{0}.clamp(-1, 1)", nature="moves"),
    "clone": Form("{0}.clone()", nature="moves"),
    "dropout": Form("F.dropout({0}, 0.5, False)", nature="moves"),
    "double": Form("{0} * 2.5", nature="linear", unit=1),
    "shift": Form("{0} + 1.0", nature="linear"),
    "from": Form("1.0 - {0}", nature="linear", absolute="1.0 + {0}"),
    "nothing": Form("{0} * 0.0", nature="moves"),
    "zeros": Form("torch.zeros_like({0})", nature="moves"),
    "ones": Form("torch.ones_like({0})", nature="moves"),
    "full": Form("torch.full_like({0}, 0.5)", nature="moves", unit=1),
    "square": Form("{0} * {0}", nature="product"),
    "leaky": Form("F.leaky_relu({0}, 0.25)", nature="linear", unit=2),
    "where": Form("torch.where({0} > 0, {0}, {0} * 0.5)", nature="linear", unit=1),
    "mask": Form("{0}.masked_fill({0} > 0.3371, 0.25)", nature="exact", unit=2, absolute="{0}.abs() + 0.25"),
    "silu": Form("F.silu({0})"),
    "sigmoid": Form("torch.sigmoid({0})"),
    "tanh": Form("torch.tanh({0})"),
    "gelu": Form("F.gelu({0})"),
    "root": Form("({0}.abs() + 0.25).sqrt()"),
    "exp": Form("torch.exp(-{0}.abs())"),
    "softplus": Form("F.softplus({0})"),
    "cos": Form("torch.cos({0})"),
    "clean": Form("{0}.nan_to_num()", nature="moves"),
    "norm": Form("{0}.pow(2)", nature="other"),
    "wide": Form("({0}.double() * 1.0).to({0}.dtype)", nature="moves"),
}


class Unary(Kind):
    """Activations, scales and shifts, constants of a value's shape."""

    name = "unary"
    share = 4.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        value = scope.pick(r)
        return None if value is None else Step("unary", {"operator": r.choice(list(UNARY))}, (value,))

    def form(self, args: Mapping[str, Any]) -> Form:
        return UNARY[args["operator"]]


KINDS = (Unary(),)
