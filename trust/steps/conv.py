"""Convolutions and transposed convolutions of one to three axes."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from trust.steps.base import Form, Kind, Scope, Step, literal


class Conv(Kind):
    """``nn.Conv{1,2,3}d`` and ``nn.ConvTranspose{1,2,3}d``, as modules and as functions."""

    name = "conv"
    share = 9.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        if r.random() < 0.12:
            return _again(r, scope)
        return draw_conv(r, scope, r.choice([3, 3, 3, 3, 2, 1]), r.random() < 0.25)

    def form(self, args: Mapping[str, Any]) -> Form:
        n, (into, out), kernel = args["axes"], args["channels"], args["kernel"]
        transposed, groups = args["transposed"], args["groups"]
        name = f"Conv{'Transpose' if transposed else ''}{n}d"
        words = [f"{into}, {out}, {literal(kernel)}"]
        for key, default in (("stride", [1] * n), ("padding", [0] * n), ("dilation", [1] * n)):
            if args[key] != default:
                words.append(f"{key}={literal(args[key])}")
        if transposed and any(args["extra"]):
            words.append(f"output_padding={literal(args['extra'])}")
        if groups != 1:
            words.append(f"groups={groups}")
        if not args["bias"]:
            words.append("bias=False")
        if args["mode"] != "zeros":
            words.append(f"padding_mode={args['mode']!r}")
        code = "{m}({0})"
        if args.get("function"):
            call = f"F.conv{'_transpose' if transposed else ''}{n}d({{0}}, {{m}}.weight, {{m}}.bias"
            rest = [literal(args["stride"]), literal(args["padding"])]
            rest += [literal(args["extra"]), str(groups)] if transposed else []
            code = ", ".join([call, *rest, literal(args["dilation"]), *([] if transposed else [str(groups)])]) + ")"
        # One more for the bias, one for a sum of weights that was rounded.
        terms = into // groups * math.prod(kernel) + 2
        return Form(code, f"nn.{name}({', '.join(words)})", "linear", terms=terms)


def _again(r: random.Random, scope: Scope) -> Step | None:
    """An earlier convolution once more: the same weights under one name."""
    earlier = [s for s in scope.steps if s.kind == "conv"]
    if not earlier:
        return None
    chosen = r.choice(earlier)
    n = chosen.args["axes"]
    fit = [
        i
        for i, s in enumerate(scope.shapes)
        if (len(s) == n + 2 and s[1] == chosen.args["channels"][0])
        or (len(s) == n + 1 and s[0] == chosen.args["channels"][0])
    ]
    return Step("conv", chosen.args, (r.choice(fit),)) if fit else None


def draw_conv(r: random.Random, scope: Scope, n: int, transposed: bool) -> Step | None:
    """A convolution of ``n`` axes with hostile parameters."""
    value = scope.pick(r, (n + 2, n + 2, n + 2, n + 1) if r.random() < 0.3 else (n + 2,))
    if value is None:
        return None
    shape = scope.shapes[value]
    into, sizes = shape[-n - 1], shape[-n:]
    if not 0 < into <= 8:
        return None
    kernel = [r.choice([1, 2, 3, 3, 3, 4, 5] if i == 0 else [1, 1, 2, 3]) for i in range(n)]
    if r.random() < 0.15:
        kernel = [max(s, 1) for s in sizes]
    stride = [r.choice([1, 1, 1, 2, 3]) for _ in range(n)]
    dilation = [r.choice([1, 1, 1, 1, 2, 3] if i == 0 else [1, 1, 1, 2]) for i in range(n)]
    if r.random() < 0.1:
        stride = list(kernel)
    padding: Any = [r.choice([0, 1, 1, 2, k // 2, d * (k - 1)]) for k, d in zip(kernel, dilation, strict=True)]
    mode, extra = "zeros", [0] * n
    if transposed:
        extra = [r.choice([0, 0, min(1, max(s, d) - 1), max(s, d) - 1]) for s, d in zip(stride, dilation, strict=True)]
    else:
        padding = r.choice(["same", "valid", [0] * n, padding, padding, padding])
        if padding == "same":
            stride = [1] * n
        mode = r.choice(["zeros"] * 6 + ["reflect", "replicate", "circular"])
    groups = r.choice([1, 1, 1, into, *(g for g in (2, 3) if into % g == 0)])
    args = {
        "axes": n,
        "transposed": transposed,
        "channels": [into, groups * r.choice([1, 1, 2] if into > 2 else [1, 2, 3])],
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "extra": extra,
        "groups": groups,
        "bias": r.random() < 0.6,
        "mode": mode,
        "module": scope.name(),
        "function": mode == "zeros" and r.random() < 0.15,
    }
    return Step("conv", args, (value,))


KINDS = (Conv(),)
