"""What a strategy says: how many windows there are, which frames each one shows, and how frames become its depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flatconv.errors import InputError
from flatconv.stack.edges import resolve

MOST = 2**16
"""Largest number in a strategy."""


@dataclass(frozen=True)
class Strategy:
    """A way to make depth. The fields of each strategy are the words of its text form, the first one without a name.

    Windows and frames are counted from 0. Everything here is arithmetic on counts: no frame is read.
    """

    NAME: ClassVar[str]
    """The word in the text form."""
    AXIS: ClassVar[str]
    """What depth is, in words."""

    @property
    def outside(self) -> str:
        """What a window shows beyond the ends: a word of ``edges.EDGES``; ``none`` where none ever does."""
        return "none"

    def windows(self, frames: int) -> int:
        """How many windows a source of so many frames has."""
        raise NotImplementedError

    def positions(self, window: int, frames: int) -> tuple[int, ...]:
        """The frames that a window shows, in order of depth; outside of [0, frames) the edge policy says what is shown."""
        raise NotImplementedError

    def earliest(self, window: int, frames: int) -> int:
        """No window from this one on shows an earlier frame."""
        return max(min(self.positions(window, frames)), 0)

    def frames_of(self, window: int, frames: int) -> tuple[int | None, ...]:
        """As ``positions``, with the edge policy applied; None stands for zeros."""
        return tuple(resolve(p, frames, self.outside) for p in self.positions(window, frames))

    def check(self, frames: int, shape: tuple[int, int, int]) -> None:
        """Refuse a source that the strategy is not for.

        Args:
            frames: of the source.
            shape: of one frame, (C, H, W).

        Raises:
            InputError: it has too few frames, or frames of the wrong kind.
        """

    def shape(self, frames: int, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """Of one window: (C, D, H, W)."""
        channels, height, width = shape
        return channels, len(self.positions(0, frames)), height, width

    def assemble(self, frames: Tensor) -> Tensor:
        """Frames (D, C, H, W) as a window (C, D, H, W)."""
        return frames.permute(1, 0, 2, 3)

    def separate(self, window: Tensor) -> Tensor:
        """What a model made of a window, (C, D, H, W), as frames (D, C, H, W), one for each position."""
        return window.permute(1, 0, 2, 3)

    def answered(self, window: int, frames: int, depth: int) -> tuple[int, ...]:
        """The positions that a result of this depth stands for.

        Raises:
            InputError: a result of this depth cannot be put back.
        """
        positions = self.positions(window, frames)
        if depth != self.answer_depth(len(positions)):
            raise InputError(
                f"a window of '{self}' was answered with depth {depth}, and {self.answer_depth(len(positions))} is needed"
            )
        return positions

    def answer_depth(self, positions: int) -> int:
        """Depth of a result that can be put back."""
        return positions


def whole(name: str, value: object, least: int = 1, most: int = MOST) -> None:
    """Refuse what is no whole number, or too small or too large a one.

    Raises:
        InputError: it is so.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name} is {str(value)[:40]}, and a whole number from {least} to {most:,} is needed")
