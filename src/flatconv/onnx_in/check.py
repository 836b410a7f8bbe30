"""What was read of a file, held against what ONNX Runtime computes from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flatconv import runtimes
from flatconv.errors import InputError, RefusedError, VerificationError, first_line

if TYPE_CHECKING:
    from flatconv.onnx_in.model import Given, OnnxModel

EXTRA = ("onnx", "checking what was read of an ONNX file")


def written(given: Given) -> str:
    """An input in words: name, sizes and type."""
    sizes = "x".join("?" if s is None else str(s) for s in given.shape) or "one number"
    return f"{given.name} ({sizes}, {str(given.dtype).removeprefix('torch.')})"


def check_inputs(model: OnnxModel, tensors: Sequence[Tensor]) -> None:
    """Hold tensors against what the file says of its inputs.

    Raises:
        InputError: another number, shape or type.
    """
    for given, tensor in zip(model.graph.inputs, tensors, strict=True):
        alike = len(given.shape) == tensor.dim() and all(
            s is None or s == n for s, n in zip(given.shape, tensor.shape, strict=True)
        )
        if not alike or tensor.dtype != given.dtype:
            has = f"{'x'.join(str(n) for n in tensor.shape)}, {str(tensor.dtype).removeprefix('torch.')}"
            raise InputError(f"{model.graph.path.name} takes {written(given)}, and was given {has}")


def confirm(model: OnnxModel, tensors: Sequence[Tensor]) -> dict[tuple[tuple[int, ...], ...], float]:
    """Run the file in ONNX Runtime and the model here, on the given tensors and, where sizes are free, on larger ones.

    Returns:
        For each set of shapes the largest difference, root mean square over that of the result.

    Raises:
        InputError: ONNX Runtime cannot run the file on these sizes.
        VerificationError: the results differ by more than rounding explains.
    """
    runtimes.require("onnxruntime", extra=EXTRA)
    check_inputs(model, tensors)
    noise = torch.Generator().manual_seed(0)
    found: dict[tuple[tuple[int, ...], ...], float] = {}
    for change in (0, 1):
        shapes = [_changed(given, t, change) for given, t in zip(model.graph.inputs, tensors, strict=True)]
        if tuple(shapes) in found:
            continue
        trial = [_like(t, shape, noise) for t, shape in zip(tensors, shapes, strict=True)] if change else list(tensors)
        try:
            wanted = runtimes.onnxruntime(model.graph.path, trial)()
        except Exception as e:
            if change:
                continue  # the network does not take these sizes
            raise InputError(
                f"ONNX Runtime cannot run '{model.graph.path}' on {shapes}: {type(e).__name__}: {first_line(e)}"
            ) from e
        try:
            with torch.no_grad():
                made = model(*trial)
        except RefusedError:
            if change:
                continue  # nor does it here
            raise
        results = made if isinstance(made, tuple) else (made,)
        pairs = zip(model.graph.outputs, results, wanted, strict=True)
        found[tuple(shapes)] = max(_compared(model, *pair, shapes) for pair in pairs)
    return found


def _changed(given: Given, tensor: Tensor, change: int) -> tuple[int, ...]:
    """Other sizes where the file leaves them free: one more along the first axis, half as much again along the others."""
    return tuple(
        n + change * (1 if axis == 0 else math.ceil(n / 16) * 8) if free is None and (axis == 0 or n > 1) else n
        for axis, (free, n) in enumerate(zip(given.shape, tensor.shape, strict=True))
    )


def _like(tensor: Tensor, shape: tuple[int, ...], noise: torch.Generator) -> Tensor:
    if tensor.dtype.is_floating_point:
        return torch.randn(shape, generator=noise).to(tensor.dtype)
    return torch.zeros(shape, dtype=tensor.dtype)


def _compared(model: OnnxModel, output: Given, result: Tensor, wanted: Tensor, shapes: list[tuple[int, ...]]) -> float:
    apart = runtimes.apart(result, wanted)
    if not apart <= runtimes.LIMITS.get(wanted.dtype, 0.0):
        raise VerificationError(
            f"'{output.name}' of '{model.graph.path}', as read here, is {apart:.3g} of its size away from what ONNX Runtime "
            f"computes, for inputs of shape {shapes}. An operator of the file was read wrongly: please report it with the file"
        )
    return apart
