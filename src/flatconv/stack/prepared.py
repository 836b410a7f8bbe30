"""Frames as a network takes them: of one size, with the channels and in the range that were asked for, in float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from flatconv.errors import InputError
from flatconv.stack.limits import check_pixels
from flatconv.stack.sources.base import Source

SCALES = ("signed", "unit", "stored")
CHANNELS = ("rgb", "gray", "stored")
SIZES = ("error", "resize", "crop")
LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in brightness (ITU-R BT.601), as pillow has them."""


class Frames:
    """A source with the same preparation for every frame.

    Args:
        source: of the frames.
        scale: ``signed`` maps the stored range to [−1, 1], ``unit`` to [0, 1], ``stored`` leaves values as they are. None
            for what is usual for the source: signed for pictures and video, stored for everything that has units.
        channels: ``rgb`` (one channel is repeated), ``gray`` (brightness of three), ``stored``. None for what is usual.
        size: (H, W) of every frame, resized (bilinear, antialiased); None for the size that they have.
        sizes: what is done about frames of different sizes: ``error``; ``resize`` to ``size``, or to that of the first;
            ``crop`` to the smallest height and width, in the middle.

    Raises:
        InputError: a word is unknown, sizes differ, or the source has no range or not the channels that are needed.
    """

    def __init__(
        self,
        source: Source,
        scale: str | None = None,
        channels: str | None = None,
        size: tuple[int, int] | None = None,
        sizes: str = "error",
    ) -> None:
        self.source, self.length = source, source.length
        self.scale = _word("scale", scale, SCALES, source.SCALE)
        self.channels = _word("channels", channels, CHANNELS, source.CHANNELS or "stored")
        _word("sizes", sizes, SIZES, "error")
        self._full = source.full
        if self.scale != "stored" and self._full is None:
            raise InputError(
                f"scale={self.scale} needs values with a natural range, and those of {source.KIND} '{source.name}' have "
                "none: use scale=stored and bring them into a range yourself"
            )
        have = source.shape[0]
        if self.channels != "stored" and have not in (1, 3):
            raise InputError(
                f"channels={self.channels} needs frames of 1 or 3 channels, and '{source.name}' has {have}"
            )
        if size is not None:
            if len(size) != 2:
                raise InputError(f"size is {size}, and (height, width) is needed")
            check_pixels(source.name, int(size[1]), int(size[0]), "to be resized to a size")
        self._crop: tuple[int, int] | None = None
        self._size = size
        if len(source.sizes) > 1:
            self._settle(sizes)
        height, width = self._size or self._crop or source.shape[1:]
        self.shape = ({"rgb": 3, "gray": 1}.get(self.channels, have), int(height), int(width))

    def _settle(self, sizes: str) -> None:
        """Make one size out of several, by the policy."""
        (a, first), (b, other) = list(self.source.sizes.items())[:2]
        if sizes == "error":
            raise InputError(
                f"'{first}' has {a[0]}×{a[1]} pixels and '{other}' {b[0]}×{b[1]} (height × width): frames of a stack have one "
                "size. Say sizes=resize or sizes=crop (--sizes)"
            )
        if sizes == "resize":
            self._size = self._size or a
        else:
            self._crop = (min(s[0] for s in self.source.sizes), min(s[1] for s in self.source.sizes))
        self.source.notes.append(f"frames have {len(self.source.sizes)} sizes: {sizes}")

    @property
    def range(self) -> str:
        """What the values are, in words."""
        return {"signed": "[-1, 1]", "unit": "[0, 1]"}.get(self.scale, self.source.UNITS)

    def read(self, index: int) -> Tensor:
        """One frame, (C, H, W) float32."""
        return self._prepare(self.source.read(index))

    def scan(self, start: int) -> Iterator[Tensor]:
        """Frames from ``start`` on."""
        for frame in self.source.scan(start):
            yield self._prepare(frame)

    def _prepare(self, frame: Tensor) -> Tensor:
        frame = frame.to(torch.float32)
        if self._crop is not None:
            top, left = ((have - want) // 2 for have, want in zip(frame.shape[1:], self._crop, strict=True))
            frame = frame[:, top : top + self._crop[0], left : left + self._crop[1]]
        if self.channels == "gray" and frame.shape[0] == 3:
            frame = (frame * torch.tensor(LUMA)[:, None, None]).sum(0, keepdim=True)
        elif self.channels == "rgb" and frame.shape[0] == 1:
            frame = frame.expand(3, -1, -1)
        if self._size is not None and tuple(frame.shape[1:]) != tuple(self._size):
            frame = interpolate(frame[None], size=self._size, mode="bilinear", antialias=True, align_corners=False)[0]
        if self.scale == "signed":
            frame = frame / (cast(float, self._full) / 2) - 1
        elif self.scale == "unit":
            frame = frame / cast(float, self._full)
        if tuple(frame.shape) != self.shape:
            raise InputError(f"a frame of '{self.source.name}' is {tuple(frame.shape)}, and {self.shape} was announced")
        return frame.contiguous()


def _word(name: str, value: str | None, known: tuple[str, ...], usual: str) -> str:
    if value is None:
        return usual
    if value not in known:
        raise InputError(f"{name}={value} is unknown: it may be {', '.join(known)}")
    return value
