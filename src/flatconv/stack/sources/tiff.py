"""Multi-page TIFF, by tifffile: any number of bits, integer or float."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from flatconv.archives import open_regular
from flatconv.errors import InputError
from flatconv.stack.limits import check_frames, check_pixels
from flatconv.stack.sources.base import Source, as_tensor, full_of, package, reading

SUFFIXES = (".tif", ".tiff")


class Tiff(Source):
    """The pages of a file in their order: (samples, H, W), values as stored.

    Args:
        path: of the file.
    """

    KIND: ClassVar[str] = "TIFF"

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        self.sizes, self.notes = {}, []
        shapes = []
        kinds = set()
        with self._opened() as tiff:
            check_frames(self.name, len(tiff.pages))
            for page in tiff.pages:
                shape = self._shape(page)
                shapes.append(shape)
                kinds.add(np.dtype(page.dtype))
                self.sizes.setdefault(shape[1:], f"page {len(shapes) - 1} of {self.name}")
            told = sum(int(np.prod(series.shape)) for series in tiff.series)
            if tiff.is_imagej and told > sum(int(np.prod(s)) for s in shapes):
                raise InputError(
                    f"'{self.name}' keeps all its frames behind one page (ImageJ, over 4 GB): save it as one page a frame"
                )
        if len({s[0] for s in shapes}) > 1 or len(kinds) > 1:
            found = ", ".join(sorted({f"{s[0]} samples" for s in shapes} | {str(k) for k in kinds}))
            raise InputError(f"the pages of '{self.name}' are of different kinds ({found}): save them apart")
        self.length, self.shape = len(shapes), shapes[0]
        self.full = full_of(kinds.pop())

    def read(self, index: int) -> Tensor:
        with self._opened() as tiff:
            page = tiff.pages[index]
            found = as_tensor(page.asarray())
            if page.samplesperpixel == 1:
                return found.reshape(1, page.imagelength, page.imagewidth)
            return found if page.planarconfig == 2 else found.permute(2, 0, 1)

    def label(self, index: int) -> str:
        return f"page {index}"

    def _shape(self, page: Any) -> tuple[int, int, int]:
        if getattr(page, "imagedepth", 1) != 1:
            raise InputError(f"'{self.name}' has pages that are volumes themselves: save it as one page a slice")
        if page.dtype is None or np.dtype(page.dtype).kind not in "biuf":
            raise InputError(f"'{self.name}' has values of type {page.dtype}, and real numbers are needed")
        check_pixels(self.name, page.imagewidth, page.imagelength, "a page")
        if page.photometric == 3:
            raise InputError(
                f"'{self.name}' has pages with a palette, whose numbers are no intensities: convert it first"
            )
        return int(page.samplesperpixel), int(page.imagelength), int(page.imagewidth)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        tifffile = package("tifffile", "tifffile", "tiff", "reading TIFF")
        open_regular(self.path).close()
        with reading(self.name, "TIFF"), _told(tifffile.logger(), self.name), tifffile.TiffFile(self.path) as tiff:
            yield tiff


@contextlib.contextmanager
def _told(log: logging.Logger, name: str) -> Iterator[None]:
    """What the reader only logs: it leaves out pages that it cannot find, and goes on."""
    heard: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                heard.append(record.getMessage())

    handler, before = Kept(), log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = before
    if heard:
        raise InputError(f"'{name}' is damaged: {heard[0][:300]}")
