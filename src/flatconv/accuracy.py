"""How far results are apart, and how far they may be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

FACTOR = 2.0
"""Times the original's own error that a fold may have."""
REAL = (torch.float16, torch.bfloat16, torch.float32)
NOISE = 1e-13


def allowed(dtypes: Iterable[torch.dtype | None], elements: int) -> tuple[float, float]:
    """The factor on the original's error in its own type, and what is allowed beside that.

    Args:
        dtypes: of the outputs.
        elements: of all of them, over all runs.
    """
    eps = max((torch.finfo(k).eps for k in dtypes if k in REAL), default=1e-12)
    # The error of a few numbers is a few draws and no measure: the factor widens as they get fewer.
    return FACTOR * (1 + 4 / math.sqrt(max(elements, 1))), 4 * eps


def together(errors: Sequence[float]) -> float:
    """One error for several."""
    return math.sqrt(sum(e * e for e in errors) / max(len(errors), 1))


def spread(a: torch.Tensor, b: torch.Tensor) -> float:
    """Root mean square of the difference over that of ``b``."""
    if not a.numel():
        return 0.0
    if not b.dtype.is_floating_point:
        return float((a != b).double().mean())
    scale = torch.where(b.isfinite(), b, 0).square().mean().sqrt()
    difference = _difference(a, b).square().mean().sqrt()
    return float(difference / scale) if scale > 0 else float(difference)


def worst(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference over the largest finite value of ``b``. Equal infinities and NaN in both places are no difference."""
    if a.shape != b.shape:
        return float("inf")
    if not a.numel():
        return 0.0
    if not b.dtype.is_floating_point:
        return float((a != b).any())
    difference = _difference(a, b).abs().max()
    scale = torch.where(b.isfinite(), b, 0).abs().max()
    # An output that cancels to rounding noise has no digits to compare: differences of that size are none.
    return float(difference / scale) if scale > NOISE else float(difference)


def _difference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    same = (a == b) | (a.isnan() & b.isnan())
    difference = torch.where(same, 0.0, a - b)
    return torch.where(difference.isnan(), torch.inf, difference)
