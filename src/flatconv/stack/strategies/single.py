"""One image at a time: depth 1, the case that flatconv folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flatconv.stack.strategies.base import Strategy


@dataclass(frozen=True)
class Single(Strategy):
    """``single``: each frame is a window of its own, (1, C, 1, H, W)."""

    NAME: ClassVar[str] = "single"
    AXIS: ClassVar[str] = "one image"

    def windows(self, frames: int) -> int:
        return frames

    def positions(self, window: int, frames: int) -> tuple[int, ...]:
        return (window,)

    def __str__(self) -> str:
        return self.NAME
