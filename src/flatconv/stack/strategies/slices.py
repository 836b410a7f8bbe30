"""2.5-D: a slice among its neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flatconv.errors import InputError
from flatconv.stack.edges import check_edge
from flatconv.stack.strategies.base import Strategy, whole


@dataclass(frozen=True)
class Slices(Strategy):
    """``slices:5,stride=1,step=1,edge=replicate``: one neighbourhood for each slice, (1, C, count, H, W).

    The slice itself stands in the middle. A result of the same depth is put back slice by slice, averaged where
    neighbourhoods overlap; a result of depth 1 is taken for the middle slice.

    Attributes:
        count: slices in a neighbourhood, odd.
        stride: distance between the slices in it.
        step: distance between the slices that get one.
        edge: what stands in for neighbours beyond the ends.
    """

    NAME: ClassVar[str] = "slices"
    AXIS: ClassVar[str] = "neighbouring slices"

    count: int = 3
    stride: int = 1
    step: int = 1
    edge: str = "replicate"

    def __post_init__(self) -> None:
        whole("the number of slices", self.count)
        whole("stride", self.stride)
        whole("step", self.step)
        check_edge(self.edge)
        if self.count % 2 == 0:
            raise InputError(f"a neighbourhood of {self.count} slices has no middle: use {self.count + 1}")

    @property
    def _reach(self) -> int:
        return self.count // 2 * self.stride

    @property
    def _first(self) -> int:
        return self._reach if self.edge == "drop" else 0

    @property
    def outside(self) -> str:
        return self.edge

    def windows(self, frames: int) -> int:
        inside = frames - 2 * self._first
        return max(0, -(-inside // self.step))

    def positions(self, window: int, frames: int) -> tuple[int, ...]:
        middle = self._first + window * self.step
        return tuple(range(middle - self._reach, middle + self._reach + 1, self.stride))

    def earliest(self, window: int, frames: int) -> int:
        start = self.positions(window, frames)[0]
        # What is reflected at the end lies within the reach of the last slice.
        return max(0, min(start, frames - 1 - self._reach) if self.edge == "reflect" else min(start, frames - 1))

    def check(self, frames: int, shape: tuple[int, int, int]) -> None:
        if not self.windows(frames):
            raise InputError(
                f"'{self}' needs {2 * self._reach + 1} slices, and there are {frames}: use fewer, or edge=replicate, "
                "reflect or pad"
            )
        if self.edge == "error" and self._reach:
            raise InputError(
                f"'{self}' asks for neighbours of the first and the last slice, which have none on one side: "
                "use edge=drop, pad, replicate or reflect"
            )

    def answered(self, window: int, frames: int, depth: int) -> tuple[int, ...]:
        if depth == 1:
            return (self._first + window * self.step,)
        return super().answered(window, frames, depth)

    def __str__(self) -> str:
        return f"slices:{self.count},stride={self.stride},step={self.step},edge={self.edge}"
