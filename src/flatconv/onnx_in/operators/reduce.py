"""Sums, means and extremes along axes, and softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from flatconv.onnx_in.step import Step, Value, axis_of

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


REDUCTIONS: dict[str, Reduction] = {
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceProd": product,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceL2": lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt(),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(axes, keepdim=keep),
}

FRACTIONS = ("ReduceMean", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp")
PLAIN = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")
"""Those that leave a single number as it is."""


def reduced(step: Step, values: Sequence[Value]) -> Tensor:
    x = step.tensor(values, 0)
    axes = step.numbers(values, 1, "axes")
    if step.op in FRACTIONS and not x.dtype.is_floating_point:
        step.refuse(f"{x.dtype}; floating point is supported")
    if not axes:
        if step.get("noop_with_empty_axes", 0):
            if step.op not in PLAIN:
                step.refuse("noop_with_empty_axes, of which the specification and runtimes say different things")
            return x
        axes = list(range(x.dim()))
    axes = [axis_of(step, a, x.dim()) for a in axes]
    return REDUCTIONS[step.op](x, axes, bool(step.get("keepdims", 1)))


def extreme(step: Step, values: Sequence[Value]) -> Tensor:
    step.only(select_last_index=0)
    x = step.tensor(values, 0)
    function = torch.argmax if step.op == "ArgMax" else torch.argmin
    return function(x, axis_of(step, step.get("axis", 0), x.dim()), bool(step.get("keepdims", 1)))


def softmax(step: Step, values: Sequence[Value]) -> Tensor:
    function = torch.log_softmax if step.op == "LogSoftmax" else torch.softmax
    x = step.tensor(values, 0)
    if step.version >= 13:
        return function(x, axis_of(step, step.get("axis", -1), x.dim()))
    axis = axis_of(step, step.get("axis", 1), x.dim())
    if axis == x.dim() - 1:
        return function(x, axis)
    return function(x.flatten(axis), axis).reshape(x.shape)  # the older one took all axes from there on together


OPERATORS = {
    **dict.fromkeys(REDUCTIONS, reduced),
    "ArgMax": extreme,
    "ArgMin": extreme,
    "Softmax": softmax,
    "LogSoftmax": softmax,
}
