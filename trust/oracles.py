"""Oracles that a fold has to satisfy, each for every output that it can speak of.

* impulses: for a linear operator, unit impulses through real weights give the coefficients themselves, bit for bit;
* dyadics: whole numbers times powers of two whose partial sums are exactly representable: bit for bit, through a whole graph;
* rounding: the difference is within twice the running error bound;
* float64: for everything else the relative difference of float64 runs is below 1e-10;
* own type: in a coarser type, where no bound is known, the fold is about as far from float64 as the original is.

What each of them cannot see: impulses see no operator that is not linear, and no rounding; dyadics see no rounding; the
rounding bound does not see what is smaller than itself, a slice of tiny numbers for one; and float64 runs do not see what is
below 1e-10 of the largest output.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from trust.recipes import Feed, Recipe, Setting
from trust.steps import Shape
from trust.track import Track, absolute, tracks

Run = Callable[..., tuple[torch.Tensor, ...]]

LIMIT = 1e-10
NOISE = 1e-13
OWN_FACTOR = 4.0
IMPULSE_CALLS = 24


class WrongError(AssertionError):
    """A fold differs from the original.

    Attributes:
        oracle: that found it.
    """

    def __init__(self, oracle: str, message: str) -> None:
        super().__init__(message)
        self.oracle = oracle


@dataclass
class Tally:
    """What was compared.

    Attributes:
        outputs: by oracle.
        share: largest part of the rounding bound that was used.
        ill: outputs that are not compared, since the original itself moves when its inputs are moved by rounding.
    """

    outputs: Counter[str] = field(default_factory=Counter)
    share: float = 0.0
    ill: int = 0


class Judge:
    """Compares a program's module with its fold.

    Args:
        recipe: the program.
        setting: how its weights are filled and in what type it runs.
        model: the original.
        flat: the fold.
        tally: where to count.

    Attributes:
        feed: the inputs that were fed last.
    """

    def __init__(self, recipe: Recipe, setting: Setting, model: nn.Module, flat: Run, tally: Tally) -> None:
        self.recipe, self.setting = recipe, setting
        self.model, self.flat, self.tally = model, flat, tally
        self.feed = Feed()
        self.magnitudes = absolute(model)
        self.weight_unit = None if setting.how == "full" else -setting.bits

    def impulses(self) -> None:
        """Feed unit impulses at every position, or at many of them."""
        shape = self.recipe.inputs[0]
        dtype = self.setting.torch_dtype
        if not math.prod(shape):
            return
        known = self.tracks([torch.ones(shape)], 0, rounding=False)
        if any(t is None or t.unit is None for t in known):
            return
        self.feed = Feed("dyadic")
        for x in impulses(shape, self.recipe.steps[-1].args.get("axes", 1)):
            self.compare("impulses", (x.to(dtype),), known)

    def dyadics(self, bits: int, shapes: Sequence[Shape] | None = None) -> None:
        """Feed whole numbers times powers of two."""
        self.feed = Feed("dyadic", bits, shapes)
        inputs = self.recipe.tensors("dyadic", bits, self.setting.torch_dtype, shapes)
        self.compare("dyadics", inputs, self.tracks(inputs, -bits, rounding=False))

    def randoms(self, shapes: Sequence[Shape] | None = None) -> None:
        """Feed normal numbers."""
        self.feed = Feed("full", 0, shapes)
        inputs = self.recipe.tensors("full", 0, self.setting.torch_dtype, shapes)
        self.compare("rounding", inputs, self.tracks(inputs, None))

    def tracks(self, inputs: Sequence[torch.Tensor], unit: int | None, rounding: bool = True) -> list[Track | None]:
        """What is known of the outputs."""
        units = (unit, self.weight_unit)
        found = tracks(self.recipe, self.magnitudes, inputs, self.setting.torch_dtype, units, rounding)
        return [found[o] for o in self.recipe.outputs]

    @torch.no_grad()
    def compare(self, name: str, inputs: Sequence[torch.Tensor], known: Sequence[Track | None]) -> None:
        """Run both and hold every output against the strongest claim that can be made of it.

        Raises:
            WrongError: an output differs.
        """
        wanted = self.model(*[x.clone() for x in inputs])
        mine = [x.clone() for x in inputs]
        given = self.flat(*mine)
        where = f"inputs {[tuple(x.shape) for x in inputs]}"
        for i, (x, kept) in enumerate(zip(mine, inputs, strict=True)):
            if not torch.equal(x, kept):
                raise WrongError("inputs", f"the fold wrote into input {i}, {where}")
        if len(wanted) != len(given):
            raise WrongError("shape", f"{len(given)} outputs, not {len(wanted)}")
        for i, (a, b, track) in enumerate(zip(wanted, given, known, strict=True)):
            if a.shape != b.shape or a.dtype != b.dtype:
                raise WrongError("shape", f"output {i} is {tuple(b.shape)} {b.dtype}, not {tuple(a.shape)} {a.dtype}")
            if not a.numel():
                self.tally.outputs["empty"] += 1
            elif track is not None and track.unit is not None:
                if not torch.equal(a, b):
                    raise WrongError(name, f"output {i} differs by up to {_apart(a, b):.3g}, {where}")
                self.tally.outputs[name] += 1
            elif track is not None and track.error is not None:
                self.within(i, a, b, track.error, where)
            else:
                self.close(i, a, b, inputs, where)

    def within(self, i: int, a: torch.Tensor, b: torch.Tensor, error: torch.Tensor, where: str) -> None:
        """Each of the two may be one error bound away from the exact value."""
        apart = (a.double() - b.double()).abs()
        over = apart - 2 * error
        if not bool((over <= 0).all()):
            raise WrongError(
                "rounding", f"output {i} differs by {_apart(a, b):.3g}, {float(over.max()):.3g} too much, {where}"
            )
        used = torch.where(apart > 0, apart / (2 * error), 0.0)
        self.tally.share = max(self.tally.share, float(used.max()))
        self.tally.outputs["rounding"] += 1

    def close(self, i: int, a: torch.Tensor, b: torch.Tensor, inputs: Sequence[torch.Tensor], where: str) -> None:
        """Compare numbers of which no bound is known."""
        if not bool(a.isfinite().all()):
            self.tally.outputs["not finite"] += 1
            return
        if self.setting.dtype == "float64":
            scale = float(a.abs().max())
            apart = _apart(a, b) / (scale if scale > NOISE else 1.0)
            if apart < LIMIT:
                self.tally.outputs["float64"] += 1
            elif apart < 1e3 * self.moved(i, inputs):
                self.tally.ill += 1
            else:
                raise WrongError("float64", f"output {i} differs by {apart:.3g} of its largest number, {where}")
            return
        wide = copy.deepcopy(self.model).double()
        exact = wide(*[x.double() for x in inputs])[i]
        before, behind = _spread(a.double() - exact), _spread(b.double() - exact)
        floor = 16 * torch.finfo(a.dtype).eps * _spread(exact)
        if behind <= OWN_FACTOR * before + floor:
            self.tally.outputs["own type"] += 1
        else:
            raise WrongError("own type", f"output {i} is {behind:.3g} from float64, the original {before:.3g}, {where}")

    def moved(self, i: int, inputs: Sequence[torch.Tensor]) -> float:
        """How far an output of the original moves when its inputs move by rounding."""
        generator = torch.Generator().manual_seed(0)
        shifted = [x * (1 + 2.0**-50 * torch.randn(x.shape, generator=generator).to(x)) for x in inputs]
        a, b = self.model(*[x.clone() for x in inputs])[i], self.model(*shifted)[i]
        return _apart(a, b) / max(float(a.abs().max()), NOISE)


def impulses(shape: Shape, axes: int) -> list[torch.Tensor]:
    """Inputs with one 1 in each sample; together they have it at every position, if those are not too many."""
    batch = shape[0] if len(shape) == axes + 2 else 1
    size = math.prod(shape) // batch
    calls = -(-size // batch)
    # Evenly over all positions where there are too many.
    chosen = range(calls) if calls <= IMPULSE_CALLS else [i * calls // IMPULSE_CALLS for i in range(IMPULSE_CALLS)]
    found = []
    for call in chosen:
        x = torch.zeros(batch, size)
        for sample in range(batch):
            x[sample, (call * batch + sample) % size] = 1.0
        found.append(x.reshape(shape))
    return found


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    difference = (a.double() - b.double()).abs()
    return float(torch.where(difference.isnan(), math.inf, difference).max())


def _spread(difference: torch.Tensor) -> float:
    return float(difference.square().mean().sqrt())
