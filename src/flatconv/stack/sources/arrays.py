"""Arrays: tensors, NumPy arrays, .npy and .safetensors files. The layout is always said."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from flatconv.archives import check_safetensors, open_regular
from flatconv.errors import InputError
from flatconv.stack.layouts import check_layout, to_ncdhw
from flatconv.stack.limits import check_frames, check_pixels
from flatconv.stack.sources.base import Source, as_tensor, full_of, package, reading

SUFFIXES = (".npy", ".safetensors")


class Array(Source):
    """Frames along the axis D (or T) of an array: (C, H, W), values as they are.

    Args:
        array: anything with a shape that gives a part of itself for a tuple of slices; read frame by frame.
        layout: one of ``layouts.LAYOUTS``, with N of size 1 if it is there.
        name: for messages.
    """

    KIND: ClassVar[str] = "array"

    def __init__(self, array: Any, layout: str | None, name: str) -> None:
        shape = tuple(int(s) for s in array.shape)
        axes = check_layout(layout, shape)
        sizes = dict(zip(axes, shape, strict=True))
        if sizes.get("N", 1) != 1:
            raise InputError(
                f"'{name}' has {sizes['N']} items on its axis N, and one is stacked at a time: give array[i:i+1], or name "
                "the axis D or T if the items follow one another"
            )
        self.name, self.notes = name, []
        self._array, self._layout, self._axes = array, str(layout), axes
        self.length = sizes.get("D", 1)
        check_frames(name, self.length)
        self.shape = (sizes.get("C", 1), sizes["H"], sizes["W"])
        if not self.shape[0]:
            raise InputError(f"'{name}' has no channels: nothing can be stacked")
        check_pixels(name, sizes["W"], sizes["H"], "an array with frames")
        self.sizes = {self.shape[1:]: name}
        probe = array[tuple(slice(0, 0) for _ in axes)]
        if isinstance(probe, Tensor):
            if probe.is_complex() or probe.is_quantized:
                raise InputError(f"'{name}' has values of type {probe.dtype}, and real numbers are needed")
            self.full = float(torch.iinfo(probe.dtype).max) if probe.dtype in _UNSIGNED else None
        else:
            as_tensor(probe)
            self.full = full_of(probe.dtype)

    def read(self, index: int) -> Tensor:
        part = self._array[tuple(slice(index, index + 1) if a == "D" else slice(None) for a in self._axes)]
        frame = part.detach() if isinstance(part, Tensor) else as_tensor(part)
        return to_ncdhw(frame, self._layout)[0, :, 0]


_UNSIGNED = (torch.uint8, torch.uint16, torch.uint32)


def array_file(path: Path, layout: str | None) -> Array:
    """An array in a .npy file or the one tensor of a .safetensors file, mapped and not read.

    Raises:
        InputError: it is no such file, or holds objects or several tensors.
    """
    name = str(path)
    with open_regular(path) as file:
        if path.suffix.lower() == ".npy":
            with reading(str(path), "an array"):
                return Array(_mapped(path), layout, name)
        held = check_safetensors(file, str(path))
    if len(held) != 1:
        few = ", ".join(list(held)[:6]) or "none"
        raise InputError(f"'{name}' holds {len(held)} tensors ({few}), and one is stacked: save it alone")
    opened = package("safetensors", "safetensors", "", "reading tensors").safe_open(str(path), framework="pt")
    return Array(_Slices(opened, next(iter(held)), next(iter(held.values()))[1]), layout, name)


class _Slices:
    """A tensor of a .safetensors file, read part by part."""

    def __init__(self, file: Any, name: str, shape: tuple[int, ...]) -> None:
        self._slice, self.shape, self._file = file.get_slice(name), shape, file

    def __getitem__(self, at: tuple[slice, ...]) -> Tensor:
        found: Tensor = self._slice[at]
        return found


def _mapped(path: Path) -> Any:
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(found, np.ndarray):
        raise InputError(f"'{path}' is an archive of arrays: save one as .npy")
    return found
