"""Resizing. ONNX has more ways to do it than torch; those that are not the same are refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from flatconv.onnx_in.step import FreeSizeError, Step, Value, axis_of, moved_back, moved_last

FACTORS = range(2, 17)
"""That are looked for between free sizes."""
NEAR = 1e-6
"""ONNX Runtime takes two elements for as near that are so up to this."""
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resize(step: Step, values: Sequence[Value]) -> Tensor:
    x = step.tensor(values, 0)
    step.only(antialias=0, exclude_outside=0, keep_aspect_ratio_policy="stretch")
    old = step.version < 11
    scales, wanted = step.numbers(values, 1 if old else 2), None if old else step.numbers(values, 3)
    axes = [axis_of(step, a, x.dim()) for a in step.get("axes") or range(x.dim())]
    scales, wanted = _spread(scales or None, axes, x.dim(), 1.0), _spread(wanted, axes, x.dim(), None)
    if (scales is None) == (wanted is None):
        step.refuse("either the scales or the sizes must be given")
    if old and step.get("mode", "nearest") == "nearest" and any(s < 1 and (1 / s) % 1 for s in scales or ()):
        step.refuse(f"nearest resizing by {scales}, which runtimes do in different ways before operator set 11")
    return _resized(
        step, x, scales, wanted, "asymmetric" if old else step.get("coordinate_transformation_mode", "half_pixel")
    )


def upsample(step: Step, values: Sequence[Value]) -> Tensor:
    x = step.tensor(values, 0)
    return _resized(step, x, step.needed(values, 1, "scales"), None, "asymmetric")


def _spread(numbers: list[Any] | None, axes: list[int], rank: int, rest: Any) -> list[Any] | None:
    if numbers is None:
        return None
    found = [rest] * rank
    for axis, number in zip(axes, numbers, strict=True):
        found[axis] = number
    return found


def _resized(step: Step, x: Tensor, scales: list[Any] | None, wanted: list[Any] | None, coordinates: str) -> Tensor:
    if scales is not None:
        moved = [a for a, s in enumerate(scales) if s != 1.0]
        for axis in moved:
            _check_scale(step, x.shape[axis], scales[axis])
    else:
        assert wanted is not None
        wanted = [n if w is None else w for n, w in zip(x.shape, wanted, strict=True)]
        moved = [a for a, (n, w) in enumerate(zip(x.shape, wanted, strict=True)) if _differs(n, w)]
    if not moved:
        return x
    mode = step.get("mode", "nearest")
    if mode == "nearest":
        return _nearest(step, x, moved, scales, wanted, coordinates)
    if mode not in ("linear", "cubic") or coordinates not in ("half_pixel", "align_corners", "pytorch_half_pixel"):
        step.refuse(f"mode={mode!r} with coordinate_transformation_mode={coordinates!r} is not torch's")
    if mode == "cubic":
        step.only(cubic_coeff_a=-0.75)
    order = moved_last(moved, x.dim())
    spatial = order[2:]
    if len(moved) > x.dim() - 2 or len(spatial) not in (LINEAR if mode == "linear" else (2,)):
        step.refuse(f"{mode} resizing of axes {moved} of {x.dim()}")
    if scales is not None:
        # The size that ONNX gives is rounded down, and so is torch's.
        how: dict[str, Any] = {"scale_factor": [float(scales[a]) for a in spatial]}
    else:
        assert wanted is not None
        how = {"size": [wanted[a] for a in spatial]}
    made = F.interpolate(
        x.permute(order),
        **how,
        mode=LINEAR[len(spatial)] if mode == "linear" else "bicubic",
        align_corners=coordinates == "align_corners",
        recompute_scale_factor=False if scales is not None else None,
    )
    if coordinates == "pytorch_half_pixel" and any(
        wanted[a] == 1 if scales is None else x.shape[a] < math.ceil(2 / scales[a])  # type: ignore[index]
        for a in moved
    ):
        step.refuse("pytorch_half_pixel to a size of one")
    return moved_back(made, order)


def _check_scale(step: Step, size: Any, scale: float) -> None:
    """Refuse scales from which runtimes and torch make different sizes, or positions where the size stays as it is."""
    if isinstance(size, int):
        length = math.floor(np.float32(size) * np.float32(scale))
        if step.get("mode", "nearest") != "nearest" and length != math.floor(size * scale):
            step.refuse(f"scale {scale} of size {size}, which torch rounds otherwise")
    elif scale * 256 != int(scale * 256):
        raise FreeSizeError("a scale whose rounding depends on the size")
    if scale < 1 and size < math.ceil(1 / scale):
        step.refuse(f"scale {scale} of size {size}, which leaves nothing")
    if 1 < scale < 2 and size != 1 and size < math.ceil(1 / (scale - 1)):
        step.refuse(f"scale {scale} of size {size}, which leaves it as it is")


def _differs(own: Any, wanted: Any) -> bool:
    return not statically_known_true(own == wanted)


def _nearest(
    step: Step, x: Tensor, moved: list[int], scales: list[Any] | None, wanted: list[Any] | None, coordinates: str
) -> Tensor:
    """Whole factors are repeats, in all the ways of ONNX that are named here; others pick by ONNX's own formula."""
    how = step.get("nearest_mode", "round_prefer_floor") if step.version >= 11 else "floor"
    whole = _whole(x, moved, scales, wanted)
    repeats = (coordinates == "asymmetric" and how == "floor") or (
        coordinates in ("half_pixel", "pytorch_half_pixel") and how.startswith("round")
    )
    if whole is not None and repeats and 3 <= x.dim() <= 5 and len(moved) <= x.dim() - 2:
        order = moved_last(moved, x.dim())
        factors = [float(whole.get(a, 1)) for a in order[2:]]
        return moved_back(F.interpolate(x.permute(order), scale_factor=factors, mode="nearest"), order)
    for axis in moved:
        size = x.shape[axis]
        if isinstance(size, torch.SymInt) or (wanted is not None and isinstance(wanted[axis], torch.SymInt)):
            raise FreeSizeError("nearest resizing by no whole factor along a free size")
        scale = np.float32(scales[axis] if scales is not None else wanted[axis] / size)  # type: ignore[index]
        length = math.floor(np.float32(size) * scale) if scales is not None else wanted[axis]  # type: ignore[index]
        places = [min(max(_place(step, i, size, length, scale, coordinates, how), 0), size - 1) for i in range(length)]
        x = x.index_select(axis, torch.tensor(places, dtype=torch.int64))
    return x


