"""The frames that the next windows need, and no others."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from flatconv.stack.prepared import Frames


class FrameCache:
    """Frames of overlapping windows, each read once; what no later window shows is let go.

    A source that is cheap in order only (video) is decoded from the first frame that is needed onwards, and frames that pass
    on the way are kept if a later window may show them.

    Attributes:
        held: frames in memory, by index.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._floor = 0
        self._next = 0
        self._running: Iterator[Tensor] | None = None
        self.held: dict[int, Tensor] = {}

    def get(self, index: int) -> Tensor:
        """A frame, read if it is not here."""
        if index not in self.held:
            if not self._frames.source.SEQUENTIAL:
                self.held[index] = self._frames.read(index)
            else:
                self._run_to(index)
        return self.held[index]

    def forget(self, below: int) -> None:
        """No frame in front of this one will be asked for."""
        self._floor = below
        for index in [i for i in self.held if i < below]:
            del self.held[index]

    def _run_to(self, index: int) -> None:
        if self._running is None or index < self._next:
            # Frames between the floor and this one may be shown by a later window, but only if they are there already.
            self._running, self._next = self._frames.scan(index), index
        while self._next <= index:
            frame = next(self._running)
            if self._next >= self._floor:
                self.held[self._next] = frame
            self._next += 1
