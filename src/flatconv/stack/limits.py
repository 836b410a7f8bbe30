"""How much one file may ask for. A header can claim anything, so it is held against these before pixels are read."""

from __future__ import annotations

from flatconv.errors import InputError

MAX_PIXELS = 2**26
"""Pixels of one frame."""
MAX_FRAMES = 2**20
"""Frames of one source."""
MAX_WINDOW = 2**29
"""Numbers in one window: 2 GiB."""


def check_pixels(name: str, width: int, height: int, what: str = "a picture") -> None:
    """Refuse a frame that is too large, or empty.

    Raises:
        InputError: it has no pixels, or more than ``MAX_PIXELS``.
    """
    if width < 1 or height < 1:
        raise InputError(f"'{name}' is {what} of {width:,}×{height:,}: it has no pixels")
    if width * height > MAX_PIXELS:
        raise InputError(
            f"'{name}' is {what} of {width:,}×{height:,}; at most {MAX_PIXELS:,} pixels are read: make it smaller"
        )


def check_frames(name: str, frames: int) -> None:
    """Refuse a source that claims too many frames, or none.

    Raises:
        InputError: it has none, or more than ``MAX_FRAMES``.
    """
    if frames < 1:
        raise InputError(f"'{name}' has no frames: nothing can be stacked")
    if frames > MAX_FRAMES:
        raise InputError(f"'{name}' has {frames:,} frames; at most {MAX_FRAMES:,} are read: stack parts of it")
