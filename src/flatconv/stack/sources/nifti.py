"""NIfTI volumes, by nibabel: slices read one at a time, never reoriented."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from flatconv.archives import open_regular
from flatconv.errors import InputError
from flatconv.stack.limits import check_frames, check_pixels
from flatconv.stack.sources.base import Source, as_tensor, package, reading

SUFFIXES = (".nii", ".nii.gz")


class Nifti(Source):
    """One volume of a NIfTI file, cut along its third axis: (1, H, W), scaled by the header's slope and intercept.

    The stored axes are (i, j, k). Frame k is the slice [:, :, k] with j as height and i as width. Nothing is mirrored or
    turned: which way the axes run in the patient stands in the notes (from sform, else qform), as in 'R A S'.

    Args:
        path: of the file.
        volume: which one, from 0, if the file holds several; never guessed.
    """

    KIND: ClassVar[str] = "NIfTI volume"
    UNITS: ClassVar[str] = "scaled by slope and intercept"

    def __init__(self, path: Path, volume: int | None = None) -> None:
        self.path, self.name, self.full = path, str(path), None
        nibabel = package("nibabel", "nibabel", "nifti", "reading NIfTI")
        open_regular(path).close()
        with reading(self.name, "NIfTI"):
            # Kept open: a compressed file would be read again from the front for each slice.
            self._image = nibabel.load(path, mmap=False, keep_file_open=True)
            shape = tuple(int(s) for s in self._image.shape)
            kind = self._image.get_data_dtype()
            orientation = " ".join(str(c) for c in nibabel.aff2axcodes(self._image.affine))
        if kind.kind not in "biuf":
            raise InputError(f"'{path}' holds values of type {kind}, and real numbers are needed")
        if len(shape) < 3 or any(s != 1 for s in shape[4:]):
            raise InputError(f"'{path}' has the shape {shape}, and three axes are needed, or four with volume=")
        volumes = shape[3] if len(shape) > 3 else 1
        if volume is None and volumes > 1:
            raise InputError(f"'{path}' holds {volumes} volumes: say which, from 0, by volume= (--volume)")
        if volume is not None and not 0 <= volume < volumes:
            raise InputError(f"'{path}' has no volume {volume}: it holds {volumes}, counted from 0")
        self._rest = (volume or 0, *(0 for _ in shape[4:])) if len(shape) > 3 else ()
        check_pixels(self.name, shape[0], shape[1], "a volume with slices")
        check_frames(self.name, shape[2])
        self._check_size(shape, kind)
        self.length, self.shape = shape[2], (1, shape[1], shape[0])
        self.sizes = {self.shape[1:]: self.name}
        self.notes = [f"the axes i, j, k run to {orientation}; they are kept as stored (width, height, depth)"]

    def read(self, index: int) -> Tensor:
        with reading(self.name, f"NIfTI (slice {index})"):
            found = np.asarray(self._image.dataobj[(slice(None), slice(None), index, *self._rest)])
            return as_tensor(found.astype(np.float32) if found.dtype == np.float64 else found).T[None]

    def label(self, index: int) -> str:
        return f"slice {index}"

    def _check_size(self, shape: tuple[int, ...], kind: Any) -> None:
        """A file that is not compressed has to be as long as its header says."""
        if self.name.lower().endswith(".gz"):
            return
        needed = int(np.prod([float(s) for s in shape])) * kind.itemsize + int(self._image.dataobj.offset)
        held = Path(self._image.file_map["image"].filename).stat().st_size
        if held < needed:
            raise InputError(f"'{self.name}' is truncated: its header asks for {needed:,} bytes, and it has {held:,}")
