"""Draws a ``findings.Chart`` as SVG: the same bytes for the same numbers.

Series are told apart by hatch, marker and dash as well as by colour (``report.style``). Intervals are whiskers, or a band where
points are many. The ground is transparent: pages put a white card behind it, in the dark too.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from flatconv.errors import MissingExtraError, plain
from flatconv.findings import Chart, Series
from flatconv.report import style

WIDTH, HEIGHT = 7.4, 3.5
MANY = 12
"""Points above which intervals become a band and only some points get a marker."""
GROUP = 0.84
"""Of the room of a label that its bars take."""


def draw(chart: Chart) -> str:
    """A chart as the text of an SVG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as e:
        raise MissingExtraError("matplotlib", "study", "drawing a chart") from e

    # A dollar in a name is a dollar.
    settings: Any = style.rc() | {"text.parse_math": False}
    with matplotlib.rc_context(settings):
        # Bars along the page leave room for long labels.
        flat = chart.kind == "bars" and _crowded(chart)
        figure = Figure(figsize=(WIDTH, _height(chart, flat)), layout="constrained")
        panel = figure.add_subplot()
        if chart.kind == "lines":
            _lines(panel, chart)
        else:
            _bars(panel, chart, flat)
        _labels(panel, chart, flat)
        _legend(figure, panel, chart)
        held = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Type", "Format"))
        figure.savefig(held, format="svg", transparent=True, metadata=nothing)
    # The declaration names a remote file, which nobody has to fetch, and is not allowed inside a page.
    text = re.sub(r"<\?xml.*?\?>\s*|<!DOCTYPE.*?>\s*", "", held.getvalue(), flags=re.DOTALL)
    # A hundredth of a point is enough, and half the size.
    return re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)


def describe(chart: Chart) -> str:
    """A chart in a sentence, for those who cannot see it."""
    names = ", ".join(s.name for s in chart.series)
    kind = "Lines" if chart.kind == "lines" else "Bars"
    across = f" over {chart.x_label}" if chart.x_label else ""
    return plain(f"{kind} of {chart.y_label}{across}: {names}. The numbers are in the table that follows.")


def intervals(chart: Chart) -> bool:
    """Whether any series has intervals."""
    return any(s.low and s.high for s in chart.series)


def _lines(panel: Any, chart: Chart) -> None:
    numbers = isinstance(next((x for s in chart.series for x in s.x), 0.0), int | float)
    labels = [] if numbers else list(dict.fromkeys(x for s in chart.series for x in s.x))
    for mark, series in zip(itertools.cycle(style.SERIES), chart.series, strict=False):
        x = list(series.x) if numbers else [labels.index(v) for v in series.x]
        every = max(1, math.ceil(len(x) / MANY))
        panel.plot(x, series.y, label=plain(series.name), markevery=every, **mark.line())
        if not (series.low and series.high):
            continue
        if len(x) > MANY:
            panel.fill_between(
                x,
                _finite(series.low, series.y),
                _finite(series.high, series.y),
                alpha=0.16,
                color=mark.colour,
                linewidth=0,
            )
        else:
            panel.errorbar(x, series.y, _whiskers(series), fmt="none", ecolor=mark.colour, capsize=3, elinewidth=1)
    places = sorted({x for s in chart.series for x in s.x}) if numbers else []
    if not numbers:
        panel.set_xticks(range(len(labels)), [_wrapped(str(v)) for v in labels])
    elif len(places) <= MANY and ("x" in chart.log or all(float(p).is_integer() for p in places)):
        panel.set_xticks(places, [f"{p:g}" for p in places])
    if "x" in chart.log:
        panel.set_xscale("log")
        _plain_log(panel.xaxis, [p for p in places if isinstance(p, int | float)])
        if len(places) <= MANY:
            panel.set_xticks(places, [f"{p:g}" for p in places])


