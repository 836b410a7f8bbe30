"""Kinds of steps, one room an operator family. To add an operator: one ``Kind`` in its room."""

from __future__ import annotations

from trust.steps import conv, inplace, join, matmul, norm, pad, pick, pointwise, pool, reduce, resize, shape
from trust.steps.base import Form, Kind, Scope, Shape, Step

_ROOMS = (conv, pool, norm, pad, join, pick, shape, resize, reduce, pointwise, matmul, inplace)

KINDS: dict[str, Kind] = {kind.name: kind for room in _ROOMS for kind in room.KINDS}


def form(step: Step) -> Form:
    """A step as Python."""
    return KINDS[step.kind].form(step.args)


__all__ = ["KINDS", "Form", "Kind", "Scope", "Shape", "Step", "form"]
