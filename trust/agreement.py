"""Programs run on whole numbers, and when the outputs of two of them agree."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from trust.identities import Identity
from trust.recipes import Recipe, modules_of
from trust.track import Track, absolute, tracks

LIMIT = 1e-10
"""Largest difference relative to the largest element, where sums are rounded."""
NUDGE = 1e-13
"""Relative change of the inputs that shows how far an output moves by rounding alone."""
ILL = 1e-5
"""Outputs that move further than this are not compared."""
SPARE_BITS = 8
"""Left for what a rewrite needs besides: halves, quarters and means of numbers."""

Outputs = tuple[torch.Tensor, ...]


class DifferenceError(AssertionError):
    """Two runs that must agree do not."""


@dataclass
class Program:
    """A recipe with its module, its inputs, and what can be said of its outputs.

    Attributes:
        exact: for each output, whether all sums behind it are exactly representable.
        moves: for each output, how far it moves when the inputs are nudged.
    """

    recipe: Recipe
    model: nn.Module
    inputs: Outputs
    outputs: Outputs
    exact: list[bool]
    moves: list[float]
    shapes: list[tuple[int, ...]]

    @classmethod
    def of(cls, recipe: Recipe) -> Program:
        """Run a recipe with small whole numbers in weights and inputs."""
        model, inputs = recipe.module("dyadic"), recipe.tensors("dyadic")
        followed = tracks(recipe, absolute(model), [x.abs() for x in inputs], torch.float64, (0, 0), rounding=False)
        exact = [_exact(followed[o]) for o in recipe.outputs]
        outputs = run(model, inputs)
        nudged = run(model, [x * (1 + NUDGE * sign(x)) for x in inputs])
        moves = [float((a - b).abs().max()) if a.numel() else 0.0 for a, b in zip(nudged, outputs, strict=True)]
        with torch.no_grad():
            values = recipe.run(modules_of(model), list(inputs))
        return cls(recipe, model, inputs, outputs, exact, moves, [tuple(v.shape) for v in values])

    def rewritten(self, identity: Identity, r: random.Random) -> Program | None:
        """The program rewritten at a random place, run on the same inputs; None where there is no place."""
        recipe = identity.apply(self.recipe, self.shapes, r)
        if recipe is None:
            return None
        model = recipe.module("dyadic")
        with torch.no_grad():
            values = recipe.run(modules_of(model), list(self.inputs))
        outputs = tuple(values[o] for o in recipe.outputs)
        return replace(self, recipe=recipe, model=model, outputs=outputs, shapes=[tuple(v.shape) for v in values])


def _exact(track: Track | None) -> bool:
    """Whether all sums are exactly representable, with room for what a rewrite needs."""
    if track is None or track.unit is None:
        return False
    return not track.bound.numel() or float(track.bound.max()) < 2.0 ** (53 - SPARE_BITS + track.unit)


def sign(x: torch.Tensor) -> torch.Tensor:
    """Ones with signs that depend on the place alone."""
    flat = torch.arange(x.numel(), dtype=x.dtype)
    return torch.where(flat % 3 == 0, -1.0, 1.0).to(x.dtype).reshape(x.shape)


def run(model: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> Outputs:
    """The outputs."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(model(*[x.clone() for x in inputs]))


def agree(program: Program, given: Outputs, outputs: Counter[str] | None = None) -> None:
    """Hold outputs against the program's own.

    Raises:
        DifferenceError: they differ by more than rounding, or at all where everything is exact.
    """
    tally = Counter[str]() if outputs is None else outputs
    for i, (a, b) in enumerate(zip(given, program.outputs, strict=True)):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise DifferenceError(f"output {i} is {tuple(a.shape)} {a.dtype}, not {tuple(b.shape)} {b.dtype}")
        if program.exact[i]:
            tally["bit for bit"] += 1
            if not torch.equal(a, b):
                raise DifferenceError(f"output {i} differs in {int((a != b).sum())} of {a.numel()} exact numbers")
            continue
        scale = float(b.abs().max()) if b.numel() else 0.0
        if not program.moves[i] <= ILL * scale:
            tally["not compared: moved by rounding"] += 1
            continue
        tally["within rounding"] += 1
        apart = float((a - b).abs().max()) if b.numel() else 0.0
        if not apart <= max(LIMIT * scale, 100 * program.moves[i]):
            raise DifferenceError(f"output {i} is off by {apart:.3g} of {scale:.3g}")