def _bars(panel: Any, chart: Chart, flat: bool) -> None:
    labels = list(dict.fromkeys(x for s in chart.series for x in s.x))
    wide = GROUP / max(len(chart.series), 1)
    floor = _floor(chart)
    for i, (mark, series) in enumerate(zip(itertools.cycle(style.SERIES), chart.series, strict=False)):
        at = [labels.index(x) + (i - (len(chart.series) - 1) / 2) * wide for x in series.x]
        tall = [y - floor if math.isfinite(y) else 0.0 for y in series.y]
        if flat:
            panel.barh(at, tall, wide * 0.9, left=floor, label=plain(series.name), **mark.area())
        else:
            panel.bar(at, tall, wide * 0.9, bottom=floor, label=plain(series.name), **mark.area())
        if series.low and series.high:
            whiskers = {"xerr" if flat else "yerr": _whiskers(series)}
            ends = (series.y, at) if flat else (at, series.y)
            panel.errorbar(*ends, **whiskers, fmt="none", ecolor=style.INK, capsize=2.5, elinewidth=1)
        # A bar of no height is a result too.
        for place, y in zip(at, series.y, strict=True):
            if y == 0 or not math.isfinite(y):
                x_y = (floor, place) if flat else (place, floor)
                word, away = ("0" if y == 0 else "–"), ((3, 0) if flat else (0, 2))
                where = {"ha": "left", "va": "center"} if flat else {"ha": "center", "va": "bottom"}
                panel.annotate(word, x_y, away, textcoords="offset points", fontsize=7.5, color=style.QUIET, **where)
    if flat:
        panel.set_yticks(range(len(labels)), [_wrapped(str(x), 34) for x in labels])
        panel.invert_yaxis()
    else:
        panel.set_xticks(range(len(labels)), [_wrapped(str(x)) for x in labels])
    panel.tick_params(axis="y" if flat else "x", length=0)


def _labels(panel: Any, chart: Chart, flat: bool) -> None:
    if "y" in chart.log:
        (panel.set_xscale if flat else panel.set_yscale)("log")
        _plain_log(panel.xaxis if flat else panel.yaxis, [v for s in chart.series for v in (*s.y, *s.low, *s.high)])
    across, up = (chart.y_label, chart.x_label) if flat else (chart.x_label, chart.y_label)
    panel.set_xlabel(plain(across))
    panel.set_ylabel(plain(up))
    panel.set_title(textwrap.fill(plain(chart.title), 92), pad=9)
    panel.grid(axis="x" if flat else "y")
    if chart.reference is not None:
        level, name = chart.reference
        (panel.axvline if flat else panel.axhline)(
            level, color=style.INK, linewidth=1, linestyle=(0, (2, 2)), zorder=1.5, label=plain(name)
        )
    if chart.kind == "lines" and not chart.log:
        known = [y for s in chart.series for y in s.y if math.isfinite(y)]
        if known and min(known) >= 0 and min(known) < 0.6 * max(known):
            panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]) if min(known) > 0 else -0.03 * max(known))


def _plain_log(axis: Any, values: Sequence[float]) -> None:
    """Ticks as numbers and not as powers; between the powers of ten too where there are few of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    known = [v for v in values if math.isfinite(v) and v > 0]
    narrow = bool(known) and max(known) < 200 * min(known)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(figure: Any, panel: Any, chart: Chart) -> None:
    handles, names = panel.get_legend_handles_labels()
    if chart.reference is not None:  # it goes last
        at = names.index(plain(chart.reference[1]))
        handles.append(handles.pop(at))
        names.append(names.pop(at))
    if len(chart.series) < 2 and chart.reference is None:
        return
    longest = max((len(n) for n in names), default=1)
    columns = max(1, min(len(names), 96 // (longest + 9)))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, handlelength=2.6, fontsize=8.5)


def _height(chart: Chart, flat: bool) -> float:
    rows = math.ceil((len(chart.series) + 1) / 3)
    if not flat:
        return HEIGHT + 0.18 * rows
    labels = len({x for s in chart.series for x in s.x})
    return max(2.4, 0.9 + 0.18 * rows + labels * max(0.34, 0.17 * len(chart.series) + 0.12))


def _crowded(chart: Chart) -> bool:
    """Whether the labels of bars would run into each other next to each other."""
    labels = list(dict.fromkeys(str(x) for s in chart.series for x in s.x))
    room = 84 / max(len(labels), 1)
    return any(len(word) > room for label in labels for word in label.split()) or any(len(x) > 3 * room for x in labels)


def _wrapped(label: str, wide: int = 16) -> str:
    return textwrap.fill(plain(label), wide, break_long_words=False)


def _floor(chart: Chart) -> float:
    """Where bars begin: zero, or on a logarithmic scale somewhat below the lowest."""
    if "y" not in chart.log:
        return 0.0
    known = [v for s in chart.series for v in (*s.y, *s.low) if math.isfinite(v) and v > 0]
    known += [chart.reference[0]] if chart.reference is not None and chart.reference[0] > 0 else []
    return 0.6 * min(known, default=1.0)


def _whiskers(series: Series) -> list[list[float]]:
    low, high = _finite(series.low, series.y), _finite(series.high, series.y)
    return [
        [max(0.0, y - v) for y, v in zip(series.y, low, strict=True)],
        [max(0.0, v - y) for y, v in zip(series.y, high, strict=True)],
    ]


def _finite(ends: Sequence[float], values: Sequence[float]) -> list[float]:
    """Ends of intervals; one that is infinite is not drawn."""
    return [e if math.isfinite(e) else v for e, v in zip(ends, values, strict=True)]
