"""Frames that follow one another: windows over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flatconv.errors import InputError
from flatconv.stack.edges import check_edge
from flatconv.stack.strategies.base import Strategy, whole


@dataclass(frozen=True)
class Time(Strategy):
    """``time:16,stride=1,step=16,edge=drop``: windows of ``length`` frames, (1, C, length, H, W).

    Window w shows the frames w·step, w·step + stride, …, w·step + (length − 1)·stride.

    Attributes:
        length: frames in a window.
        stride: distance between frames within a window.
        step: distance between the starts of windows; 0 for length·stride, which are windows side by side.
        edge: what the last window shows beyond the end. With ``drop`` there is none, and what is left over is not used;
            otherwise windows are made until the last frame is reached.
    """

    NAME: ClassVar[str] = "time"
    AXIS: ClassVar[str] = "time"

    length: int = 16
    stride: int = 1
    step: int = 0
    edge: str = "drop"

    def __post_init__(self) -> None:
        whole("the length of a time window", self.length)
        whole("stride", self.stride)
        whole("step", self.step, 0)
        check_edge(self.edge)

    @property
    def _step(self) -> int:
        return self.step or self.length * self.stride

    @property
    def _span(self) -> int:
        return (self.length - 1) * self.stride + 1

    @property
    def outside(self) -> str:
        return self.edge

    def windows(self, frames: int) -> int:
        beyond = frames - self._span
        if self.edge == "drop":
            return beyond // self._step + 1 if beyond >= 0 else 0
        # As many as it takes to reach the last frame, and none that begins behind it.
        return min(1 + max(0, -(-beyond // self._step)), -(-frames // self._step))

    def positions(self, window: int, frames: int) -> tuple[int, ...]:
        start = window * self._step
        return tuple(range(start, start + self._span, self.stride))

    def earliest(self, window: int, frames: int) -> int:
        # A window that is reflected at the end goes back by at most its own span.
        start = window * self._step
        return max(0, min(start, frames - self._span)) if self.edge == "reflect" else start

    def check(self, frames: int, shape: tuple[int, int, int]) -> None:
        if self.edge == "drop" and not self.windows(frames):
            raise InputError(
                f"'{self}' needs {self._span} frames, and there are {frames}: use a shorter window, or edge=replicate, "
                "reflect or pad"
            )
        if self.edge == "error" and (last := self.positions(self.windows(frames) - 1, frames)[-1]) >= frames:
            raise InputError(
                f"the last window of '{self}' ends at frame {last}, and the last of the {frames} frames is {frames - 1}: "
                "use edge=drop, pad, replicate or reflect"
            )

    def __str__(self) -> str:
        return f"time:{self.length},stride={self.stride},step={self._step},edge={self.edge}"
