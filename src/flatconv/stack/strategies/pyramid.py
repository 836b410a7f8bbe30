"""The same image at several scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from flatconv.errors import InputError
from flatconv.stack.strategies.base import Strategy, whole


@dataclass(frozen=True)
class Pyramid(Strategy):
    """``pyramid:4``: each frame at ``levels`` scales, (1, C, levels, H, W).

    Level 0 is the frame itself. Level l is made smaller by 2^l (bilinear, antialiased; sizes rounded up) and drawn in the
    full size again, so it holds the coarse content only. Of a result, level 0 is put back.

    Attributes:
        levels: of the pyramid.
    """

    NAME: ClassVar[str] = "pyramid"
    AXIS: ClassVar[str] = "scale"

    levels: int = 3

    def __post_init__(self) -> None:
        whole("the number of levels", self.levels)

    def windows(self, frames: int) -> int:
        return frames

    def positions(self, window: int, frames: int) -> tuple[int, ...]:
        return (window,)

    def check(self, frames: int, shape: tuple[int, int, int]) -> None:
        least = min(shape[1:])
        if self.levels > least.bit_length():
            raise InputError(
                f"'{self}' halves the frames {self.levels - 1} times, and their shorter side has {least} pixels: "
                f"use at most {least.bit_length()} levels"
            )

    def shape(self, frames: int, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
        channels, height, width = shape
        return channels, self.levels, height, width

    def assemble(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        levels = [frames]
        for level in range(1, self.levels):
            small = (-(-height >> level), -(-width >> level))
            coarse = interpolate(frames, size=small, mode="bilinear", antialias=True, align_corners=False)
            levels.append(interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False))
        return torch.stack([level[0] for level in levels], dim=1)

    def separate(self, window: Tensor) -> Tensor:
        return window[:, :1].permute(1, 0, 2, 3)

    def answer_depth(self, positions: int) -> int:
        return self.levels

    def answered(self, window: int, frames: int, depth: int) -> tuple[int, ...]:
        return self.positions(window, frames) if depth == 1 else super().answered(window, frames, depth)

    def __str__(self) -> str:
        return f"pyramid:{self.levels}"
