"""Other shapes of the same numbers: permutations, reshapes, repetition."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trust.steps.base import Form, Kind, Scope, Shape, Step, literal


def _divisors(size: int) -> list[int]:
    return [q for q in range(1, size + 1) if size % q == 0]


def _reshaped(r: random.Random, shape: Shape) -> list[int]:
    """Neighbouring axes merged, or one split."""
    sizes = list(shape)
    for _ in range(r.choice([1, 2])):
        i = r.randrange(len(sizes))
        if i + 1 < len(sizes) and r.random() < 0.6:
            sizes[i : i + 2] = [sizes[i] * sizes[i + 1]]
        elif len(sizes) < 6 and sizes[i]:
            q = r.choice(_divisors(sizes[i]))
            sizes[i : i + 1] = [q, sizes[i] // q]
    if r.random() < 0.5:
        sizes[r.randrange(len(sizes))] = -1
    return sizes


HOW = (
    "permute",
    "permute",
    "transpose",
    "flatten",
    "unsqueeze",
    "squeeze",
    "squeeze_all",
    "reshape",
    "reshape",
    "reshape_as",
    "unflatten",
    "movedim",
    "frames_to_batch",
    "frames_to_batch",
    "batch_to_frames",
    "channels_to_frames",
    "shuffle",
    "unshuffle",
    "unfold",
    "contiguous",
    "last",
)


class Reorder(Kind):
    """Permutations and reshapes, those of video networks among them."""

    name = "shape"
    share = 5.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        how = r.choice(HOW)
        ranks = {
            "frames_to_batch": (5,),
            "channels_to_frames": (5,),
            "batch_to_frames": (4,),
            "shuffle": (4,),
            "unshuffle": (4,),
            "last": (5,),
        }
        value = scope.pick(r, ranks.get(how, ()))
        if value is None or not scope.shapes[value]:
            return None
        shape = scope.shapes[value]
        rank = len(shape)
        numbers: list[int] = []
        inputs: tuple[int, ...] = (value,)
        if how == "permute":
            numbers = r.sample(range(rank), rank)
        elif how in ("transpose", "movedim"):
            numbers = [r.randrange(rank), r.randrange(-rank, rank)]
        elif how == "flatten":
            numbers = [r.randrange(rank)]
            numbers.append(r.randrange(numbers[0], rank))
        elif how == "unsqueeze":
            numbers = [r.randrange(-rank - 1, rank + 1)]
        elif how == "squeeze":
            numbers = [r.randrange(-rank, rank)]
        elif how == "reshape":
            numbers = _reshaped(r, shape)
        elif how == "reshape_as":
            inputs = (value, r.randrange(len(scope.shapes)))
        elif how == "unflatten":
            axis = r.randrange(rank)
            if not shape[axis]:
                return None
            q = r.choice(_divisors(shape[axis]))
            numbers = [axis, q, shape[axis] // q]
        elif how == "batch_to_frames" and shape[0]:
            numbers = [r.choice(_divisors(shape[0]))]
        elif how == "channels_to_frames" and shape[1]:
            numbers = [r.choice(_divisors(shape[1]))]
        elif how == "unfold":
            axis = r.randrange(rank)
            numbers = [axis, max(1, min(2, shape[axis])), r.choice([1, 2])]
        return Step("shape", {"how": how, "numbers": numbers}, inputs)

    def form(self, args: Mapping[str, Any]) -> Form:
        how, numbers = args["how"], args["numbers"]
        words = ", ".join(map(str, numbers))
        code = {
            "permute": lambda: f"{{0}}.permute({words})",
            "transpose": lambda: f"{{0}}.transpose({words})",
            "flatten": lambda: f"{{0}}.flatten({words})",
            "unsqueeze": lambda: f"{{0}}.unsqueeze({words})",
            "squeeze": lambda: f"{{0}}.squeeze({words})",
            "squeeze_all": lambda: "{0}.squeeze()",
            "reshape": lambda: f"{{0}}.reshape({literal(numbers)})",
            "reshape_as": lambda: "{0}.reshape({1}.shape)",
            "unflatten": lambda: f"{{0}}.unflatten({numbers[0]}, {literal(numbers[1:])})",
            "movedim": lambda: f"{{0}}.movedim({words})",
            "frames_to_batch": lambda: "{0}.transpose(1, 2).flatten(0, 1)",
            "batch_to_frames": lambda: f"{{0}}.unflatten(0, (-1, {numbers[0] if numbers else 1})).transpose(1, 2)",
            "channels_to_frames": lambda: f"{{0}}.unflatten(1, (-1, {numbers[0] if numbers else 1})).flatten(2, 3)",
            "shuffle": lambda: "F.pixel_shuffle({0}, 2)",
            "unshuffle": lambda: "F.pixel_unshuffle({0}, 2)",
            "unfold": lambda: f"{{0}}.unfold({words})",
            "contiguous": lambda: "{0}.contiguous()",
            "last": lambda: "{0}.to(memory_format=torch.channels_last_3d)",
        }[how]()
        return Form(code, nature="moves")


class Repeat(Kind):
    """Repetition: ``expand``, ``repeat``, ``tile``, ``repeat_interleave``."""

    name = "repeat"
    share = 3.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        value = scope.pick(r, (5, 5, 4, 3, 2))
        if value is None:
            return None
        shape = scope.shapes[value]
        how = r.choice(["expand", "expand", "repeat", "repeat", "tile", "interleave", "as", "front"])
        numbers = [1] * len(shape)
        axis = r.randrange(len(shape))
        inputs: tuple[int, ...] = (value,)
        if how == "expand":
            ones = [a for a, s in enumerate(shape) if s == 1]
            numbers = [-1] * len(shape)
            if ones:
                numbers[r.choice(ones)] = r.choice([2, 3])
        elif how in ("repeat", "tile"):
            numbers[axis] = r.choice([2, 3])
        elif how == "interleave":
            numbers = [2, axis]
        elif how == "as":
            inputs = (value, r.randrange(len(scope.shapes)))
        elif len(shape) < 5:
            numbers = [2, *[-1] * len(shape)]
        return Step("repeat", {"how": how, "numbers": numbers}, inputs)

    def form(self, args: Mapping[str, Any]) -> Form:
        words = ", ".join(map(str, args["numbers"]))
        code = {
            "expand": f"{{0}}.expand({words})",
            "front": f"{{0}}.expand({words})",
            "repeat": f"{{0}}.repeat({words})",
            "tile": f"{{0}}.tile(({words},))",
            "interleave": f"{{0}}.repeat_interleave({words})",
            "as": "{0}.expand_as({1})",
        }[args["how"]]
        return Form(code, nature="moves")


KINDS = (Reorder(), Repeat())
