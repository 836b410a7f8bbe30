"""One look for everything that is drawn: the report's pages, the benchmark's figure, the study's charts.

Colours are those of Okabe and Ito, which people with any kind of colour vision tell apart. No colour stands alone: each
comes with a hatch for areas, a marker and a dash for lines. This module only names things; it imports no drawing package.

    plt.rcParams.update(style.rc())
    panel.bar(x, height, **style.SERIES[0].area())
    panel.plot(x, y, **style.SERIES[1].line())
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OKABE_ITO: Mapping[str, str] = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
}

INK, QUIET, RULE, PAPER = "#1B1F24", "#57606A", "#D5DAE0", "#FFFFFF"


@dataclass(frozen=True)
class Mark:
    """What one series looks like.

    Attributes:
        colour: hexadecimal.
        hatch: of areas, as matplotlib spells it.
        marker: of points.
        dash: of lines, as matplotlib spells it.
    """

    colour: str
    hatch: str
    marker: str
    dash: Any

    def area(self) -> dict[str, Any]:
        """Keywords for bars and filled areas: colour, hatch and a dark edge."""
        return {"color": self.colour, "hatch": self.hatch, "edgecolor": "black", "linewidth": 0.7}

    def line(self) -> dict[str, Any]:
        """Keywords for lines and points."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.dash}


def _mark(name: str, hatch: str, marker: str, dash: Any) -> Mark:
    return Mark(OKABE_ITO[name], hatch, marker, dash)


SERIES: tuple[Mark, ...] = (
    _mark("blue", "", "o", "-"),
    _mark("vermillion", "////", "s", "--"),
    _mark("green", "||", "^", "-."),
    _mark("purple", "\\\\\\\\", "D", ":"),
    _mark("orange", "xx", "v", (0, (5, 1, 1, 1, 1, 1))),
    _mark("sky", "--", "P", (0, (8, 2))),
    _mark("black", "++", "X", (0, (1, 1))),
)
"""In the order in which a figure takes them; yellow is left out, since lines of it cannot be seen on white."""

FOLDED, ORIGINAL = SERIES[0], SERIES[1]
BY_HAND = _mark("yellow", "xx", "v", ":")  # for areas only
"""The three sides of a benchmark: what is paid for at first, what is left, and what an expert would have written."""


def rc() -> dict[str, Any]:
    """Settings for ``matplotlib.rcParams``: plain axes on white, text as paths, the same bytes on every run."""
    return {
        "font.size": 9,
        "font.family": "DejaVu Sans",
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.labelcolor": INK,
        "axes.edgecolor": QUIET,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "legend.frameon": False,
        "lines.linewidth": 1.5,
        "lines.markersize": 4.5,
        "hatch.linewidth": 0.6,
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "svg.hashsalt": "flatconv",
        "svg.fonttype": "path",
    }


LIGHT: Mapping[str, str] = {
    "paper": PAPER,
    "raised": "#F5F7F9",
    "ink": INK,
    "quiet": QUIET,
    "rule": RULE,
    "link": "#0B5C94",
    "focus": "#0B5C94",
    "live": OKABE_ITO["blue"],
    "dead": OKABE_ITO["vermillion"],
    "merged": OKABE_ITO["green"],
    "sheet": "#FFFFFF",
}
"""Colours of the pages by day. Text is at least 4.5 to 1 against paper and raised, what is drawn at least 3 to 1."""

DARK: Mapping[str, str] = {
    "paper": "#13161B",
    "raised": "#1C2127",
    "ink": "#E7EAEE",
    "quiet": "#A5AFBA",
    "rule": "#343B44",
    "link": "#7CC4F2",
    "focus": "#7CC4F2",
    "live": OKABE_ITO["sky"],
    "dead": OKABE_ITO["orange"],
    "merged": "#2DB88F",
    "sheet": "#13161B",
}
"""The same by night. Merged is Okabe and Ito's green, lighter."""


def tokens() -> str:
    """The colours as CSS variables: ``var(--live)``; those of the night where the reader's system asks for it."""
    day, night = ("".join(f"--{name}:{colour};" for name, colour in colours.items()) for colours in (LIGHT, DARK))
    return (
        f":root{{color-scheme:light dark;{day}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{night}}}}}\n"
    )
