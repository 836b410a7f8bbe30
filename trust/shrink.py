"""Make a failing recipe as small as it can be while it fails in the same way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from trust.recipes import Recipe
from trust.steps import Step

Fails = Callable[[Recipe], bool]


def shrink(recipe: Recipe, fails: Fails, budget: int = 400, seconds: float = math.inf) -> Recipe:
    """The smallest recipe found.

    Args:
        recipe: that fails.
        fails: whether a candidate fails in the same way; a candidate that does not run does not fail.
        budget: candidates to try at most.
        seconds: to try for at most.
    """
    tried, until = 0, time.monotonic() + seconds
    smaller = True
    while smaller:
        smaller = False
        for candidate in candidates(recipe):
            tried += 1
            if tried > budget or time.monotonic() > until:
                return recipe
            if fails(candidate):
                recipe, smaller = candidate, True
                break
    return recipe


def candidates(recipe: Recipe) -> Iterator[Recipe]:
    """Simpler recipes, the boldest first. Not all of them run."""
    if len(recipe.outputs) > 1:
        for o in recipe.outputs:
            yield replace(recipe, outputs=(o,))
    pruned = prune(recipe)
    if pruned != recipe:
        yield pruned
    for i in reversed(range(len(recipe.steps))):
        for source in dict.fromkeys(recipe.steps[i].inputs):
            shorter = _without(recipe, i, source)
            yield prune(shorter)
            # What nothing reads can still decide how the program is captured.
            if prune(shorter) != shorter:
                yield shorter
    for i, shape in enumerate(recipe.inputs):
        for axis, size in enumerate(shape):
            for less in dict.fromkeys((1, 2, size - 1)):
                if 0 < less < size:
                    smaller = (*shape[:axis], less, *shape[axis + 1 :])
                    yield replace(recipe, inputs=(*recipe.inputs[:i], smaller, *recipe.inputs[i + 1 :]))
    for i, step in enumerate(recipe.steps):
        for args in _simpler(step.args):
            yield replace(recipe, steps=(*recipe.steps[:i], replace(step, args=args), *recipe.steps[i + 1 :]))
    yield from _fewer_channels(recipe)


def _without(recipe: Recipe, index: int, source: int) -> Recipe:
    """Without one step: what read its result reads one of its inputs."""
    gone = len(recipe.inputs) + index

    def renamed(i: int) -> int:
        i = source if i == gone else i
        return i - 1 if i > gone else i

    steps = (replace(s, inputs=tuple(map(renamed, s.inputs))) for j, s in enumerate(recipe.steps) if j != index)
    return replace(recipe, steps=tuple(steps), outputs=tuple(dict.fromkeys(map(renamed, recipe.outputs))))


def prune(recipe: Recipe) -> Recipe:
    """Without inputs that nothing reads and results that nothing reads. Writes in place stay: others may see them."""
    first = len(recipe.inputs)
    needed = set(recipe.outputs)
    for i in reversed(range(len(recipe.steps))):
        if first + i in needed or recipe.steps[i].kind == "inplace":
            needed |= {first + i, *recipe.steps[i].inputs}
    if not any(i < first for i in needed):
        needed.add(0)
    kept = [i for i in range(first + len(recipe.steps)) if i in needed]
    if len(kept) == first + len(recipe.steps):
        return recipe
    place = {old: new for new, old in enumerate(kept)}
    steps = [
        replace(s, inputs=tuple(place[j] for j in s.inputs)) for i, s in enumerate(recipe.steps) if first + i in place
    ]
    inputs = tuple(s for i, s in enumerate(recipe.inputs) if i in place)
    return replace(recipe, inputs=inputs, steps=tuple(steps), outputs=tuple(place[o] for o in recipe.outputs))


def _simpler(args: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Arguments with one of them simpler."""
    plain: dict[str, Any] = {"mode": "zeros", "groups": 1, "function": False, "bias": False, "ceil": False}
    for key, value in args.items():
        if key in plain and value != plain[key] and type(value) is type(plain[key]):
            yield {**args, key: plain[key]}
        elif isinstance(value, list) and all(isinstance(v, int) for v in value):
            for i, v in enumerate(value):
                for less in dict.fromkeys((0, 1, v - 1)):
                    if 0 <= less < v:
                        yield {**args, key: [*value[:i], less, *value[i + 1 :]]}


def _fewer_channels(recipe: Recipe) -> Iterator[Recipe]:
    """One channel less in the first input and in whatever reads that many."""
    for axis in (0, 1):
        have = recipe.inputs[0][axis] if len(recipe.inputs[0]) > axis else 0
        if have < 2:
            continue
        inputs = tuple(
            tuple(1 if a == axis and s == have else s for a, s in enumerate(shape)) for shape in recipe.inputs
        )
        steps = []
        for step in recipe.steps:
            args = dict(step.args)
            if args.get("channels") == have:
                args["channels"] = 1
            elif isinstance(args.get("channels"), list) and args["channels"][0] == have:
                args["channels"] = [1, 1 if args["groups"] > 1 else args["channels"][1]]
                args["groups"] = 1
            steps.append(Step(step.kind, args, step.inputs))
        yield replace(recipe, inputs=inputs, steps=tuple(steps))
