"""What can be said of every value of a program before two runs of it are compared.

The program is run on magnitudes: absolute inputs through absolute weights, sums in place of differences. That bounds every
value and every partial sum, whatever the order of summation. Next to it run

* a unit: all values are whole multiples of ``2**unit``. As long as ``bound <= 2**(precision + unit)``, every value and
  partial sum is exactly representable, and two right programs agree bit for bit;
* an error: how far a computed value may be from the exact one (Higham, Accuracy and Stability of Numerical Algorithms,
  2nd ed., section 3.1): a sum of n products is within ``γₙ·Σ|x||w|``, ``γₙ = n·u/(1 − n·u)``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from trust.recipes import Recipe, evaluate, modules_of
from trust.steps import Form, Step, form

Tensors = list[torch.Tensor]


@dataclass
class Track:
    """What is known of one value.

    Attributes:
        bound: at least the magnitude of every number and of all partial sums behind it.
        error: at least the difference between a computed number and the exact one; None where it cannot be bounded.
        unit: exponent of which all numbers are multiples; None where they may not be representable.
    """

    bound: torch.Tensor
    error: torch.Tensor | None
    unit: int | None


def absolute(model: nn.Module) -> nn.Module:
    """A copy with the magnitudes of all weights, in float64."""
    made = copy.deepcopy(model).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.abs_()
    return made


def precision(dtype: torch.dtype) -> int:
    """Bits of a significand: numbers up to ``2**precision`` times a unit are exact."""
    return 1 - round(math.log2(torch.finfo(dtype).eps))


@torch.no_grad()
def tracks(
    recipe: Recipe,
    magnitudes: nn.Module,
    inputs: Sequence[torch.Tensor],
    dtype: torch.dtype,
    units: tuple[int | None, int | None] = (None, None),
    rounding: bool = True,
) -> list[Track | None]:
    """Follow a program.

    Args:
        recipe: the program.
        magnitudes: its module with absolute weights.
        inputs: magnitudes of the inputs.
        dtype: that the program runs in.
        units: of inputs and of weights; None where numbers are arbitrary.
        rounding: follow errors too.

    Returns:
        One for each value; None where nothing is known.
    """
    # Which values share memory after a write can depend on the layouts that a dtype's kernels choose.
    if dtype != torch.float64 and any(form(s).statement for s in recipe.steps):
        return [None] * (len(recipe.inputs) + len(recipe.steps))
    runner = _Runner(modules_of(magnitudes), dtype, units[1], rounding)
    found: list[Track | None] = [runner.start(x.double().abs(), units[0]) for x in inputs]
    for step in recipe.steps:
        made = runner.step(step, [found[i] for i in step.inputs])
        if form(step).statement:
            target = found[step.inputs[0]]
            if target is not None:
                family = [i for i, t in enumerate(found) if t is not None and _same_memory(t.bound, target.bound)]
                for i in family:
                    here = found[i]
                    assert here is not None
                    if made is None:
                        found[i] = None
                    elif here.unit is not None:
                        here.unit = None if made.unit is None else min(here.unit, made.unit)
        found.append(made)
    return found


def _same_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


class _Runner:
    def __init__(self, modules: dict[str, nn.Module], dtype: torch.dtype, weights: int | None, rounding: bool) -> None:
        self.modules = modules
        self.round_off = torch.finfo(dtype).eps / 2
        self.smallest = torch.finfo(dtype).tiny
        self.precision = precision(dtype)
        self.weights = weights
        self.rounding = rounding

    def start(self, bound: torch.Tensor, unit: int | None) -> Track:
        return self.settled(Track(bound, torch.zeros_like(bound) if self.rounding else None, unit))

    def settled(self, track: Track) -> Track:
        """The unit is kept only while everything is representable."""
        if track.unit is not None and track.bound.numel():
            largest = float(track.bound.max())
            if not math.isfinite(largest) or largest > 2.0 ** (self.precision + track.unit):
                track.unit = None
        return track

    def step(self, step: Step, given: Sequence[Track | None]) -> Track | None:
        what = form(step)
        if what.nature == "other" or any(t is None for t in given):
            return None
        known = [t for t in given if t is not None]
        own = self.modules.get(step.args.get("module", ""))
        code = what.absolute or what.code
        before = [t.bound.clone() for t in known]
        unit = self.unit(what, [t.unit for t in known], before)
        if not all(t.bound.numel() for t in known):
            return None  # an empty batch: nothing to bound
        bound = evaluate(code, what.statement, own, [t.bound for t in known])
        if not bool(bound.isfinite().all()):
            return None
        if unit is not None and what.divisor == 0:
            unit = _divided(unit, before[0].numel() // max(bound.numel(), 1))
        error = self.error(what, code, own, before, bound, [t.error for t in known]) if self.rounding else None
        return self.settled(Track(bound, error, unit))

    def unit(self, what: Form, given: list[int | None], bounds: Tensors) -> int | None:
        units = [u for u in given if u is not None]
        if len(units) < len(given):
            return None
        if what.nature == "product":
            found = units[0] + units[-1]
        else:
            found = min(units) - what.unit
        if what.module:
            if self.weights is None:
                return None
            found += self.weights
        return found if what.divisor == 0 else _divided(found, what.divisor)

    def error(
        self,
        what: Form,
        code: str,
        own: nn.Module | None,
        before: Tensors,
        bound: torch.Tensor,
        errors: Sequence[torch.Tensor | None],
    ) -> torch.Tensor | None:
        known = [e for e in errors if e is not None]
        if len(known) < len(errors) or what.nature == "exact":
            return None

        def on(tensors: Tensors) -> torch.Tensor:
            return evaluate(code, what.statement, own, [t.clone() for t in tensors])

        if what.nature == "product":
            (a, b), (da, db) = (before[0], before[-1]), (known[0], known[-1])
            made = a * db + b * da + da * db + self.round_off * (a + da) * (b + db)
        elif not any(bool(e.any()) for e in known) and what.nature == "moves":
            made = torch.zeros_like(bound)
        else:
            at_zero = on([torch.zeros_like(e) for e in known])
            carried = (on(known) - at_zero).abs()
            if what.nature == "moves":
                made = carried
            else:
                terms = what.terms or before[0].numel() // max(bound.numel(), 1) + 2
                if terms * self.round_off > 0.2:
                    return None
                gamma = terms * self.round_off / (1 - terms * self.round_off)
                # The last part is for the rounding of the difference above, in float64 itself.
                made = carried + gamma * (bound + carried) + terms * 2.0**-52 * carried.gt(0) * at_zero
                # Numbers below the smallest normal one lose digits.
                made = made + terms * self.smallest
        if what.statement:
            known[0].copy_(made)
            return known[0]
        return made


def _divided(unit: int, divisor: int) -> int | None:
    return unit - divisor.bit_length() + 1 if divisor > 0 and divisor & (divisor - 1) == 0 else None
