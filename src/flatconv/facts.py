"""Slice identities: what is known about a tensor, one axis at a time.

Take a tensor and one of its axes. Each slice along the axis carries a number. Slices with the same number are equal for
every input of the program; the number ``ZERO`` stands for a slice that is zero for every input. Different numbers promise
nothing: 'all distinct' is what is known of a tensor about which nothing is known, and is always right.

Numbers are shared by all tensors of a program (hash-consed value numbers), so equality is seen across tensors too: the
first frame concatenated in front of a clip is known to equal the clip's own first frame.

This module is pure Python and never imports torch.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

ZERO = 0
"""The number of a slice that is zero for every input."""


class Numbering:
    """Hands out value numbers; the same key always gets the same number."""

    def __init__(self) -> None:
        self._next = ZERO + 1
        self._known: dict[Hashable, int] = {}

    def number(self, key: Hashable) -> int:
        """The number of the value described by ``key``."""
        return self.block(key, 1)[0]

    def block(self, key: Hashable, size: int) -> range:
        """``size`` consecutive numbers for ``key``: all slices distinct, at the cost of one small object."""
        full = (key, size)
        if full not in self._known:
            self._known[full] = self._next
            self._next += max(size, 1)
        start = self._known[full]
        return range(start, start + size)


@dataclass(frozen=True)
class Slices:
    """The identities of all slices along one axis of known size.

    Attributes:
        ids: one number a slice; a ``range`` when all are distinct, which costs the same for any size.
        origin: where zeros or repeats come from, in words, for reports. Not part of what is known.
    """

    ids: range | tuple[int, ...]
    origin: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> int:
        return self.ids[position]

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    @property
    def all_distinct(self) -> bool:
        """Nothing is known beyond the size."""
        return isinstance(self.ids, range)

    @property
    def only(self) -> int | None:
        """The one number that every non-zero slice carries, if there is exactly one such number."""
        if isinstance(self.ids, range):
            return self.ids[0] if len(self.ids) == 1 else None
        rest = set(self.ids) - {ZERO}
        return rest.pop() if len(rest) == 1 else None

    @property
    def position(self) -> int | None:
        """The first position of the slice numbered ``only``."""
        only = self.only
        return None if only is None else list(self.ids).index(only)

    @property
    def uniform(self) -> bool:
        """All slices are equal, and not known to be zero."""
        return self.only is not None and ZERO not in self.ids

    @property
    def all_zero(self) -> bool:
        """Every slice is zero (and there is at least one)."""
        return len(self.ids) > 0 and not isinstance(self.ids, range) and all(i == ZERO for i in self.ids)

    def take(self, positions: Iterable[int | None], origin: str = "") -> Slices:
        """The slices at ``positions``; ``None`` is a slice of zeros."""
        if isinstance(positions, range) and isinstance(self.ids, range) and positions.step == 1:
            return Slices(self.ids[positions.start : positions.stop], self.origin)
        return Slices(tuple(ZERO if p is None else self.ids[p] for p in positions), origin or self.origin)

    @staticmethod
    def concatenate(parts: Sequence[Slices], origin: str = "") -> Slices:
        """The slices of several tensors one after the other."""
        if len(parts) == 1:
            return parts[0]
        ids = tuple(i for part in parts for i in part.ids)
        known = next((part.origin for part in parts if part.origin), "")
        repeats = len(set(ids)) < len(ids) or ZERO in ids
        return Slices(ids, (origin or known) if repeats else known)


def pad_positions(mode: str, size: int, lo: int, hi: int) -> list[int | None]:
    """Source position of every slice of a padded axis; ``None`` where the padding is constant.

    Args:
        mode: 'constant', 'replicate', 'reflect' or 'circular', as torch names them. Negative padding crops.
        size: slices before padding.
        lo: slices added in front.
        hi: slices added behind.
    """

    def source(i: int) -> int | None:
        if 0 <= i < size and mode != "circular":
            return i
        if mode == "replicate":
            return min(max(i, 0), size - 1)
        if mode == "reflect":
            return -i if i < 0 else 2 * (size - 1) - i
        if mode == "circular":
            # torch crops first, then wraps what is left.
            start, stop = max(-lo, 0), size - max(-hi, 0)
            return start + (i - start) % (stop - start) if stop > start else None
        return None

    return [source(i) for i in range(-lo, size + hi)]