def _whole(x: Tensor, moved: list[int], scales: list[Any] | None, wanted: list[Any] | None) -> dict[int, int] | None:
    """The factor of each axis, where all are whole."""
    found = {}
    for axis in moved:
        if scales is not None:
            factor = float(scales[axis])
        elif all(isinstance(n, int) for n in (wanted[axis], x.shape[axis])):  # type: ignore[index]
            factor = wanted[axis] / x.shape[axis]  # type: ignore[index]
        else:
            product = [statically_known_true(wanted[axis] == f * x.shape[axis]) for f in FACTORS]  # type: ignore[index]
            factor = FACTORS[product.index(True)] if any(product) else 0.5
        if factor < 1 or factor != int(factor):
            return None
        found[axis] = int(factor)
    return found


def _place(step: Step, i: int, size: int, length: int, scale: np.float32, coordinates: str, how: str) -> int:
    """The element that ONNX takes for position i, computed in float32 as runtimes do: it decides where two are as near."""
    half, at = np.float32(0.5), np.float32(i)
    if coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and length > 1):
        at = (at + half) / scale - half
    elif coordinates == "asymmetric":
        at = at / scale
    elif coordinates == "align_corners" and length > 1:
        at = at * np.float32(size - 1) / np.float32(length - 1)
    elif coordinates in ("align_corners", "pytorch_half_pixel"):
        at = np.float32(0)
    else:
        step.refuse(f"coordinate_transformation_mode={coordinates!r}")
    down = math.floor(at)
    if how in ("floor", "ceil"):
        return down if how == "floor" or at == down else down + 1
    over = float(at - np.float32(down)) - 0.5
    return down + (how == "round_prefer_ceil" if abs(over) < NEAR else over > 0)


OPERATORS = {"Resize": resize, "Upsample": upsample}
