"""Convolutions, plain and transposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from flatconv.onnx_in.step import Step, Value

PLAIN = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def conv(step: Step, values: Sequence[Value]) -> Tensor:
    x, weight, bias = step.tensor(values, 0), step.tensor(values, 1), step.optional(values, 2)
    kernel, strides, dilations = _geometry(step, x, weight)
    axes = len(kernel)
    low, high = padding(step, list(x.shape[2:]), kernel, strides, dilations)
    if low != high:
        x, low = F.pad(x, around(low, high)), [0] * axes
    return PLAIN[axes](x, weight, bias, strides, low, dilations, step.get("group", 1))


def conv_transpose(step: Step, values: Sequence[Value]) -> Tensor:
    x, weight, bias = step.tensor(values, 0), step.tensor(values, 1), step.optional(values, 2)
    kernel, strides, dilations = _geometry(step, x, weight)
    axes = len(kernel)
    more, groups = per_axis(step, "output_padding", axes, 0), step.get("group", 1)
    full = [s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True)]
    low, high = _cropped(step, full, more, [n * s for n, s in zip(x.shape[2:], strides, strict=True)])
    function = TRANSPOSED[axes]
    if low == high and all(m < max(s, d) for m, s, d in zip(more, strides, dilations, strict=True)):
        return function(x, weight, bias, strides, low, more, groups, dilations)
    # Everything is computed, then cut; where more is asked for than there is, zeros are added before the bias is.
    made = function(x, weight, None, strides, 0, 0, groups, dilations)
    ends = [m - h for m, h in zip(more, high, strict=True)]
    made = F.pad(made, around([-n for n in low], ends))
    return made if bias is None else made + bias.reshape(1, -1, *[1] * axes)


def _geometry(step: Step, x: Tensor, weight: Tensor) -> tuple[list[int], list[int], list[int]]:
    """Kernel, strides and dilations, one number for each axis."""
    axes = x.dim() - 2
    if axes not in PLAIN or weight.dim() != x.dim():
        step.refuse(
            f"an input with {x.dim()} axes and a kernel with {weight.dim()}; 1-D to 3-D convolutions are supported"
        )
    kernel, asked = list(weight.shape[2:]), step.get("kernel_shape")
    if asked is not None and list(asked) != kernel:
        step.refuse(f"kernel_shape is {list(asked)}, and the kernel is {kernel}")
    return kernel, per_axis(step, "strides", axes), per_axis(step, "dilations", axes)


def _cropped(step: Step, full: list[Any], more: list[int], same: list[Any]) -> tuple[list[Any], list[Any]]:
    """What is cut off in front and behind."""
    auto, shape = step.get("auto_pad", "NOTSET"), step.get("output_shape")
    if shape is None and auto in ("NOTSET", "VALID"):
        pads = list(step.get("pads") or [0] * (2 * len(full))) if auto == "NOTSET" else [0] * (2 * len(full))
        return pads[: len(full)], pads[len(full) :]
    wanted = same if shape is None else list(shape)[-len(full) :]
    total = [f + m - w for f, m, w in zip(full, more, wanted, strict=True)]
    if any(t < 0 for t in total):
        step.refuse(f"a result of shape {wanted} is larger than what the kernel gives")
    halves = [t // 2 for t in total]
    rest = [t - h for t, h in zip(total, halves, strict=True)]
    return (halves, rest) if auto == "SAME_UPPER" else (rest, halves)


def per_axis(step: Step, name: str, axes: int, default: int = 1) -> list[int]:
    """An attribute with one number for each axis."""
    found = list(step.get(name) or [default] * axes)
    if len(found) != axes:
        step.refuse(f"{name} has {len(found)} numbers, and there are {axes} axes")
    return found


def padding(
    step: Step, size: list[Any], kernel: list[int], strides: list[int], dilations: list[int]
) -> tuple[list[Any], list[Any]]:
    """Padding in front of and behind each axis."""
    axes = len(size)
    auto = step.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = per_axis(step, "pads", 2 * axes, 0)
        if any(p < 0 for p in pads):
            step.refuse(f"negative padding {pads}")
        return pads[:axes], pads[axes:]
    if auto == "VALID":
        return [0] * axes, [0] * axes
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        step.refuse(f"auto_pad={auto!r}")
    low, high = [], []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        covered = d * (k - 1) + 1
        # With a stride of one the size does not matter, so that it can stay free.
        total = covered - 1 if s == 1 else max(((n + s - 1) // s - 1) * s + covered - n, 0)
        small, large = total // 2, total - total // 2
        low.append(small if auto == "SAME_UPPER" else large)
        high.append(large if auto == "SAME_UPPER" else small)
    return low, high


def around(low: Sequence[Any], high: Sequence[Any]) -> list[Any]:
    """Padding as torch lists it: the last axis first."""
    return [n for pair in zip(reversed(low), reversed(high), strict=True) for n in pair]


OPERATORS = {"Conv": conv, "ConvTranspose": conv_transpose}
