"""Normalisations, with running statistics and with those of the input."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trust.steps.base import Form, Kind, Scope, Step, literal


class Norm(Kind):
    """Batch, group, instance, layer and root-mean-square norms, and ``F.normalize``."""

    name = "norm"
    share = 3.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        value = scope.pick(r, (5, 5, 4, 3))
        if value is None:
            return None
        shape = scope.shapes[value]
        kind = r.choice(["batch", "batch", "group", "instance", "layer", "rms", "unit", "prelu"])
        args: dict[str, Any] = {"norm": kind, "axes": len(shape) - 2, "channels": shape[1]}
        if kind == "group":
            args["groups"] = r.choice([1, shape[1], *(g for g in (2, 3) if shape[1] % g == 0)])
        elif kind in ("batch", "instance"):
            args["affine"] = r.random() < 0.6
        elif kind in ("layer", "rms"):
            args["sizes"] = list(shape[-r.choice([1, 1, 2, 3]) :])
        elif kind == "unit":
            args["dim"] = r.randrange(len(shape))
        if kind != "unit":
            args["module"] = scope.name()
        return Step("norm", args, (value,))

    def form(self, args: Mapping[str, Any]) -> Form:
        kind, channels, n = args["norm"], args["channels"], args["axes"]
        if kind == "unit":
            # The shift keeps the length away from zero, where rounding would be magnified without bound.
            return Form(f"F.normalize({{0}} + 1.25, dim={args['dim']})")
        module = {
            "batch": lambda: f"nn.BatchNorm{n}d({channels}, affine={args['affine']})",
            "instance": lambda: f"nn.InstanceNorm{n}d({channels}, affine={args['affine']})",
            "group": lambda: f"nn.GroupNorm({args['groups']}, {channels})",
            "layer": lambda: f"nn.LayerNorm({literal(args['sizes'])})",
            "rms": lambda: f"nn.RMSNorm({literal(args['sizes'])})",
            "prelu": lambda: f"nn.PReLU({channels})",
        }[kind]()
        if kind == "prelu":
            return Form("{m}({0})", module, "exact", absolute="{0} * ({m}.weight.max() + 1.0)")
        return Form("{m}({0})", module)


KINDS = (Norm(),)
