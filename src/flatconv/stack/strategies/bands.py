"""Spectral bands as depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flatconv.errors import InputError
from flatconv.stack.strategies.base import Strategy, whole


@dataclass(frozen=True)
class Bands(Strategy):
    """``bands``: the channels of each frame become its depth, (1, 1, C, H, W).

    ``bands:8``: eight frames of one channel each, one for each band, become one window, (1, 1, 8, H, W).

    Attributes:
        count: frames that are the bands of one image; 0 if the bands are channels of one frame.
    """

    NAME: ClassVar[str] = "bands"
    AXIS: ClassVar[str] = "spectral bands"

    count: int = 0

    def __post_init__(self) -> None:
        whole("the number of bands", self.count, 0)

    def windows(self, frames: int) -> int:
        return frames // self.count if self.count else frames

    def positions(self, window: int, frames: int) -> tuple[int, ...]:
        count = self.count or 1
        return tuple(range(window * count, (window + 1) * count))

    def check(self, frames: int, shape: tuple[int, int, int]) -> None:
        if not self.count and shape[0] == 1:
            raise InputError(
                f"'bands' makes depth of a frame's channels, and these frames have one: bands:{max(frames, 2)} takes "
                "frames as bands"
            )
        if self.count and shape[0] != 1:
            raise InputError(
                f"'{self}' takes frames of one channel as bands, and these have {shape[0]}: use bands, or channels='gray'"
            )
        if self.count and frames % self.count:
            raise InputError(
                f"{frames} frames are no whole number of images of {self.count} bands: {frames % self.count} are left over"
            )

    def shape(self, frames: int, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
        return 1, self.count or shape[0], shape[1], shape[2]

    def assemble(self, frames: Tensor) -> Tensor:
        return frames.flatten(0, 1)[None]  # (D, 1, H, W) or (1, C, H, W): one of the two axes has size 1

    def separate(self, window: Tensor) -> Tensor:
        return window.permute(1, 0, 2, 3) if self.count else window

    def answered(self, window: int, frames: int, depth: int) -> tuple[int, ...]:
        if self.count:
            return super().answered(window, frames, depth)
        return self.positions(window, frames)

    def __str__(self) -> str:
        return f"bands:{self.count}" if self.count else "bands"
