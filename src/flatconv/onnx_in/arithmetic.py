"""What ONNX computes of sizes before it reshapes, slices or resizes: done on numbers, so that no data stands in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from flatconv.onnx_in.step import FreeSizeError, Known, Step, Value, axis_of

Array = np.ndarray[Any, Any]
Reading = Callable[[Step, Sequence[Known]], Any]
LARGEST = 4096
"""Elements of a constant that is looked at as numbers."""
NARROW = (torch.uint8, torch.int8, torch.int16)
"""Types that are too small for sizes; what is computed of them runs over, and is data."""


def divide(a: Array, b: Array) -> Any:
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        return a / b
    if a.dtype == object or b.dtype == object:
        return np.frompyfunc(_cut, 2, 1)(a, b)
    return np.trunc(a / b).astype(np.int64) if (a < 0).any() or (b < 0).any() else a // b


def _cut(a: Any, b: Any) -> Any:
    """A quotient without its fraction. Where the sign depends on free sizes, which it is becomes a condition."""
    return a // b if bool(a >= 0) == bool(b > 0) else -(-a // b)


def picked(step: Step, values: Sequence[Known]) -> Any:
    x, index = values[0].array, values[1].array
    if values[1].free:
        raise FreeSizeError("a free size is used as an index")
    return np.take(x, index, axis_of(step, step.get("axis", 0), x.ndim))


def sliced(step: Step, values: Sequence[Known]) -> Array:
    x = values[0].array
    starts, ends = step.needed(values, 1, "starts"), step.needed(values, 2, "ends")
    axes, strides = step.numbers(values, 3, "axes") or range(len(starts)), step.numbers(values, 4) or [1] * len(starts)
    for axis, start, end, stride in zip(axes, starts, ends, strides, strict=True):
        if any(isinstance(n, torch.SymInt) for n in (start, end, stride)):
            raise FreeSizeError("sizes are sliced by a free size")
        axis = axis_of(step, axis, x.ndim)
        stop = None if stride < 0 and end < -x.shape[axis] else end
        start = max(start, -x.shape[axis])  # numpy finds nothing where it runs backwards from before the first
        x = x[(slice(None),) * axis + (slice(start, stop, stride),)]
    return x


def reshaped(step: Step, values: Sequence[Known]) -> Array:
    wanted = step.needed(values, 1, "shape")
    x = values[0].array
    return x.reshape([x.shape[i] if n == 0 and not step.get("allowzero", 0) else n for i, n in enumerate(wanted)])


def squeezed(step: Step, values: Sequence[Known]) -> Array:
    axes = step.numbers(values, 1, "axes")
    return values[0].array.squeeze(tuple(axes) if axes else None)


def unsqueezed(step: Step, values: Sequence[Known]) -> Array:
    return np.expand_dims(values[0].array, tuple(step.needed(values, 1, "axes")))


def transposed(step: Step, values: Sequence[Known]) -> Array:
    return values[0].array.transpose(step.get("perm"))


def expanded(step: Step, values: Sequence[Known]) -> Array:
    shape = tuple(step.needed(values, 1))
    return np.broadcast_to(values[0].array, np.broadcast_shapes(values[0].array.shape, shape))


def joined(step: Step, values: Sequence[Known]) -> Array:
    return np.concatenate([v.array for v in values], step.get("axis", 0))


def reduced(step: Step, values: Sequence[Known]) -> Any:
    function: Any = {"ReduceProd": np.prod, "ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min}[step.op]
    axes = step.numbers(values, 1, "axes")
    return function(values[0].array, tuple(axes) if axes else None, keepdims=bool(step.get("keepdims", 1)))


def pointwise(function: Callable[..., Any]) -> Reading:
    return lambda step, values: function(*(v.array for v in values))


def folded(function: Callable[..., Any]) -> Reading:
    def call(step: Step, values: Sequence[Known]) -> Any:
        found = values[0].array
        for value in values[1:]:
            found = function(found, value.array)
        return found

    return call


OPERATORS: dict[str, Reading] = {
    "Add": pointwise(np.add), "Sub": pointwise(np.subtract), "Mul": pointwise(np.multiply), "Div": pointwise(divide),
    "Neg": pointwise(np.negative), "Floor": pointwise(np.floor), "Ceil": pointwise(np.ceil), "Equal": pointwise(np.equal),
    "Greater": pointwise(np.greater), "Less": pointwise(np.less), "Not": pointwise(np.logical_not),
    "Where": pointwise(np.where), "Max": folded(np.maximum), "Min": folded(np.minimum), "Gather": picked,
    "Slice": sliced, "Reshape": reshaped, "Transpose": transposed, "Expand": expanded, "Squeeze": squeezed,
    "Unsqueeze": unsqueezed, "Concat": joined, "ReduceProd": reduced, "ReduceSum": reduced, "ReduceMax": reduced,
    "ReduceMin": reduced,
}  # fmt: skip


def computed(step: Step, values: Sequence[Value]) -> Known | None:
    """The result as numbers, or None where it is data.

    Raises:
        FreeSizeError: it cannot be told while sizes are free.
    """
    function = OPERATORS.get(step.op)
    if function is None or any(v is not None and not isinstance(v, Known) for v in values):
        return None
    given = [v for v in values if isinstance(v, Known)]
    # Fractions that stand in the file are weights, unless they meet a size: a factor of resizing.
    fractions = [v for v in given if not v.integral]
    if not given or (fractions and all(v.held is not None for v in fractions)):
        return None
    if sum(v.array.size for v in given) > LARGEST or any(v.dtype in NARROW for v in given):
        return None
    # The optional inputs keep their places.
    found = function(step, [v if isinstance(v, Known) else None for v in values])  # type: ignore[misc]
    array = _plain(found)
    return Known(array, kind=torch.bool if array.dtype == bool else given[step.op == "Where"].dtype)


def _plain(found: Any) -> Array:
    """An array, of objects only where there are symbols."""
    if not isinstance(found, np.ndarray | np.generic):
        held, found = found, np.empty((), dtype=object)  # numpy hands out a single object as it is
        found[()] = held
    if found.dtype != object:
        return np.asarray(found)
    flat = list(found.reshape(-1))
    if any(isinstance(n, torch.SymInt) for n in flat):
        return np.asarray(found)
    kind = bool if flat and all(isinstance(n, bool) for n in flat) else np.int64
    made: Array = np.array(flat, dtype=kind).reshape(found.shape)
    return made
