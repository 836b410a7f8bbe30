"""Padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from flatconv.onnx_in.operators.conv import around
from flatconv.onnx_in.step import Step, Value, axis_of, moved_back, moved_last

MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def pad(step: Step, values: Sequence[Value]) -> Tensor:
    x, pads = step.tensor(values, 0), step.needed(values, 1, "pads")
    step.only(mode=tuple(MODES))
    mode = MODES[step.get("mode", "constant")]
    axes = [axis_of(step, a, x.dim()) for a in step.numbers(values, 3) or range(x.dim())]
    low: list[Any] = [0] * x.dim()
    high: list[Any] = [0] * x.dim()
    for place, axis in enumerate(axes):
        low[axis], high[axis] = pads[place], pads[place + len(axes)]
    if mode == "constant":
        value = step.numbers(values, 2, "value")
        first = next((a for a in range(x.dim()) if not _nothing(low[a], high[a])), x.dim())
        return x if first == x.dim() else F.pad(x, around(low[first:], high[first:]), value=value[0] if value else 0.0)
    return _mirrored(step, x, low, high, mode)


def _nothing(low: Any, high: Any) -> bool:
    return isinstance(low, int) and isinstance(high, int) and low == high == 0


def _mirrored(step: Step, x: Tensor, low: list[Any], high: list[Any], mode: str) -> Tensor:
    """Torch pads the last axes, behind one or two others."""
    padded = [a for a in range(x.dim()) if not _nothing(low[a], high[a])]
    if not padded:
        return x
    if any(isinstance(n, int) and n < 0 for a in padded for n in (low[a], high[a])):
        step.refuse("negative padding of this mode")
    if x.dim() < 3 or x.dim() > 5 or len(padded) > x.dim() - 2:
        step.refuse(f"{mode} padding of {len(padded)} axes of {x.dim()}")
    # The last axes are padded as they are; where others are, they trade places with the first two that are not.
    order = moved_last(padded, x.dim())
    made = F.pad(x.permute(order), around([low[a] for a in order[2:]], [high[a] for a in order[2:]]), mode=mode)
    return moved_back(made, order)


OPERATORS = {"Pad": pad}
