"""Rewrites of a program that do not change what it computes.

There are two kinds. A *detour* leaves a value and comes back to it, ``y = crop(pad(x))``, and goes between a value and the
steps that read it. A *spelling* says a convolution in other words, ``conv(x) = conv(x₁) + conv(x₂)`` over the halves of its
input channels, and takes the place of a step. Both read and give the same numbers, so a fold of the rewritten program has
to give what the fold of the program gives.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trust.recipes import Recipe
from trust.spellings import SPELLINGS, Spelling
from trust.steps import KINDS, Form, Kind, Scope, Shape, Step, form
from trust.steps.base import at


class Rewritten(Kind):
    """A step whose code stands in its arguments. It is never drawn."""

    name = "rewritten"
    share = 0.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        return None

    def form(self, args: Mapping[str, Any]) -> Form:
        return Form(args["code"], args.get("constructor", ""), args["nature"])


KINDS.setdefault(Rewritten.name, Rewritten())

Detour = Callable[[random.Random, Shape, int], str | None]
"""Code over ``{0}`` for a value of a shape, along an axis; None where it does not fit."""


@dataclass(frozen=True)
class Identity:
    """A rewrite.

    Attributes:
        name: for reports.
        equation: what it says.
        exact: equal bit for bit, else up to rounding (and bit for bit where all sums are exact).
        detour: for those that leave a value and come back.
        spelling: for those that say a convolution in other words.
    """

    name: str
    equation: str
    exact: bool
    detour: Detour | None = None
    spelling: Spelling | None = None

    def apply(self, recipe: Recipe, shapes: list[Shape], r: random.Random) -> Recipe | None:
        """The recipe rewritten at a random place; None where there is none."""
        if self.detour is not None:
            return self._around(recipe, shapes, r)
        return self._in_place_of(recipe, shapes, r)

    def _around(self, recipe: Recipe, shapes: list[Shape], r: random.Random) -> Recipe | None:
        assert self.detour is not None
        places = [(v, a) for v, shape in enumerate(shapes) if shape and 0 not in shape for a in range(len(shape))]
        read = {i for s in recipe.steps for i in s.inputs} | set(recipe.outputs)
        places = [(v, a) for v, a in places if v in read]
        r.shuffle(places)
        if r.random() < 0.7:
            # Along depth, in front of a convolution: there the facts matter.
            convolved = {s.inputs[0] for s in recipe.steps if s.kind == "conv"}
            places.sort(key=lambda p: (p[0] not in convolved, p[1] != len(shapes[p[0]]) - 3))
        for value, axis in places:
            code = self.detour(r, shapes[value], axis)
            if code is not None:
                return inserted(recipe, value, Step(Rewritten.name, {"code": code, "nature": "moves"}, (value,)))
        return None

    def _in_place_of(self, recipe: Recipe, shapes: list[Shape], r: random.Random) -> Recipe | None:
        assert self.spelling is not None
        places = [i for i, s in enumerate(recipe.steps) if s.kind == "conv" and s.args["mode"] == "zeros"]
        r.shuffle(places)
        for i in places:
            step = recipe.steps[i]
            into, out = shapes[step.inputs[0]], shapes[len(recipe.inputs) + i]
            if len(into) != step.args["axes"] + 2 or 0 in into or 0 in out:
                continue
            code = self.spelling(r, step.args, into, out)
            if code is None:
                continue
            args = {"code": code, "constructor": form(step).module, "module": step.args["module"], "nature": "linear"}
            steps = (*recipe.steps[:i], Step(Rewritten.name, args, step.inputs), *recipe.steps[i + 1 :])
            return replace(recipe, steps=steps)
        return None


def inserted(recipe: Recipe, value: int, step: Step) -> Recipe:
    """The recipe with a step behind a value, read by everything that read the value."""
    count = len(recipe.inputs)
    place = max(value - count + 1, 0)
    number = count + place

    def shifted(i: int) -> int:
        return i + 1 if i >= number else i

    def reader(i: int) -> int:
        return number if i == value else shifted(i)

    before = recipe.steps[:place]
    behind = tuple(replace(s, inputs=tuple(reader(i) for i in s.inputs)) for s in recipe.steps[place:])
    return replace(recipe, steps=(*before, step, *behind), outputs=tuple(reader(o) for o in recipe.outputs))


def _amounts(rank: int, axis: int, lo: int, hi: int, whole: bool = True) -> list[int]:
    """As ``F.pad`` takes them: from the last axis on, up to the axis itself or to the first."""
    found = [0] * (2 * (rank if whole else rank - 2))
    found[2 * (rank - 1 - axis) : 2 * (rank - axis)] = [lo, hi]
    return found


def _cat_then_slice(r: random.Random, shape: Shape, axis: int) -> str | None:
    parts = ["{0}", r.choice(["{0}", "torch.zeros_like({0})", f"{{0}}.flip({axis})", "torch.relu({0})"])]
    first = r.random() < 0.5
    kept = f":{shape[axis]}" if first else f"{shape[axis]}:"
    return f"torch.cat([{', '.join(parts if first else parts[::-1])}], {axis})" + at(axis, kept)


def _pad_then_crop(r: random.Random, shape: Shape, axis: int) -> str | None:
    lo, hi = r.choice([(1, 0), (0, 2), (1, 1), (2, 1)])
    padded = f"F.pad({{0}}, {_amounts(len(shape), axis, lo, hi)}, value={r.choice([0.0, 0.0, 1.5])})"
    if r.random() < 0.5:
        return f"{padded}.narrow({axis}, {lo}, {shape[axis]})"
    return f"F.pad({padded}, {_amounts(len(shape), axis, -lo, -hi)})"


def _replicate_then_crop(r: random.Random, shape: Shape, axis: int) -> str | None:
    if not 3 <= len(shape) <= 5 or axis < 2:
        return None
    padded = f"F.pad({{0}}, {_amounts(len(shape), axis, 1, 1, whole=False)}, mode='replicate')"
    return f"{padded}.narrow({axis}, 1, {shape[axis]})"


def _permute_and_back(r: random.Random, shape: Shape, axis: int) -> str | None:
    order = list(range(len(shape)))
    r.shuffle(order)
    back = [order.index(a) for a in range(len(shape))]
    return f"{{0}}.permute({order}).{r.choice(['', 'contiguous().'])}permute({back})"


def _flip_twice(r: random.Random, shape: Shape, axis: int) -> str | None:
    return f"{{0}}.flip({axis}).flip({axis})"


def _roll_and_back(r: random.Random, shape: Shape, axis: int) -> str | None:
    return f"{{0}}.roll(1, {axis}).roll(-1, {axis})"


def _unsqueeze(r: random.Random, shape: Shape, axis: int) -> str | None:
    return f"{{0}}.unsqueeze({axis}).squeeze({axis})"


def _reshape_and_back(r: random.Random, shape: Shape, axis: int) -> str | None:
    if axis + 1 < len(shape) and r.random() < 0.7:
        return f"{{0}}.flatten({axis}, {axis + 1}).unflatten({axis}, {shape[axis : axis + 2]})"
    return f"{{0}}.reshape(-1).reshape({list(shape)})"


def _split_and_cat(r: random.Random, shape: Shape, axis: int) -> str | None:
    if shape[axis] < 2:
        return None
    if r.random() < 0.4:
        return f"torch.cat({{0}}.chunk(2, {axis}), {axis})"
    return f"torch.cat({{0}}.split({r.randrange(1, shape[axis])}, {axis}), {axis})"


def _unbind_and_stack(r: random.Random, shape: Shape, axis: int) -> str | None:
    return f"torch.stack({{0}}.unbind({axis}), {axis})" if shape[axis] <= 8 else None


def _doubled(r: random.Random, shape: Shape, axis: int) -> str | None:
    return r.choice(["(2 * {0}) / 2", "({0} + {0}) / 2", "({0} / 4) * 4"])


def _negated(r: random.Random, shape: Shape, axis: int) -> str | None:
    return "-(-{0})"


def _neutral(r: random.Random, shape: Shape, axis: int) -> str | None:
    return r.choice(
        ["{0} + torch.zeros_like({0})", "{0} * 1.0", "{0} - 0.0", "{0} * torch.ones_like({0})", "{0}.clone()"]
    )


def _expanded(r: random.Random, shape: Shape, axis: int) -> str | None:
    if shape[axis] != 1:
        return None
    sizes = [3 if a == axis else -1 for a in range(len(shape))]
    return r.choice([f"{{0}}.expand({list(shape)})", f"{{0}}.expand({sizes}).narrow({axis}, {r.randrange(3)}, 1)"])


def _repeated(r: random.Random, shape: Shape, axis: int) -> str | None:
    factors = [2 if a == axis else 1 for a in range(len(shape))]
    start = r.choice([0, shape[axis]])
    return f"{{0}}.repeat({factors}).narrow({axis}, {start}, {shape[axis]})"


def _indexed(r: random.Random, shape: Shape, axis: int) -> str | None:
    order = list(range(shape[axis]))
    r.shuffle(order)
    back = [order.index(i) for i in range(len(order))]
    one, other = (f"index_select({axis}, torch.tensor({i}))" for i in (order, back))
    return f"{{0}}.{one}.{other}"


def _upsampled(r: random.Random, shape: Shape, axis: int) -> str | None:
    if not 3 <= len(shape) <= 5 or axis < 2:
        return None
    factors = tuple(2.0 if a == axis else 1.0 for a in range(2, len(shape)))
    return f"F.interpolate({{0}}, scale_factor={factors}, mode='nearest')" + at(axis, "::2")


def _pooled(r: random.Random, shape: Shape, axis: int) -> str | None:
    if not 3 <= len(shape) <= 5:
        return None
    return f"F.{r.choice(['max', 'avg'])}_pool{len(shape) - 2}d({{0}}, 1)"


def _stacked_mean(r: random.Random, shape: Shape, axis: int) -> str | None:
    if len(shape) > 5:
        return None
    return f"torch.stack([{{0}}, {{0}}], {axis}).{r.choice([f'mean({axis})', f'amax({axis})', f'select({axis}, 1)'])}"


def _maximum(r: random.Random, shape: Shape, axis: int) -> str | None:
    return r.choice(["torch.maximum({0}, {0})", "torch.where({0} > 0, {0}, {0})", "torch.relu({0}) - torch.relu(-{0})"])


IDENTITIES: tuple[Identity, ...] = (
    Identity("cat, then slice", "[x; z][:n] = x", True, _cat_then_slice),
    Identity("pad, then crop", "pad(x, l, h)[l:l+n] = x", True, _pad_then_crop),
    Identity("replicate, then crop", "replicate(x, 1, 1)[1:1+n] = x", True, _replicate_then_crop),
    Identity("permute and back", "P⁻¹(P(x)) = x", True, _permute_and_back),
    Identity("flip twice", "flip(flip(x)) = x", True, _flip_twice),
    Identity("roll and back", "roll(roll(x, 1), -1) = x", True, _roll_and_back),
    Identity("unsqueeze, squeeze", "squeeze(unsqueeze(x)) = x", True, _unsqueeze),
    Identity("reshape and back", "unflatten(flatten(x)) = x", True, _reshape_and_back),
    Identity("split and cat", "[x[:k]; x[k:]] = x", True, _split_and_cat),
    Identity("unbind and stack", "stack(x[0], …, x[n-1]) = x", True, _unbind_and_stack),
    Identity("double and halve", "2x/2 = x", True, _doubled),
    Identity("negate twice", "-(-x) = x", True, _negated),
    Identity("neutral element", "x + 0 = x, 1·x = x", True, _neutral),
    Identity("expand a size of 1", "expand(x, k)[i:i+1] = x", True, _expanded),
    Identity("repeat, then slice", "[x; x][n:] = x", True, _repeated),
    Identity("index and back", "x[p][p⁻¹] = x", True, _indexed),
    Identity("upsample, take every second", "nearest(x, 2)[::2] = x", True, _upsampled),
    Identity("pool of one", "pool(x, 1) = x", True, _pooled),
    Identity("reduce two copies", "mean(stack(x, x)) = x", True, _stacked_mean),
    Identity("choose between equals", "max(x, x) = x", True, _maximum),
    *(Identity(name, equation, exact, spelling=s) for name, equation, exact, s in SPELLINGS),
)
"""Every rewrite, each tried on every program that has a place for it."""
