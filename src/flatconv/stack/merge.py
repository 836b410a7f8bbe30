"""Results of windows and patches put back together: every pixel is the mean of all results that speak of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flatconv.errors import InputError

if TYPE_CHECKING:
    from flatconv.stack.stack import Stack


def merged(stack: Stack, outputs: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Frames of the result in order, each as soon as no later window can change it.

    Sums are kept in float64, where the sum of n equal float32 values divided by n is that value again: a model that returns
    its input gives back the frames bit for bit.

    Args:
        stack: that made the windows.
        outputs: one tensor a window, (1, C', D, H, W) or (C', D, H, W), in the order of the windows.

    Yields:
        The index of a frame, and the frame, (C', H, W) in the results' own dtype.

    Raises:
        InputError: there are too few or too many results, one has a shape that cannot be put back, or a frame is in no
            window.
    """
    open_frames: dict[int, tuple[Tensor, Tensor]] = {}
    ready = 0
    dtype: torch.dtype | None = None
    seen = 0
    for index, output in enumerate(outputs):
        if index >= len(stack):
            raise InputError(f"there are more results than the {len(stack)} windows of the stack")
        _add(stack, index, output, open_frames)
        dtype, seen = output.dtype, index + 1
        at = index + 1
        floor = stack.earliest(at) if at < len(stack) else stack.frames
        while ready < floor:
            yield ready, _close(stack, ready, open_frames).to(dtype)
            ready += 1
    if seen < len(stack):
        raise InputError(
            f"there are {seen} results, and the stack has {len(stack)} windows: one result for each is needed"
        )


def _add(stack: Stack, index: int, output: Tensor, open_frames: dict[int, tuple[Tensor, Tensor]]) -> None:
    window, patch = divmod(index, len(stack.grid))
    if output.dim() == 4:
        output = output[None]
    height, width = stack.grid.size
    if output.dim() != 5 or output.shape[0] != 1 or tuple(output.shape[-2:]) != (height, width):
        raise InputError(
            f"result {index} is {tuple(output.shape)}; (1, C, D, {height}, {width}) is needed, one window at a time"
        )
    positions = stack.how.answered(window, stack.frames, output.shape[2])
    parts = stack.how.separate(output[0].detach())
    top, left = stack.grid[patch]
    for position, part in zip(positions, parts, strict=True):
        if not 0 <= position < stack.frames:
            continue  # what stands in for a frame beyond the ends speaks of no frame
        if position not in open_frames:
            size = stack.frame_shape[1:]
            open_frames[position] = (part.new_zeros((part.shape[0], *size), dtype=torch.float64), torch.zeros(size))
        total, count = open_frames[position]
        if total.shape[0] != part.shape[0]:
            raise InputError(f"result {index} has {part.shape[0]} channels, and those before {total.shape[0]}")
        total[:, top : top + height, left : left + width] += part
        count[top : top + height, left : left + width] += 1


def _close(stack: Stack, frame: int, open_frames: dict[int, tuple[Tensor, Tensor]]) -> Tensor:
    if frame not in open_frames:
        raise InputError(
            f"frame {frame} is in no window of '{stack.how}', so nothing can be put in its place: use edge=pad, replicate or "
            "reflect, stride=1, and a step that is not longer than the window"
        )
    total, count = open_frames.pop(frame)
    return total / count
