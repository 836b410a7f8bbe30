"""Parts of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flatconv.onnx_in.step import FreeSizeError, Known, Step, Value, axis_of


def sliced(step: Step, values: Sequence[Value]) -> Tensor:
    x = step.tensor(values, 0)
    starts, ends = step.needed(values, 1, "starts"), step.needed(values, 2, "ends")
    axes = step.numbers(values, 3, "axes") or list(range(len(starts)))
    strides = step.numbers(values, 4) or [1] * len(starts)
    for axis, start, end, stride in zip(axes, starts, ends, strides, strict=True):
        x = _slice(x, axis_of(step, axis, x.dim()), start, end, stride)
    return x


def _inside(place: Any, size: Any) -> Any:
    """A place counted from the front and not outside. What decides that on free sizes becomes a condition."""
    place = place + size if place < 0 else place
    return 0 if place < 0 else size if place > size else place


def _slice(x: Tensor, axis: int, start: Any, end: Any, stride: int) -> Tensor:
    if stride > 0 and (isinstance(start, torch.SymInt) or (isinstance(end, torch.SymInt) and end < 0)):
        first, last = _inside(start, x.shape[axis]), _inside(end, x.shape[axis])
        x = x.narrow(axis, first, last - first if last > first else 0)
        return x if stride == 1 else torch.ops.aten.slice.Tensor(x, axis, 0, 2**63 - 1, stride)
    if stride > 0:
        return torch.ops.aten.slice.Tensor(x, axis, start, end, stride)  # type: ignore[no-any-return]
    size = x.shape[axis]
    if isinstance(start, int) and start == -1 and isinstance(end, int) and end <= -(2**31) + 1:
        return torch.ops.aten.slice.Tensor(x.flip(axis), axis, 0, 2**63 - 1, -stride)  # type: ignore[no-any-return]
    if any(isinstance(n, torch.SymInt) for n in (size, start, end)):
        raise FreeSizeError("a slice that runs backwards along a free size")
    first = min(max(start + size if start < 0 else start, 0), size - 1)
    last = min(max(end + size if end < 0 else end, -1), size - 1)
    places = list(range(first, last, stride))
    return x.index_select(axis, torch.tensor(places, dtype=torch.int64))


def gather(step: Step, values: Sequence[Value]) -> Tensor:
    x, indices = step.tensor(values, 0), values[1]
    axis = axis_of(step, step.get("axis", 0), x.dim())
    if isinstance(indices, Known) and not indices.free:
        numbers = indices.numbers()
        size = x.shape[axis]
        if numbers and size < max(max(numbers) + 1, -min(numbers)):
            step.refuse(f"index {numbers} of an axis of size {size}")
        if not indices.array.shape:
            return x.select(axis, numbers[0])
        if indices.array.ndim == 1 and numbers and numbers[0] >= 0 and numbers == _run(numbers):
            return x.narrow(axis, numbers[0], len(numbers))
    index = step.tensor(values, 1)
    index = torch.where(index < 0, index + x.shape[axis], index)
    found = x.index_select(axis, index.reshape(-1))
    return found.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _run(numbers: list[int]) -> list[int]:
    return list(range(numbers[0], numbers[0] + len(numbers)))


def gather_elements(step: Step, values: Sequence[Value]) -> Tensor:
    x, index = step.tensor(values, 0), step.tensor(values, 1)
    axis = axis_of(step, step.get("axis", 0), x.dim())
    return x.gather(axis, torch.where(index < 0, index + x.shape[axis], index))


def gather_nd(step: Step, values: Sequence[Value]) -> Tensor:
    step.only(batch_dims=0)
    x, index = step.tensor(values, 0), step.tensor(values, 1)
    places = [index.select(-1, i) for i in range(index.shape[-1])]
    return x[tuple(torch.where(p < 0, p + n, p) for p, n in zip(places, x.shape, strict=False))]


def split(step: Step, values: Sequence[Value]) -> tuple[Tensor, ...]:
    x = step.tensor(values, 0)
    axis = axis_of(step, step.get("axis", 0), x.dim())
    sizes = step.numbers(values, 1, "split")
    if sizes is not None:
        return torch.split(x, sizes, axis)
    count, size = step.get("num_outputs") or len(step.outputs), x.shape[axis]
    each = (size + count - 1) // count
    found = torch.split(x, each, axis)
    if len(found) != len(step.outputs):
        step.refuse(
            f"an axis of size {size} gives {len(found)} parts of {each}, and there are {len(step.outputs)} results"
        )
    return found


def triangle(step: Step, values: Sequence[Value]) -> Tensor:
    diagonal = step.numbers(values, 1)
    function = torch.triu if step.get("upper", 1) else torch.tril
    return function(step.tensor(values, 0), diagonal[0] if diagonal else 0)


def accumulated(step: Step, values: Sequence[Value]) -> Tensor:
    step.only(exclusive=0, reverse=0)
    x, axis = step.tensor(values, 0), step.needed(values, 1)
    return x.cumsum(axis_of(step, axis[0], x.dim()), dtype=x.dtype)


OPERATORS = {
    "Slice": sliced, "Gather": gather, "GatherElements": gather_elements, "GatherND": gather_nd, "Split": split,
    "Trilu": triangle, "CumSum": accumulated,
}  # fmt: skip
