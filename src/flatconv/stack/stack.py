"""A stack: windows with depth, made from frames when they are asked for, and put back together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flatconv.errors import InputError
from flatconv.stack.cache import FrameCache
from flatconv.stack.limits import MAX_WINDOW
from flatconv.stack.merge import merged
from flatconv.stack.patches import Grid, grid
from flatconv.stack.prepared import Frames
from flatconv.stack.sources import Source, open_source
from flatconv.stack.strategies import Strategy, read_strategy
from flatconv.stack.summary import Summary


@dataclass(frozen=True)
class Window:
    """One input with depth.

    Attributes:
        data: (1, C, D, H, W) float32.
        index: of the window in its stack.
        frames: the source's frames that it shows, in order of depth; None where zeros stand in.
        patch: first row and column, (0, 0) if frames are not cut.
    """

    data: Tensor
    index: int
    frames: tuple[int | None, ...]
    patch: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Batch:
    """Several windows at once.

    Attributes:
        data: (N, C, D, H, W) float32.
        windows: what each item shows; their own data are views of ``data``.
    """

    data: Tensor
    windows: tuple[Window, ...]


class Stack:
    """A source seen through a strategy. Nothing is kept: each iteration reads the frames again, one window's at a time.

    Attributes:
        source: where frames come from.
        how: the strategy.
        frames: how many frames the source has.
        frame_shape: (C, H, W) of a frame as it is stacked.
        grid: where patches lie.
        range: what the values are, in words.
        shape: of a window, (1, C, D, H, W).
    """

    def __init__(
        self, frames: Frames, how: Strategy, patches: tuple[int, int] | None = None, overlap: int | tuple[int, int] = 0
    ) -> None:
        self._frames, self.how = frames, how
        self.source: Source = frames.source
        self.frames, self.frame_shape, self.range = frames.length, frames.shape, frames.range
        how.check(self.frames, self.frame_shape)
        self.grid: Grid = grid(self.frame_shape[1:], patches, overlap)
        inside = (self.frame_shape[0], *self.grid.size)
        how.check(self.frames, inside)  # a patch may be too small for what a frame is large enough for
        self.shape: tuple[int, ...] = (1, *how.shape(self.frames, inside))
        self._windows = how.windows(self.frames)
        numbers = self.frame_shape[0] * self.frame_shape[1] * self.frame_shape[2] * self.shape[2]
        if numbers > MAX_WINDOW:
            raise InputError(
                f"a window of '{how}' takes {numbers:,} numbers of '{self.source.name}'; at most {MAX_WINDOW:,} are stacked: "
                "use a smaller size= (--size), or fewer frames"
            )

    def __len__(self) -> int:
        return self._windows * len(self.grid)

    def __getitem__(self, index: int) -> Window:
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of a stack of {len(self)}")
        return self._make(index % len(self), FrameCache(self._frames))

    def __iter__(self) -> Iterator[Window]:
        return self.windows()

    def windows(self, cache: FrameCache | None = None) -> Iterator[Window]:
        """All windows in order; patches of one window follow one another."""
        cache = cache or FrameCache(self._frames)
        for index in range(len(self)):
            cache.forget(self.earliest(index))
            yield self._make(index, cache)

    def batches(self, size: int) -> Iterator[Batch]:
        """Windows ``size`` at a time, (N, C, D, H, W); the last batch may be smaller."""
        if size < 1:
            raise InputError(f"batches of {size} cannot be made: at least 1")
        held: list[Window] = []
        for window in self:
            held.append(window)
            if len(held) == size:
                yield _batch(held)
                held = []
        if held:
            yield _batch(held)

    def earliest(self, index: int) -> int:
        """No window from this one on shows an earlier frame."""
        return self.how.earliest(index // len(self.grid), self.frames)

    def unused(self) -> int:
        """How many frames are in no window."""
        shown: set[int] = set()
        for window in range(self._windows):
            shown.update(f for f in self.how.frames_of(window, self.frames) if f is not None)
        return self.frames - len(shown)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or done, in sentences without a full stop."""
        return tuple(self.source.notes)

    def plan(self) -> Iterator[tuple[int, tuple[int | None, ...], tuple[int, int]]]:
        """Index, frames and patch of each window, without reading any of it."""
        for index in range(len(self)):
            window, patch = divmod(index, len(self.grid))
            yield index, self.how.frames_of(window, self.frames), self.grid[patch]

    def summary(self) -> Summary:
        """All of it in numbers."""
        windows = [
            self.how.frames_of(w, self.frames) != self.how.positions(w, self.frames) for w in range(self._windows)
        ]
        return Summary(
            self.source.KIND, self.source.name, self.frames, self.frame_shape, str(self.how), self.how.AXIS, self._windows,
            len(self.grid), self.shape, self.range, self.how.outside, sum(windows), self.unused(), self.notes,
        )  # fmt: skip

    def map(self, model: Callable[[Tensor], Tensor]) -> Iterator[tuple[int, Tensor]]:
        """Frames of the result of a model on every window, (index, (C', H, W)), as soon as each is complete."""
        with torch.no_grad():
            yield from merged(self, (model(window.data) for window in self))

    def merge(self, outputs: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """Frames put back together from results, one a window: see ``merge.merged``."""
        return merged(self, outputs)

    def restore(self, outputs: Iterable[Tensor]) -> Tensor:
        """As ``merge``, all frames at once: (1, C', frames, H, W).

        Raises:
            InputError: the results do not fit the windows, or leave a frame without a result.
        """
        return torch.stack([frame for _, frame in merged(self, outputs)], dim=1)[None]

    def _make(self, index: int, cache: FrameCache) -> Window:
        window, patch = divmod(index, len(self.grid))
        shown = self.how.frames_of(window, self.frames)
        top, left = self.grid[patch]
        height, width = self.grid.size
        known = {
            i: cache.get(i)[:, top : top + height, left : left + width]
            for i in sorted({i for i in shown if i is not None})
        }
        nothing = torch.zeros((self.frame_shape[0], height, width))
        data = self.how.assemble(torch.stack([nothing if i is None else known[i] for i in shown]))
        return Window(data[None].contiguous(), index, shown, (top, left))

    def __repr__(self) -> str:
        return f"Stack({self.source.KIND} '{self.source.name}', '{self.how}', {len(self)} windows of {self.shape})"


def stack(
    source: Any,
    how: str | Strategy,
    *,
    layout: str | None = None,
    size: tuple[int, int] | None = None,
    channels: str | None = None,
    scale: str | None = None,
    sizes: str = "error",
    patches: tuple[int, int] | None = None,
    overlap: int | tuple[int, int] = 0,
    truncated: str = "error",
    gaps: str = "error",
    series: str | None = None,
    modality: str | None = None,
    volume: int | None = None,
) -> Stack:
    """Make depth from images.

        >>> windows = flatconv.stack("clip.mp4", "time:16,step=8", size=(112, 112))
        >>> windows.shape
        (1, 3, 16, 112, 112)
        >>> result = windows.restore(model(w.data) for w in windows)   # (1, C', frames, 112, 112)

    Args:
        source: a file, a folder, a list of files, a tensor or an array.
        how: ``single``, ``time:16,stride=1,step=16,edge=drop``, ``slices:5``, ``bands``, ``pyramid:4``, ``bracket:5``, or one
            of the classes in ``flatconv.stack.strategies``.
        layout: axes of an array, such as ``TCHW``: needed for arrays, never guessed.
        size: (H, W) that frames are resized to.
        channels: ``rgb``, ``gray`` or ``stored``. Usual: rgb for pictures and video, stored otherwise.
        scale: ``signed`` for [−1, 1], ``unit`` for [0, 1], ``stored``. Usual: signed for pictures and video, stored otherwise.
        sizes: frames of different sizes: ``error``, ``resize`` or ``crop``.
        patches: (H, W) of the patches that frames are cut into.
        overlap: rows and columns that patches share.
        truncated: a video that ends too early: ``error`` or ``keep``.
        gaps: missing slices of a DICOM series: ``error`` or ``keep``.
        series: which DICOM series, by UID or number.
        modality: refuse DICOM of any other.
        volume: which volume of a NIfTI file.

    Returns:
        The windows, read when they are asked for.

    Raises:
        InputError: the source cannot be read or does not fit the strategy; the message says what to do.
        MissingExtraError: a package for this format is not installed.
    """
    found = read_strategy(how)
    opened = open_source(
        source, layout=layout, truncated=truncated, gaps=gaps, series=series, modality=modality, volume=volume
    )
    return Stack(Frames(opened, scale, channels, size, sizes), found, patches, overlap)


def _batch(windows: list[Window]) -> Batch:
    data = torch.cat([w.data for w in windows])
    return Batch(data, tuple(Window(data[i : i + 1], w.index, w.frames, w.patch) for i, w in enumerate(windows)))
