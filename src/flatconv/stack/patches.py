"""Cutting frames into patches that cover them, the last of a row moved in so that nothing is padded."""

from __future__ import annotations

from dataclasses import dataclass

from flatconv.errors import InputError


@dataclass(frozen=True)
class Grid:
    """Where the patches of a frame lie.

    Attributes:
        size: (height, width) of a patch.
        tops: first rows.
        lefts: first columns.
    """

    size: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def __getitem__(self, index: int) -> tuple[int, int]:
        """Row and column of a patch, counted along rows."""
        return self.tops[index // len(self.lefts)], self.lefts[index % len(self.lefts)]


def grid(frame: tuple[int, int], patches: tuple[int, int] | None, overlap: int | tuple[int, int] = 0) -> Grid:
    """Patches of one size that cover a frame.

    Args:
        frame: its height and width.
        patches: height and width of a patch; None for the whole frame.
        overlap: rows and columns that neighbours share at least.

    Raises:
        InputError: a patch is larger than the frame, or not larger than the overlap.
    """
    if patches is None:
        if overlap not in (0, (0, 0)):
            raise InputError(f"overlap={overlap} is for patches, and none are cut: say patches= (--patches) too")
        return Grid(frame, (0,), (0,))
    both = (overlap, overlap) if isinstance(overlap, int) else tuple(overlap)
    if len(patches) != 2 or len(both) != 2:
        raise InputError(f"patches={patches}, overlap={overlap}: height and width are needed of each")
    for name, whole, part, shared in zip(("height", "width"), frame, patches, both, strict=True):
        if not 1 <= part <= whole:
            raise InputError(
                f"patches have a {name} of {part}, and the frames of {whole}: it must lie between 1 and that"
            )
        if not 0 <= shared < part:
            raise InputError(f"patches of {name} {part} overlap by {shared}: it must be less than the patch")
    tops, lefts = (_starts(w, p, s) for w, p, s in zip(frame, patches, both, strict=True))
    return Grid((patches[0], patches[1]), tops, lefts)


def _starts(whole: int, part: int, shared: int) -> tuple[int, ...]:
    last = whole - part
    return tuple(dict.fromkeys([*range(0, last, part - shared), last]))
