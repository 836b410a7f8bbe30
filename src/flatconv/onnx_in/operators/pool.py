"""Pooling, sliding and over everything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from flatconv.onnx_in.operators.conv import around, padding, per_axis
from flatconv.onnx_in.step import Step, Value

MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def max_pool(step: Step, values: Sequence[Value]) -> Tensor:
    step.one_result()
    step.only(storage_order=0)
    x = step.tensor(values, 0)
    axes = _axes(step, x)
    kernel, strides, dilations = (per_axis(step, n, axes) for n in ("kernel_shape", "strides", "dilations"))
    if str(step.get("auto_pad")).startswith("SAME") and any(d != 1 for d in dilations):
        step.refuse("auto_pad with dilations, which runtimes do in different ways")
    low, high = padding(step, list(x.shape[2:]), kernel, strides, dilations)
    ceil = bool(step.get("ceil_mode", 0))
    if low != high or any(2 * p > k for p, k in zip(low, kernel, strict=True)):
        if ceil:
            step.refuse("ceil_mode with uneven padding")
        x, low = F.pad(x, around(low, high), value=-torch.inf), [0] * axes
    return MAX[axes](x, kernel, strides, low, dilations, ceil)


def average_pool(step: Step, values: Sequence[Value]) -> Tensor:
    x = step.tensor(values, 0)
    axes = _axes(step, x)
    kernel, strides, dilations = (per_axis(step, n, axes) for n in ("kernel_shape", "strides", "dilations"))
    if any(d != 1 for d in dilations):
        step.refuse("dilated average pooling")
    low, high = padding(step, list(x.shape[2:]), kernel, strides, dilations)
    ceil, counted = bool(step.get("ceil_mode", 0)), bool(step.get("count_include_pad", 0))
    pool = AVERAGE[axes]
    if low == high and all(2 * p <= k for p, k in zip(low, kernel, strict=True)):
        return pool(x, kernel, strides, low, ceil, counted)
    if ceil:
        step.refuse("ceil_mode with uneven padding")
    sums = pool(F.pad(x, around(low, high)), kernel, strides)
    if counted:
        return sums
    there = F.pad(torch.ones_like(x[:1, :1]), around(low, high))
    return sums / pool(there, kernel, strides)


def global_average(step: Step, values: Sequence[Value]) -> Tensor:
    x = step.tensor(values, 0)
    return x.mean(list(range(2, x.dim())), keepdim=True)


def global_max(step: Step, values: Sequence[Value]) -> Tensor:
    x = step.tensor(values, 0)
    return x.amax(list(range(2, x.dim())), keepdim=True)


def _axes(step: Step, x: Tensor) -> int:
    if x.dim() - 2 not in MAX or not x.dtype.is_floating_point:
        step.refuse(f"{x.dtype} with {x.dim()} axes; floating point with three to five is supported")
    if not step.get("kernel_shape"):
        step.refuse("kernel_shape is missing")
    return x.dim() - 2


OPERATORS = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_max,
}
