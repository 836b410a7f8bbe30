"""Pads: with zeros or another number, also negative, reflecting, replicating, circular."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trust.steps.base import Form, Kind, Scope, Step, literal


class Pad(Kind):
    """``F.pad``."""

    name = "pad"
    share = 4.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        value = scope.pick(r, (5, 4, 3))
        if value is None:
            return None
        axes = r.choice([1, 2, 3, 3, 3])
        amounts = [r.choice([0, 0, 0, 1, 1, 2]) for _ in range(2 * axes)]
        if r.random() < 0.2:
            amounts = [r.choice([-1, 0, 1, 2]) for _ in amounts]
        if axes == 3 and r.random() < 0.5:
            amounts = [0, 0, 0, 0, *r.choice([(2, 0), (1, 1), (0, 1), (1, 0), (2, 2), (0, 3)])]
        mode = r.choice(["constant"] * 4 + ["replicate", "replicate", "reflect", "circular"])
        if mode == "circular":
            # torch leaves memory uninitialised where a circular pad both crops and extends.
            amounts = [max(a, 0) for a in amounts]
        number = 1.5 if mode == "constant" and r.random() < 0.15 else 0.0
        return Step("pad", {"amounts": amounts, "mode": mode, "value": number}, (value,))

    def form(self, args: Mapping[str, Any]) -> Form:
        words = f"F.pad({{0}}, {literal(args['amounts'])}"
        if args["mode"] != "constant":
            words += f", mode={args['mode']!r}"
        elif args["value"]:
            words += f", value={args['value']}"
        return Form(words + ")", nature="moves", unit=1 if args["value"] else 0)


KINDS = (Pad(),)
