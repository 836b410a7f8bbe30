"""Slices along an axis as members of a batch, and back."""

from __future__ import annotations

import torch
from torch import fx

from flatconv.ops.base import Lowering
from flatconv.ops.conv import Site

aten = torch.ops.aten


def cannot_part(here: Site) -> str | None:
    """Why the first axis cannot be taken apart from the others."""
    if len(here.kept) < 2:
        return "no axis is left beside it"
    if here.transposed or not here.batched:
        return "the convolution is transposed or has no batch axis"
    return None


def planes(low: Lowering, given: fx.Node) -> fx.Node:
    """(N, D, C, …) to (N·D, C, …)."""
    return low.call(aten.flatten.using_ints, given, 0, 1)


def back(low: Lowering, made: fx.Node, here: Site, count: int | fx.Node) -> fx.Node:
    """(N·D, C, …) to (N, C, D, …), D being ``count``."""
    batch = low.size(here.source, 0)
    return low.call(aten.transpose.int, low.call(aten.unflatten.int, made, 0, [batch, count]), 1, 2)
