"""Pools: max, average, adaptive, of powers."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from trust.steps.base import Form, Kind, Scope, Step, literal


def _windows(r: random.Random, scope: Scope) -> tuple[int, int, dict[str, Any]] | None:
    value = scope.pick(r, (5, 5, 4, 3))
    if value is None:
        return None
    rank = len(scope.shapes[value])
    n = 3 if rank == 5 else r.choice([2, 3]) if rank == 4 else r.choice([1, 2])
    kernel = [r.choice([1, 1, 2, 3]) for _ in range(n)]
    return (
        value,
        n,
        {
            "axes": n,
            "kernel": kernel,
            "stride": [r.choice([1, 1, 2, 3]) for _ in range(n)],
            "padding": [min(r.choice([0, 0, 1]), k // 2) for k in kernel],
            "ceil": r.random() < 0.3,
        },
    )


class MaxPool(Kind):
    """``F.max_pool{1,2,3}d``."""

    name = "max_pool"
    share = 1.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        drawn = _windows(r, scope)
        if drawn is None:
            return None
        value, n, args = drawn
        return Step("max_pool", args | {"dilation": [r.choice([1, 1, 2]) for _ in range(n)]}, (value,))

    def form(self, args: Mapping[str, Any]) -> Form:
        rest = ", ".join(literal(args[k]) for k in ("kernel", "stride", "padding", "dilation"))
        return Form(f"F.max_pool{args['axes']}d({{0}}, {rest}, ceil_mode={args['ceil']})", nature="moves")


class AvgPool(Kind):
    """``F.avg_pool{1,2,3}d``."""

    name = "avg_pool"
    share = 2.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        drawn = _windows(r, scope)
        if drawn is None:
            return None
        value, n, args = drawn
        divisor = r.choice([None, None, 4, 3]) if n > 1 else None
        return Step("avg_pool", args | {"count_pad": r.random() < 0.5, "divisor": divisor}, (value,))

    def form(self, args: Mapping[str, Any]) -> Form:
        rest = ", ".join(literal(args[k]) for k in ("kernel", "stride", "padding"))
        words = (
            f"F.avg_pool{args['axes']}d({{0}}, {rest}, ceil_mode={args['ceil']}, count_include_pad={args['count_pad']}"
        )
        if args["divisor"] is not None:
            words += f", divisor_override={args['divisor']}"
        # At the border the count of numbers can be another one.
        even = not args["ceil"] and (args["count_pad"] or not any(args["padding"]))
        count = math.prod(args["kernel"])
        divisor = args["divisor"] or (count if even else -1)
        return Form(words + ")", nature="linear", terms=count + 2, divisor=divisor)


class AdaptivePool(Kind):
    """``F.adaptive_avg_pool{2,3}d`` and ``F.adaptive_max_pool{2,3}d``."""

    name = "adaptive_pool"
    share = 1.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        value = scope.pick(r, (5, 5, 4))
        if value is None:
            return None
        n = 3 if len(scope.shapes[value]) == 5 else r.choice([2, 3])
        size = [r.choice([1, 1, 2, 3, None]) for _ in range(n)]
        return Step("adaptive_pool", {"axes": n, "size": size, "max": r.random() < 0.4}, (value,))

    def form(self, args: Mapping[str, Any]) -> Form:
        what = "max" if args["max"] else "avg"
        code = f"F.adaptive_{what}_pool{args['axes']}d({{0}}, {literal(args['size'])})"
        if args["max"]:
            return Form(code, nature="moves")
        return Form(code, nature="linear", terms=64, divisor=-1)


class PowerPool(Kind):
    """``F.lp_pool2d`` and ``F.lp_pool3d``."""

    name = "lp_pool"
    share = 0.3

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        drawn = _windows(r, scope)
        if drawn is None or drawn[1] < 2:
            return None
        value, _, args = drawn
        return Step("lp_pool", args, (value,))

    def form(self, args: Mapping[str, Any]) -> Form:
        rest = f"{literal(args['kernel'])}, {literal(args['stride'])}, ceil_mode={args['ceil']}"
        return Form(f"F.lp_pool{args['axes']}d({{0}}.abs() + 0.5, 2.0, {rest})")


KINDS = (MaxPool(), AvgPool(), AdaptivePool(), PowerPool())
