"""Picture files, by pillow."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from flatconv.archives import open_regular
from flatconv.errors import InputError
from flatconv.stack.limits import check_frames, check_pixels
from flatconv.stack.sources.base import Source, package, reading

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""What pillow may read. Not all of its formats are only data: for PostScript it starts another program."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".pnm", ".tif", ".tiff", ".gif")
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
"""Modes of 16 bits a pixel; pillow's own conversion to RGB would cut them off at 255."""


class Pictures(Source):
    """Picture files in the order given: (3, H, W), of 8 or 16 bits.

    Transparency is left out, palettes are resolved, and pictures are turned as their camera says (EXIF), as viewers do.
    """

    KIND: ClassVar[str] = "pictures"
    UNITS: ClassVar[str] = "0 to 255"
    SCALE: ClassVar[str] = "signed"
    CHANNELS: ClassVar[str | None] = "rgb"

    def __init__(self, files: Sequence[Path], name: str) -> None:
        check_frames(name, len(files))
        self.name, self.files, self.length = name, list(files), len(files)
        self.notes, self.sizes = [], {}
        fulls: dict[float, Path] = {}
        for path in files:
            size, full = _look(path)
            self.sizes.setdefault(size, str(path))
            fulls.setdefault(full, path)
        if len(fulls) > 1:
            raise InputError(
                f"'{fulls[255.0]}' has 8 bits and '{fulls[65535.0]}' 16: pictures of one stack have the same range. "
                "Convert one of them"
            )
        self.full = next(iter(fulls))
        self.shape = (3, *next(iter(self.sizes)))

    def read(self, index: int) -> Tensor:
        return read_picture(self.files[index])

    def label(self, index: int) -> str:
        return self.files[index].name


def read_picture(path: Any) -> Tensor:
    """A picture as (3, H, W): uint8, or int32 from 0 to 65535 where it has 16 bits.

    Raises:
        InputError: there is no such file, it is no single picture, or a very large one.
        MissingExtraError: pillow is not installed.
    """
    with _opened(path) as image:
        mode = _mode(image, path)
        image = package("PIL.ImageOps", "pillow", "images", "reading pictures").exif_transpose(image)
        if mode in DEEP:
            return torch.from_numpy(np.asarray(image).astype(np.int32))[None].expand(3, -1, -1)
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _look(path: Path) -> tuple[tuple[int, int], float]:
    """Height and width as it is shown, and the largest value; the header alone is read."""
    with _opened(path) as image:
        mode = _mode(image, path)
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        width, height = reversed(image.size) if turned else image.size
        return (height, width), 65535.0 if mode in DEEP else 255.0


def _mode(image: Any, path: Any) -> str:
    # A photo of a telephone may hold its own preview (MPO): that is one picture.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise InputError(
            f"'{path}' holds {image.n_frames} pictures, and one is needed: give it as the source itself (.gif, .tif), "
            "or take it apart"
        )
    mode = str(image.mode)
    if mode in ("I", "F"):
        raise InputError(
            f"'{path}' has pixels of 32 bits (mode {mode}), whose range is not known: save it as 8 or 16 bits, or give it "
            "alone as a .tif"
        )
    return mode


@contextlib.contextmanager
def _opened(path: Any) -> Iterator[Any]:
    """A picture, its header read and its size looked at."""
    image = package("PIL.Image", "pillow", "images", "reading pictures")
    with open_regular(path) as file, warnings.catch_warnings(), reading(str(path), "a picture"):
        warnings.simplefilter("ignore")
        with image.open(file, formats=FORMATS) as picture:
            check_pixels(str(path), *picture.size)
            yield picture
