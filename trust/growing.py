"""A network while it grows: its values so far, and the random choices of what is added next."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Shape = tuple[int, ...]
Call = Callable[..., torch.Tensor]


@dataclass
class Step:
    """One operator of a dense network.

    Attributes:
        kind: what it is, for reports.
        reads: positions of the earlier values that it reads.
        call: computes the value from those values, and from ``part`` first if there is one.
        part: a layer or a parameter that the step owns.
    """

    kind: str
    reads: tuple[int, ...]
    call: Call
    part: nn.Module | nn.Parameter | None = None


Make = Callable[["Growth"], Step | None]
"""Draws a step, or nothing where no value so far fits."""


@dataclass
class Growth:
    """The values of a network so far.

    Attributes:
        choose: the source of all choices.
        values: what each input and each step gave on an example.
    """

    choose: random.Random
    values: list[torch.Tensor] = field(default_factory=list)

    def one(self, *ranks: int) -> int | None:
        """Any earlier value of one of the ranks (of any rank from 1 on, if none is named); late ones a little more often."""
        fits = [i for i, v in enumerate(self.values) if (v.dim() in ranks if ranks else v.dim() > 0)]
        if not fits:
            return None
        return self.choose.choice(fits[-5:] if self.choose.random() < 0.5 else fits)

    def partner(self, shape: Shape, free: int | None = None, besides: int | None = None) -> int | None:
        """Any earlier value of a shape, whose size along the axis ``free`` does not matter."""

        def fits(other: torch.Tensor) -> bool:
            return other.dim() == len(shape) and all(
                a == free or s == t for a, (s, t) in enumerate(zip(shape, other.shape, strict=True))
            )

        found = [i for i, v in enumerate(self.values) if i != besides and fits(v)]
        return self.choose.choice(found) if found else None

    def axis(self, rank: int) -> int:
        """Any axis; depth (axis 2 of rank 5) half of the time."""
        return 2 if rank == 5 and self.choose.random() < 0.5 else self.choose.randrange(rank)

    def some(self, values: Any) -> Any:
        """Any of the values."""
        return self.choose.choice(values)

    def unary(self, kind: str, make: Callable[[torch.Tensor], Call | None], *ranks: int) -> Step | None:
        """A step that reads one value; ``make`` chooses its settings for that value."""
        index = self.one(*ranks)
        call = None if index is None else make(self.values[index])
        return None if index is None or call is None else Step(kind, (index,), call)
