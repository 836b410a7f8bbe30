"""Where the parts of a kernel's drawing go: numbers only; ``templates/kernel.svg.j2`` makes them an SVG.

A kernel is drawn as its slices along the first axis, which is depth for a 3-D convolution: upright sheets behind one another,
spread out so that none hides another. A tap that meets data is a filled square, one that meets only zeros an empty ring, one
that is added to others a diamond, and a bracket joins those that are added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from flatconv.audit import SiteAudit

Kind = Literal["live", "dead", "merged"]

SHEETS = 16
"""More are not drawn; equal neighbours become one sheet before any is left out."""
CELLS = 600
"""Of one drawing; above, a sheet is drawn whole."""
LONG, SMALL, LARGE = 98.0, 5.0, 24.0
WIDE = 290.0
ACROSS, UP = 0.62, 0.34
GAP, MARGIN, LABEL = 20.0, 8.0, 16.0
FRONT = 30.0  # on the left, for the word under the sheets


@dataclass(frozen=True)
class Sheet:
    """One slice of the kernel, or a run of slices that are alike.

    Attributes:
        kind: what its taps meet.
        first: tap.
        last: tap; the same one for a single slice.
        group: which of the taps are added to it: the place in the audit's ``tap_groups``; -1 if dead.
        x: of its upper left corner, in the drawing.
        y: the same.
    """

    kind: Kind
    first: int
    last: int
    group: int
    x: float = 0.0
    y: float = 0.0

    @property
    def label(self) -> str:
        """Under the sheet."""
        return str(self.first) if self.first == self.last else f"{self.first}–{self.last}"


@dataclass(frozen=True)
class Link:
    """A bracket under the sheets that are added to one.

    Attributes:
        y: of its bar.
        top: where its ticks begin.
        ticks: one for each sheet.
    """

    y: float
    top: float
    ticks: tuple[float, ...]


@dataclass(frozen=True)
class Flat:
    """What a kernel becomes when its depth is gone: one sheet seen from the front."""

    kind: Kind
    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Drawing:
    """A kernel, ready to be drawn.

    Attributes:
        kernel: sizes.
        sheets: from front to back.
        face: rows and columns of weights in one slice.
        cells: rows and columns that are drawn; (1, 1) if there are too many.
        wide: of a sheet seen from the front.
        high: of a sheet.
        links: brackets.
        flat: on the right, if the kernel loses its depth.
        left_out: slices that are not drawn.
        width: of the drawing.
        height: of the drawing.
    """

    kernel: tuple[int, ...]
    sheets: tuple[Sheet, ...]
    face: tuple[int, int]
    cells: tuple[int, int]
    wide: float
    high: float
    links: tuple[Link, ...]
    flat: Flat | None
    left_out: int
    width: float
    height: float

    @property
    def base(self) -> float:
        """Where the labels stand."""
        return max(s.y for s in self.sheets) + self.high + LABEL

    @property
    def remarks(self) -> list[str]:
        """What the drawing does not show."""
        found = []
        if any(s.first != s.last for s in self.sheets):
            found.append("equal neighbours are drawn as one sheet")
        if self.left_out:
            found.append(f"{self.left_out} slices are not drawn")
        if self.cells != self.face:
            found.append(f"a sheet stands for {self.face[0]} × {self.face[1]} weights")
        return found


def kinds(site: SiteAudit) -> list[tuple[Kind, int]]:
    """What each tap along the first axis is, and its group; -1 for a dead one."""
    group = {tap: number for number, taps in enumerate(site.tap_groups) for tap in taps}
    merged = set(site.merged_taps)
    return [
        ("merged" if tap in merged else "live", group[tap]) if tap in group else ("dead", -1)
        for tap in range(site.kernel[0])
    ]


def drawing(site: SiteAudit, *, becomes: str | None = None, cells: int = CELLS) -> Drawing:
    """Lay a kernel out.

    Args:
        site: whose kernel it is.
        becomes: what is left when its depth is gone; None if it is not.
        cells: how many may be drawn.
    """
    sheets, left_out = _sheets(kinds(site))
    face = rows, columns = _face(site.kernel)
    drawn = face if rows * columns * len(sheets) <= cells else (1, 1)
    room = (WIDE / len(sheets) - GAP) / (ACROSS * columns)
    least = SMALL if drawn == face else 0.0
    cell = max(least, min(LARGE, LONG / max(face), max(room, 12 / columns)))
    wide, high = columns * cell, rows * cell
    across, rise = ACROSS * wide, UP * wide
    step = max(across, 7.0 * max(len(s.label) for s in sheets)) + GAP
    placed = tuple(
        Sheet(s.kind, s.first, s.last, s.group, round(FRONT + n * step, 2), round(MARGIN + rise, 2))
        for n, s in enumerate(sheets)
    )
    under = MARGIN + rise + high + LABEL + 6
    links = _links(placed, across, under)
    width = FRONT + MARGIN + (len(sheets) - 1) * step + across
    flat = None
    if becomes is not None and site.tap_groups:
        kept: Kind = "merged" if len(site.tap_groups[0]) > 1 else "live"
        flat = Flat(kept, round(width + 34, 2), round(MARGIN + rise, 2), becomes)
        width = flat.x + max(wide, 7.0 * len(becomes)) + MARGIN
    return Drawing(
        kernel=site.kernel,
        sheets=placed,
        face=face,
        cells=drawn,
        wide=round(wide, 2),
        high=round(high, 2),
        links=links,
        flat=flat,
        left_out=left_out,
        width=math.ceil(width),
        height=math.ceil(under + (10 * len(links) + 6 if links else 0)),
    )


def _face(kernel: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a slice: height and width, as far as the kernel has them."""
    rest = [*kernel[1:]]
    return (1, 1) if not rest else (1, rest[0]) if len(rest) == 1 else (rest[0], math.prod(rest[1:]))


def _sheets(taps: list[tuple[Kind, int]]) -> tuple[list[Sheet], int]:
    if len(taps) <= SHEETS:
        return [Sheet(kind, tap, tap, group) for tap, (kind, group) in enumerate(taps)], 0
    found = []
    # Live taps have a group each, and are alike all the same; merged ones only if they are added to one another.
    runs = groupby(enumerate(taps), key=lambda t: (t[1][0], t[1][1] if t[1][0] == "merged" else 0))
    for (kind, _), run in runs:
        members = list(run)
        found.append(Sheet(kind, members[0][0], members[-1][0], members[0][1][1]))
    if len(found) <= SHEETS:
        return found, 0
    half = SHEETS // 2
    gone = found[half:-half]
    return [*found[:half], *found[-half:]], sum(s.last - s.first + 1 for s in gone)


def _links(sheets: tuple[Sheet, ...], across: float, top: float) -> tuple[Link, ...]:
    found: list[Link] = []
    for group in sorted({s.group for s in sheets if s.kind == "merged"}):
        ticks = tuple(round(s.x + across / 2, 2) for s in sheets if s.group == group)
        if len(ticks) > 1:
            found.append(Link(top + 8 + 10 * len(found), top, ticks))
    return tuple(found)
