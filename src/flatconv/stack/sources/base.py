"""What a source gives: frames of one size, one after the other, read when they are asked for."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from flatconv.errors import FlatconvError, InputError, MissingExtraError, first_line


class Source:
    """Frames as they are stored, each (C, H, W).

    Attributes:
        name: of the file, folder or array, for messages.
        length: how many frames there are.
        shape: of a frame, (C, H, W); the first one's, where they differ.
        sizes: (H, W) that occur, with a frame that has it; more than one only where they differ.
        full: largest value that the stored type can have, where values are intensities; None where they have a unit.
        notes: what was left out or done, in sentences without a full stop.
    """

    KIND: ClassVar[str]
    """In words, for tables."""
    SEQUENTIAL: ClassVar[bool] = False
    """Whether frames are cheap in order only."""
    UNITS: ClassVar[str] = "as stored"
    """What the values are, if they are not scaled."""
    SCALE: ClassVar[str] = "stored"
    """How values are scaled if nobody says."""
    CHANNELS: ClassVar[str | None] = None
    """Which channels are made if nobody says; None for those that are stored."""

    name: str
    length: int
    shape: tuple[int, int, int]
    sizes: dict[tuple[int, int], str]
    full: float | None
    notes: list[str]

    def read(self, index: int) -> Tensor:
        """One frame, (C, H, W), of any dtype.

        Raises:
            InputError: it cannot be read; the message names the file.
        """
        raise NotImplementedError

    def scan(self, start: int) -> Iterator[Tensor]:
        """Frames from ``start`` on."""
        for index in range(start, self.length):
            yield self.read(index)

    def label(self, index: int) -> str:
        """Where a frame comes from: a file's name, a page, a time."""
        return f"frame {index}"


def package(module: str, name: str, extra: str, purpose: str) -> Any:
    """Import what an extra brings.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise MissingExtraError(name, extra, purpose) from e


@contextlib.contextmanager
def reading(name: str, what: str) -> Iterator[None]:
    """Whatever a reader raises on a broken file, as one error that names it."""
    try:
        yield
    except (FlatconvError, MissingExtraError):
        raise
    except MemoryError as e:
        raise InputError(f"'{name}' needs more memory than there is to be read as {what}") from e
    except Exception as e:  # readers raise nearly anything on a broken file
        raise InputError(f"'{name}' cannot be read as {what}: {first_line(e)}") from e


def as_tensor(pixels: Any) -> Tensor:
    """Pixels of any real type, with types that torch does not calculate with widened.

    Raises:
        InputError: the values are not real numbers.
    """
    array = np.asarray(pixels)
    if array.dtype.kind not in "biuf":
        raise InputError(f"values of type {array.dtype} are no real numbers: only those can be stacked")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64 if array.dtype.itemsize < 8 else np.float64)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return torch.from_numpy(np.ascontiguousarray(array))


def full_of(dtype: Any) -> float | None:
    """Largest value of an unsigned type; None for others, whose values have no natural range."""
    kind = np.dtype(dtype)
    return float(np.iinfo(kind).max) if kind.kind == "u" else None
