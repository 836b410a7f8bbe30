"""What the models of the corpus are made of: pads in front, operators in front, operators between convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from trust.trap import Make, c3, flow

DEEP = c3(4, 3, (3, 2, 1))
SAME = c3(4, 3, (3, 1, 2), padding=(1, 0, 0))


def pads(amounts: tuple[int, ...], mode: str = "constant", value: float | None = None, **conv: Any) -> Make:
    """A pad, then a convolution of 2 channels to 3."""
    return flow(lambda s, t: s.conv(F.pad(t, amounts, mode=mode, value=value)), (2, 2, 1, 5, 7), conv=c3(2, 3, **conv))


def after(function: Callable[..., Any], shape: tuple[int, ...], conv: Any) -> Make:
    """A function of the input, then a convolution."""
    return flow(lambda s, t: s.conv(function(t)), shape, conv=conv)


def around(tensor: torch.Tensor, front: int, behind: int) -> torch.Tensor:
    """Zero slices along depth."""
    return F.pad(tensor, (0, 0, 0, 0, front, behind))


def zeros(tensor: torch.Tensor) -> torch.Tensor:
    """One slice of zeros along depth."""
    return torch.zeros_like(tensor[:, :, :1])


def between(
    function: Callable[..., Any], second: Any = None, shape: tuple[int, ...] = (2, 2, 1, 5, 7), **parts: Any
) -> Make:
    """A convolution that keeps depth at one, an operator, and a second convolution if one is given."""

    def forward(s: Any, t: torch.Tensor) -> torch.Tensor:
        made = function(s, s.first(t))
        return s.second(made) if second is not None else made

    given = {"first": c3(2, 4, (3, 2, 2), padding=(1, 0, 0))} | ({"second": second} if second is not None else {})
    return flow(forward, shape, **given, **parts)


def onto(function: Callable[..., Any], second: Any, shape: tuple[int, ...] = (2, 4, 1, 5, 7), **parts: Any) -> Make:
    """An operator on the input, then a convolution."""
    return flow(lambda s, t: s.second(function(s, t)), shape, second=second, **parts)
