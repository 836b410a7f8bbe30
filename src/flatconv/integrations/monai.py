"""MONAI's networks, used on single slices by sliding windows.

    from flatconv.integrations.monai import patch_for_windows

    patched = patch_for_windows(model, (1, 96, 96), sw_batch_size=4)
    result = sliding_window_inference(volume, (1, 96, 96), 4, model)

The inferer goes on calling the network. Windows of that depth take the fold, also the last and smaller batch of them, and all
others the model's own code. Any module that takes (windows, channels, *roi_size) will do.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from flatconv.errors import InputError
from flatconv.patch import Patched, patch
from flatconv.route import Call


def patch_for_windows(
    model: nn.Module,
    roi_size: Sequence[int],
    sw_batch_size: int = 1,
    *,
    channels: int | None = None,
    **how: Any,
) -> Patched:
    """Fold a network in place for the windows that a sliding window inferer cuts.

    Args:
        model: such as UNet, SegResNet; what the inferer gets as its predictor.
        roi_size: of a window, as the inferer gets it: (1, 96, 96) for single slices, (96, 96, 1) where depth is last.
        sw_batch_size: windows in a batch, as the inferer gets it. Forms are timed on it; other batches are taken too, where the
            model allows it.
        channels: of the images; the model's ``in_channels`` if it says so.
        how: for ``flatconv.patch``.

    Raises:
        InputError: a size is missing, or the model does not take such windows.
        RefusedError: nothing of the model can be folded for them.
    """
    given = tuple(roi_size) if isinstance(roi_size, Sequence) else ()
    sizes = [v for v in map(_size, given) if v is not None]
    if not sizes or len(sizes) != len(given):
        raise InputError(
            f"roi_size is {roi_size!r}: the size of a window along every axis is needed, such as (1, 96, 96). Where the "
            "inferer takes the size of the image (None, -1), name that size"
        )
    count = _size(sw_batch_size)
    if count is None:
        raise InputError(f"sw_batch_size is {sw_batch_size!r}: the number of windows in a batch is needed, 1 or more")
    if channels is None:
        channels = getattr(model, "in_channels", None)
    width = _size(channels)
    if width is None:
        raise InputError(
            f"channels is {channels!r}, and {type(model).__name__} has no in_channels that says how many it takes: pass their "
            "number, such as channels=1"
        )
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    windows = torch.randn((count, width, *sizes), generator=torch.Generator().manual_seed(0))
    return patch(model, {"forward": Call(windows.to(like.device, like.dtype))}, **how)


def _size(value: Any) -> int | None:
    """A whole number above zero, of whatever type; None for anything else."""
    try:
        found = operator.index(value)
    except TypeError:
        return None
    return found if found > 0 and not isinstance(value, bool) else None
