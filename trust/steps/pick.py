"""Taking slices: ranges, steps, single indices, lists of them, flips and rolls."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trust.steps.base import Form, Kind, Scope, Step, at, literal

HOW = ("range", "range", "end", "step", "select", "flip", "roll", "list", "index", "chunk", "unbind", "split", "narrow")


class Pick(Kind):
    """Some of the slices along an axis, in some order."""

    name = "pick"
    share = 4.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        value = scope.pick(r)
        if value is None or not scope.shapes[value]:
            return None
        shape = scope.shapes[value]
        axis = len(shape) - 3 if len(shape) >= 4 and r.random() < 0.5 else r.randrange(len(shape))
        size = shape[axis]
        if not size:
            return None
        how = r.choice(HOW)
        first = r.randrange(size)
        last = r.randrange(first, size) + 1
        numbers = {
            "range": [first, last],
            "end": [-last],
            "step": [first, r.choice([2, 3])],
            "select": [r.choice([first, first - size])],
            "flip": [],
            "roll": [r.choice([1, -1, 2])],
            "list": [r.randrange(-size, size) for _ in range(r.choice([1, 2, 3, 4]))],
            "index": [r.randrange(size) for _ in range(r.choice([1, 2, 3]))],
            "chunk": [r.choice([1, 2, 3]), r.choice([0, -1])],
            "unbind": [first],
            "split": [r.choice([1, 2]), r.choice([0, -1])],
            "narrow": [first, last - first],
        }[how]
        return Step("pick", {"how": how, "axis": axis, "numbers": numbers}, (value,))

    def form(self, args: Mapping[str, Any]) -> Form:
        axis, numbers = args["axis"], args["numbers"]
        code = {
            "range": lambda: "{0}" + at(axis, f"{numbers[0]}:{numbers[1]}"),
            "end": lambda: "{0}" + at(axis, f"{numbers[0]}:"),
            "step": lambda: "{0}" + at(axis, f"{numbers[0]}::{numbers[1]}"),
            "select": lambda: "{0}" + at(axis, str(numbers[0])),
            "flip": lambda: f"{{0}}.flip({axis})",
            "roll": lambda: f"{{0}}.roll({numbers[0]}, {axis})",
            "list": lambda: "{0}" + at(axis, str(numbers)),
            "index": lambda: f"{{0}}.index_select({axis}, torch.tensor({numbers}))",
            "chunk": lambda: f"{{0}}.chunk({numbers[0]}, {axis})[{numbers[1]}]",
            "unbind": lambda: f"{{0}}.unbind({axis})[{numbers[0]}]",
            "split": lambda: f"{{0}}.split({numbers[0]}, {axis})[{numbers[1]}]",
            "narrow": lambda: f"{{0}}.narrow({axis}, {literal(numbers[0])}, {numbers[1]})",
        }[args["how"]]()
        return Form(code, nature="moves")


KINDS = (Pick(),)
