"""Whether two sides compute the same, so that their times may be compared.

Everything is held against the original in float64, since the original in its own type errs as well: a side may err some
times as much as the original itself does, but not do something else. The error is a root mean square over an output, over
that of the output: a tap, a border or a channel that is wrong is orders above rounding.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flatconv.bench.sides import Side, tensors_of
from flatconv.modelstate import unchanged

FACTOR = {torch.float64: 10.0, torch.float32: 10.0}
HALF = 3.0
"""Times the original's own error that a side may have. A sum in another order, or by Winograd's transforms, errs up to ten
times as much; in types of 16 bits sums are kept in float32, and what is rounded in between is the same on all sides."""

LEAST = {torch.float64: 1e-13, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""What a side may err in any case: an original that only moves data does not err at all."""

LOOSE = {torch.float64: 1e-12, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Where the original does not run in float64: of the difference from it in its own type, in which both err."""


@dataclass(frozen=True)
class Agreement:
    """What sides are held against.

    Attributes:
        expected: the original's outputs.
        how: 'float64', or 'own type' where the original does not run in float64.
        own: error of the original in its own type; None if that is what others are held against.
        tolerance: error that a side may have.
    """

    expected: tuple[Tensor, ...]
    how: str
    own: float | None
    tolerance: float

    @staticmethod
    def of(original: Side, dtype: torch.dtype) -> Agreement:
        """Run the original.

        Args:
            original: the side.
            dtype: it computes in.
        """
        with torch.inference_mode(), unchanged(original.module):
            narrow = tensors_of(original())
        wide = _wide(original)
        if wide is None or [t.numel() for t in wide] != [t.numel() for t in narrow]:
            return Agreement(narrow, "own type", None, LOOSE.get(dtype, 1e-4))
        own = _worst(narrow, wide)
        if not math.isfinite(own):  # it overflows in its own type, and so may the others
            return Agreement(narrow, "own type", None, LOOSE.get(dtype, 1e-4))
        return Agreement(wide, "float64", own, max(FACTOR.get(dtype, HALF) * own, LEAST.get(dtype, 2e-5)))

    def error(self, result: Any) -> float:
        """Of what a side returned, the worst over its outputs; infinite where outputs are missing or not finite."""
        return _worst(tensors_of(result), self.expected)


def _wide(original: Side) -> tuple[Tensor, ...] | None:
    """The outputs in float64. Not every model can be copied, or run in another type, or has room for that."""
    try:
        with torch.inference_mode(), _plain_search():
            return tensors_of(original.wide()())
    except Exception:
        return None


@contextlib.contextmanager
def _plain_search() -> Iterator[None]:
    # One call is not worth a search for the fastest algorithm.
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _worst(outputs: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    if len(outputs) != len(expected):
        return math.inf
    return max((_error(a, b) for a, b in zip(outputs, expected, strict=True)), default=0.0)


def _error(output: Tensor, expected: Tensor) -> float:
    # A form of lower rank may leave out axes of size 1, but nothing else.
    if [s for s in output.shape if s != 1] != [s for s in expected.shape if s != 1]:
        return math.inf
    a, b = output.detach().double().reshape(-1), expected.to(output.device).detach().double().reshape(-1)
    same = a == b  # infinities among them
    difference = torch.where(same, 0.0, a - b)
    if not bool(torch.isfinite(difference).all()):
        return math.inf
    size = torch.where(torch.isfinite(b), b, 0.0).square().mean().sqrt().item() if b.numel() else 0.0
    error = difference.square().mean().sqrt().item() if b.numel() else 0.0
    return error / size if size else error
