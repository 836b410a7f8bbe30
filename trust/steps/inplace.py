"""Operators that write into their input: whole tensors, slices and views of them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trust.steps.base import Form, Kind, Scope, Step, at

INPLACE: dict[str, Form] = {
    "add": Form("{0}.add_(1.0)", nature="linear"),
    "relu": Form("F.relu_({0})", nature="moves"),
    "set": Form("{0}[SLICE] = 0.0", nature="moves"),
    "increase": Form("{0}[RANGE] += 1.0", nature="linear"),
    "scale": Form("{0}[SLICE].mul_(2.0)", nature="linear"),
    "zero": Form("{0}.zero_()", nature="moves"),
    "clamp": Form("{0}.clamp_(min=0)", nature="moves"),
    "copy": Form("{0}.copy_({1})", nature="moves"),
    "plus": Form("{0}.add_({1})", nature="linear"),
    "times": Form("{0}.mul_({1})", nature="product"),
    "set_slice": Form("{0}[SLICE] = {1}[SLICE]", nature="moves"),
}


class InPlace(Kind):
    """Writes into an earlier result."""

    name = "inplace"
    share = 2.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        value = scope.pick(r, made=True)
        if value is None or not scope.shapes[value]:
            return None
        shape = scope.shapes[value]
        axis = r.randrange(len(shape))
        name = r.choice(list(INPLACE))
        inputs: tuple[int, ...] = (value,)
        if "{1}" in INPLACE[name].code:
            same = [i for i, s in enumerate(scope.shapes) if s == shape and i != value]
            inputs = (value, r.choice(same) if same else value)
        return Step("inplace", {"operator": name, "axis": axis, "index": r.randrange(max(shape[axis], 1))}, inputs)

    def form(self, args: Mapping[str, Any]) -> Form:
        form, axis, index = INPLACE[args["operator"]], args["axis"], args["index"]
        code = form.code.replace("[SLICE]", at(axis, str(index))).replace("[RANGE]", at(axis, f"{index}:{index + 1}"))
        return Form(code, nature=form.nature, terms=form.terms, statement=True)


KINDS = (InPlace(),)
