"""What a stack makes, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Summary:
    """A stack in numbers.

    Attributes:
        kind: of the source.
        source: its name.
        frames: of the source.
        frame_shape: (C, H, W) of a frame as it is stacked.
        how: the strategy, as text with all its words.
        axis: what depth is.
        windows: how many there are, patches not counted.
        patches: in each window.
        shape: of one input, (1, C, D, H, W).
        range: what the values are.
        outside: what stands in beyond the ends.
        beyond: windows in which something does.
        unused: frames that are in no window.
        notes: what was left out or done.
    """

    kind: str
    source: str
    frames: int
    frame_shape: tuple[int, int, int]
    how: str
    axis: str
    windows: int
    patches: int
    shape: tuple[int, ...]
    range: str
    outside: str
    beyond: int
    unused: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        return asdict(self)
