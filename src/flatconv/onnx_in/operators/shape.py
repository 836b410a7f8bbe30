"""Axes rearranged, and sizes read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flatconv.onnx_in.operators.pointwise import DTYPES
from flatconv.onnx_in.step import FreeSizeError, Known, Step, Value, axis_of, sizes


def shape(step: Step, values: Sequence[Value]) -> Known:
    given = values[0]
    found = list(given.array.shape) if isinstance(given, Known) else list(step.tensor(values, 0).shape)
    return sizes(found[slice(step.get("start", 0), step.get("end"))])


def size(step: Step, values: Sequence[Value]) -> Known:
    return sizes(math.prod(step.tensor(values, 0).shape))


def reshape(step: Step, values: Sequence[Value]) -> Tensor:
    x, wanted = step.tensor(values, 0), step.needed(values, 1, "shape")
    if not step.get("allowzero", 0):
        if any(isinstance(n, int) and n == 0 and i >= x.dim() for i, n in enumerate(wanted)):
            step.refuse(f"the shape {wanted} copies a size that the input, of {x.dim()} axes, does not have")
        wanted = [x.shape[i] if isinstance(n, int) and n == 0 else n for i, n in enumerate(wanted)]
    return x.reshape(wanted)


def transpose(step: Step, values: Sequence[Value]) -> Tensor:
    x = step.tensor(values, 0)
    return x.permute(step.get("perm") or list(reversed(range(x.dim()))))


def squeeze(step: Step, values: Sequence[Value]) -> Tensor:
    x, axes = step.tensor(values, 0), step.numbers(values, 1, "axes")
    if not axes:
        axes = [a for a, n in enumerate(x.shape) if n == 1]
    axes = [axis_of(step, a, x.dim()) for a in axes]
    for axis in axes:
        if x.shape[axis] != 1:
            step.refuse(f"axis {axis} has size {x.shape[axis]}, not 1")
    return x.squeeze(axes)


def unsqueeze(step: Step, values: Sequence[Value]) -> Tensor:
    x, axes = step.tensor(values, 0), step.needed(values, 1, "axes")
    for axis in sorted(axis_of(step, a, x.dim() + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def flatten(step: Step, values: Sequence[Value]) -> Tensor:
    x = step.tensor(values, 0)
    axis = step.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def expand(step: Step, values: Sequence[Value]) -> Tensor:
    x, wanted = step.tensor(values, 0), step.needed(values, 1)
    rank = max(x.dim(), len(wanted))
    own, wanted = [1] * (rank - x.dim()) + list(x.shape), [1] * (rank - len(wanted)) + wanted
    return x.expand([o if isinstance(w, int) and w == 1 else w for o, w in zip(own, wanted, strict=True)])


def tile(step: Step, values: Sequence[Value]) -> Tensor:
    return step.tensor(values, 0).repeat(step.needed(values, 1))


def filled(step: Step, values: Sequence[Value]) -> Tensor | Known:
    wanted = step.needed(values, 0)
    value = step.get("value")
    value = np.zeros(1, np.float32) if value is None else np.asarray(value)
    number, kind = value.reshape(-1)[0].item(), getattr(torch, value.dtype.name, None)
    if kind not in DTYPES.values():
        step.refuse(f"type {value.dtype.name} is not supported")
    if len(wanted) <= 1 and value.dtype.kind in "ib" and not any(isinstance(n, torch.SymInt) for n in wanted):
        return Known(np.full(wanted, number), kind=kind)
    return torch.full(wanted, number, dtype=kind)


def counted(step: Step, values: Sequence[Value]) -> Known:
    given = [step.needed(values, i)[0] for i in range(3)]
    if any(isinstance(n, torch.SymInt) for n in given):
        raise FreeSizeError("a range up to a free size")
    kind = next(v.dtype for v in values if isinstance(v, Known))
    array = np.arange(*given, dtype={torch.float32: np.float32, torch.float64: np.float64}.get(kind, np.int64))
    return Known(array, kind=kind)


def depth_to_space(step: Step, values: Sequence[Value]) -> Tensor:
    x, block = step.tensor(values, 0), step.get("blocksize")
    n, c, h, w = _four(step, x)
    if step.get("mode", "DCR") == "DCR":
        split = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        split = x.reshape(n, c // block**2, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
    return split.reshape(n, c // block**2, h * block, w * block)


def space_to_depth(step: Step, values: Sequence[Value]) -> Tensor:
    x, block = step.tensor(values, 0), step.get("blocksize")
    n, c, h, w = _four(step, x)
    split = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return split.reshape(n, c * block**2, h // block, w // block)


def _four(step: Step, x: Tensor) -> tuple[Any, ...]:
    if x.dim() != 4:
        step.refuse(f"an input with {x.dim()} axes, not four")
    return tuple(x.shape)


OPERATORS = {
    "Shape": shape, "Size": size, "Reshape": reshape, "Transpose": transpose, "Squeeze": squeeze, "Unsqueeze": unsqueeze,
    "Flatten": flatten, "Expand": expand, "Tile": tile, "ConstantOfShape": filled, "Range": counted,
    "DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth,
}  # fmt: skip
