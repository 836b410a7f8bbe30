"""Pictures of one scene at several focus or exposure settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flatconv.errors import InputError
from flatconv.stack.edges import check_edge
from flatconv.stack.strategies.base import Strategy, whole


@dataclass(frozen=True)
class Bracket(Strategy):
    """``bracket:5,edge=error``: each run of ``count`` pictures is one window, (1, C, count, H, W).

    Attributes:
        count: pictures in a bracket; 0 for all that there are.
        edge: ``error`` refuses pictures that are left over (one is missing, and which is not known), ``drop`` leaves them out.
    """

    NAME: ClassVar[str] = "bracket"
    AXIS: ClassVar[str] = "focus or exposure"

    count: int = 0
    edge: str = "error"

    def __post_init__(self) -> None:
        whole("the number of pictures in a bracket", self.count, 0)
        check_edge(self.edge, ("error", "drop"))

    @property
    def outside(self) -> str:
        return self.edge

    def windows(self, frames: int) -> int:
        return frames // self.count if self.count else 1

    def positions(self, window: int, frames: int) -> tuple[int, ...]:
        count = self.count or frames
        return tuple(range(window * count, (window + 1) * count))

    def check(self, frames: int, shape: tuple[int, int, int]) -> None:
        if self.count > frames:
            raise InputError(f"'{self}' needs {self.count} pictures, and there are {frames}")
        if self.count and self.edge == "error" and frames % self.count:
            raise InputError(
                f"{frames} pictures are no whole number of brackets of {self.count}: {frames % self.count} are left over. "
                "Add what is missing, or use edge=drop"
            )

    def __str__(self) -> str:
        return f"bracket:{self.count},edge={self.edge}" if self.count else "bracket"
