"""What every kind of step is made of: how it is drawn, what it computes, and what is known of its rounding."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Shape = tuple[int, ...]

Nature = Literal["moves", "linear", "product", "exact", "other"]
"""How numbers become results.

* moves: results are inputs or constants, or 1-Lipschitz functions of them: no rounding, and errors do not grow;
* linear: sums of inputs times weights or constants, plus constants;
* product: products of inputs;
* exact: exact where the inputs are, but errors can grow without bound (comparisons);
* other: rounds in a way that is not followed.
"""


@dataclass(frozen=True)
class Step:
    """One operator of a recipe.

    Attributes:
        kind: name in ``trust.steps.KINDS``.
        args: what the kind needs, as JSON holds it.
        inputs: numbers of earlier values; the inputs of the recipe come first.
    """

    kind: str
    args: Mapping[str, Any]
    inputs: tuple[int, ...]

    def __post_init__(self) -> None:
        # As JSON gives it back, so that a recipe that was written and read is the same recipe.
        object.__setattr__(self, "args", json.loads(json.dumps(dict(self.args))))
        object.__setattr__(self, "inputs", tuple(self.inputs))


@dataclass(frozen=True)
class Form:
    """A step as Python, with what is known of its rounding.

    Attributes:
        code: an expression over ``{0}``, ``{1}``, … for the inputs and ``{m}`` for the step's own module.
        module: the constructor of that module, if it has one.
        nature: see ``Nature``.
        absolute: the same on magnitudes, where that is other code: ``{0} + {1}`` for a difference.
        terms: roundings on the way to one result; 0 for one a number of the input that goes into a result.
        unit: by how many powers of two results are finer than what they are made of.
        divisor: what sums are divided by; 0 for the count of numbers that go into one, -1 where it differs.
        statement: the code changes the first input in place; the result is that input.
    """

    code: str
    module: str = ""
    nature: Nature = "other"
    absolute: str = ""
    terms: int = 1
    unit: int = 0
    divisor: int = 1
    statement: bool = False


class Scope:
    """What a step can be drawn on.

    Attributes:
        shapes: of all values so far.
        steps: so far.
        inputs: how many of the values are inputs.
    """

    def __init__(self, shapes: Sequence[Shape], steps: Sequence[Step], inputs: int) -> None:
        self.shapes = shapes
        self.steps = steps
        self.inputs = inputs

    def pick(self, r: random.Random, ranks: tuple[int, ...] = (), made: bool = False) -> int | None:
        """A value of one of the ranks, most often a late one; only results of steps if ``made``."""
        first = self.inputs if made else 0
        fit = [i for i in range(first, len(self.shapes)) if not ranks or len(self.shapes[i]) in ranks]
        if not fit:
            return None
        return r.choice(fit[-2:] if r.random() < 0.75 else fit)

    def name(self) -> str:
        """A module name not taken yet."""
        taken = {s.args.get("module") for s in self.steps}
        return next(f"m{i}" for i in range(len(self.steps) + 1) if f"m{i}" not in taken)


class Kind:
    """One kind of step.

    Attributes:
        name: in recipes.
        share: how often it is drawn, against the others.
    """

    name: ClassVar[str]
    share: ClassVar[float] = 1.0

    def draw(self, r: random.Random, scope: Scope) -> Step | None:
        """A step with hostile parameters; None where nothing fits. It need not run: those that do not are drawn again."""
        raise NotImplementedError

    def form(self, args: Mapping[str, Any]) -> Form:
        """The step as Python."""
        raise NotImplementedError


def literal(value: Any) -> str:
    """A JSON value as Python, lists as tuples."""
    if isinstance(value, list | tuple):
        inside = ", ".join(literal(v) for v in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return repr(value)


def at(axis: int, index: str) -> str:
    """A subscript along one axis: ``[:, :, index]``."""
    return "[" + ":, " * axis + index + "]"
