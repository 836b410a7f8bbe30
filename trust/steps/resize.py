"""Interpolation: nearest neighbours and weighted ones."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trust.steps.base import Form, Kind, Scope, Step, literal


class Resize(Kind):
    """``F.interpolate``."""

    name = "resize"
    share = 2.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        value = scope.pick(r, (5, 5, 4, 3))
        if value is None:
            return None
        sizes = scope.shapes[value][2:]
        n = len(sizes)
        weighted = {1: ["linear"], 2: ["bilinear", "bicubic"], 3: ["trilinear"]}[n]
        mode = r.choice(["nearest"] * 3 + ["nearest-exact", *weighted])
        args: dict[str, Any] = {"mode": mode, "corners": r.random() < 0.5 if mode in weighted else None}
        if r.random() < 0.6:
            args["factor"] = [r.choice([1.0, 2.0, 2.0, 1.5, 3.0, 0.5]) for _ in range(n)]
            args["recompute"] = r.random() < 0.3
        else:
            args["size"] = [r.choice([s, s * 2, s + 1, 1, 3]) for s in sizes]
        return Step("resize", args, (value,))

    def form(self, args: Mapping[str, Any]) -> Form:
        words = f"F.interpolate({{0}}, mode={args['mode']!r}"
        if "size" in args:
            words += f", size={literal(args['size'])}"
        else:
            words += f", scale_factor={literal(args['factor'])}"
            words += ", recompute_scale_factor=True" if args["recompute"] else ""
        if args["corners"] is not None:
            words += f", align_corners={args['corners']}"
        return Form(words + ")", nature="moves" if args["mode"].startswith("nearest") else "other")


KINDS = (Resize(),)
