"""Joining several values: concatenation, stacking, sums, products, maxima."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trust.steps.base import Form, Kind, Scope, Step


def part(kind: str, dim: int) -> str:
    """One part of a concatenation, as code over ``{i}``."""
    return {
        "whole": "{%d}",
        "zeros": "torch.zeros_like({%d})",
        "first": f"{{%d}}.narrow({dim}, 0, 1)",
        "last": f"{{%d}}.narrow({dim}, -1, 1)",
    }[kind]


class Cat(Kind):
    """``torch.cat`` and ``torch.stack``, also with zeros and with slices of the value itself."""

    name = "cat"
    share = 4.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        value = scope.pick(r)
        if value is None or not scope.shapes[value]:
            return None
        shape = scope.shapes[value]
        dim = 2 if len(shape) == 5 and r.random() < 0.5 else r.randrange(-len(shape), len(shape))
        here = dim % len(shape)

        def fits(other: tuple[int, ...]) -> bool:
            return len(other) == len(shape) and all(a == b for i, (a, b) in enumerate(zip(other, shape)) if i != here)  # noqa: B905

        others = [i for i, s in enumerate(scope.shapes) if fits(s)]
        inputs = [value] + [r.choice([value, r.choice(others)]) for _ in range(r.choice([0, 1, 1, 2]))]
        parts = [[i, "whole"] for i in range(len(inputs))]
        if r.random() < 0.3:
            parts.insert(0, [0, "zeros"])
        if r.random() < 0.3:
            parts.insert(0, [0, "first"])
        if r.random() < 0.3:
            parts.append([len(inputs) - 1, "last"])
        if len(parts) < 2:
            parts *= 2
        if r.random() < 0.3:
            r.shuffle(parts)
        stack = all(p == "whole" for _, p in parts) and len(shape) < 5 and r.random() < 0.3
        return Step("cat", {"dim": dim, "parts": parts, "stack": stack}, tuple(inputs))

    def form(self, args: Mapping[str, Any]) -> Form:
        parts = ", ".join(part(kind, args["dim"]) % i for i, kind in args["parts"])
        return Form(f"torch.{'stack' if args['stack'] else 'cat'}([{parts}], dim={args['dim']})", nature="moves")


BINARY: dict[str, Form] = {
    "add": Form("{0} + {1}", nature="linear"),
    "subtract": Form("{0} - {1}", nature="linear", absolute="{0} + {1}"),
    "multiply": Form("{0} * {1}", nature="product"),
    "maximum": Form("torch.maximum({0}, {1})", nature="moves"),
    "minimum": Form("torch.minimum({0}, {1})", nature="moves", absolute="torch.maximum({0}, {1})"),
    "gate": Form("{0} * torch.sigmoid({1})"),
    "mix": Form("torch.lerp({0}, {1}, 0.3)"),
    "half": Form("torch.lerp({0}, {1}, 0.5)"),
    "square": Form("torch.addcmul({0}, {1}, {1})"),
    "divide": Form("{0} / ({1}.abs() + 1.0)"),
    "halves": Form("{0} * 0.5 + {1} * 0.25", nature="linear", terms=3, unit=2),
}


class Binary(Kind):
    """Pointwise operators of two values."""

    name = "binary"
    share = 4.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        first = scope.pick(r)
        if first is None:
            return None
        same = [i for i, s in enumerate(scope.shapes) if s == scope.shapes[first]]
        second = r.choice(same) if r.random() < 0.6 else r.randrange(len(scope.shapes))
        name = r.choice(["add", "add", "add", *BINARY])
        return Step("binary", {"operator": name}, (first, second) if r.random() < 0.7 else (second, first))

    def form(self, args: Mapping[str, Any]) -> Form:
        return BINARY[args["operator"]]


KINDS = (Cat(), Binary())
