"""The convolution of the plan itself, on the axes that are left.

``y[o] = b + Σ_t W[t]·x[o·s − p + t·d]``

Exact when: always.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

from flatconv.ops.base import Axes, Lowering
from flatconv.ops.conv import Site, emit_plan

NAME = "as it is"


def why_not(here: Site) -> str | None:
    """Nothing stands against it."""
    return None


def weight(given: Any, here: Site, call: Callable[..., Any]) -> Any:
    """As the rules left it."""
    return given


def emit(here: Site, low: Lowering, weight: Any, bias: Any) -> tuple[fx.Node, Axes]:
    """One convolution, transposed convolution or matrix product."""
    return emit_plan(here, low, weight, bias), here.dropped


def views(here: Site) -> bool:
    """Nothing is copied."""
    return True


def left(here: Site) -> int:
    """All that are left."""
    return len(here.kept)
