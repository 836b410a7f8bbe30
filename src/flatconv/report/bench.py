"""A benchmark as a table for the terminal, and as a figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flatconv.errors import plain
from flatconv.findings import Chart, Series
from flatconv.report import charts
from flatconv.report.terminal import SENTENCE, count, rendered, short, size

if TYPE_CHECKING:
    from flatconv.bench.result import Bench, Row, Summary

DRAWN = ("folded", "original", "reference")
"""In the order of the figure, in which the fold has the colour that it has in all figures."""
DISTURBED = 0.05
"""The part of the processors that others may take before a word of warning."""


def text(bench: Bench) -> str:
    """A benchmark as text."""
    return rendered(view(bench))


def view(bench: Bench) -> RenderableType:
    """Times of every side in every engine, ratios, memory, and what there is to know of the numbers."""
    table = Table(title=Text(plain(_title(bench))), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("engine", no_wrap=True)
    for side in bench.sides:
        table.add_column(f"{side}, ms", justify="right")
    for above, below in bench.pairs:
        table.add_column(f"{above} / {below}", justify="right")
    for row in bench.rows:
        times = [milliseconds(row, side) for side in bench.sides]
        table.add_row(row.label, *times, *(spread(row.ratio(*pair)) for pair in bench.pairs))
    return Group(table, *(Text(plain(line)) for line in notes(bench)))


def milliseconds(row: Row, side: str) -> str:
    """The median of a side in a row; a dash where there is none."""
    timed = row.side(side)
    return "–" if timed is None or timed.time is None else f"{_number(1e3 * timed.time.median)}"


def spread(ratio: Summary | None) -> str:
    """A median with its quartiles."""
    return "–" if ratio is None else f"{ratio.median:.2f} ({ratio.q1:.2f}–{ratio.q3:.2f})"


def notes(bench: Bench) -> list[str]:
    """Memory, how outputs were compared, what is missing, and where all this was measured."""
    lines = ["Times are medians of turns taken alternately; ratios are medians within a round, with their quartiles."]
    lines += _memory(bench)
    against = (
        "the original in float64" if bench.compared == "float64" else "the original, which does not run in float64"
    )
    lines.append(
        f"Every time is of a side whose output was held against {against}: its error is at most {bench.tolerance:.1g}."
    )
    for row in bench.rows:
        missing = [("", row.why_not), *((f", {s.side}", s.why_not) for s in row.sides)]
        lines += [f"No time in {row.label}{who}: {short(why, SENTENCE)}." for who, why in missing if why]
    disturbed = [f"{r.label} ({r.others:.0%})" for r in bench.rows if r.others and r.others > DISTURBED]
    if disturbed:
        lines.append(
            f"Other processes took part of the processors: {', '.join(disturbed)}. Measure again without them."
        )
    lines.append(where(bench))
    return lines


def where(bench: Bench) -> str:
    """The machine in a sentence."""
    e = bench.environment
    gpu = [e["GPU"], f"CUDA {e['CUDA']}", f"cuDNN {e['cuDNN']}", "cuDNN's search on, TF32 off"] if "GPU" in e else []
    parts = [
        *gpu,
        e.get("processor", ""),
        f"{e.get('threads', '?')} thread{'' if e.get('threads') == '1' else 's'}",
        str(bench.settings.get("dtype", "")),
        f"torch {e.get('torch', '?')}",
        e.get("date", ""),
    ]
    return ", ".join(p for p in parts if p) + "."


def chart(bench: Bench) -> Chart:
    """Milliseconds of every side in every engine, with quartiles."""
    series = []
    for side in (s for s in DRAWN if s in bench.sides):
        found = [(row.side(side), row.label) for row in bench.rows]
        times = [timed.time if timed else None for timed, _ in found]
        ends = [tuple(1e3 * getattr(t, end) if t else math.nan for t in times) for end in ("median", "q1", "q3")]
        series.append(Series(side, tuple(label for _, label in found), *ends))
    return Chart("bars", _title(bench), "", "ms, logarithmic (lower is better)", tuple(series), log="y")


def figure(bench: Bench) -> str:
    """The chart as SVG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return charts.draw(chart(bench))


def _title(bench: Bench) -> str:
    inputs = ", ".join(f"{short(name)} {size(sizes)}" for name, sizes, _ in bench.inputs[:4])
    more = f" and {len(bench.inputs) - 4} more" if len(bench.inputs) > 4 else ""
    return f"{short(bench.model)}.{short(bench.method)} on {inputs}{more}, {bench.settings.get('device', 'cpu')}"


def _memory(bench: Bench) -> list[str]:
    lines = []
    for words, held in (("Peak memory of a call", bench.peak_memory), ("Weights", bench.weights)):
        if not held:
            continue
        original = held.get("original")
        parts = []
        for side, value in held.items():
            share = f" ({value / original:.0%})" if value is not None and original and side != "original" else ""
            parts.append(f"{side} {'unknown' if value is None else _bytes(value)}{share}")
        above = " in eager PyTorch, above what is held before it" if held is bench.peak_memory else ""
        lines.append(f"{words}{above}: {', '.join(parts)}.")
    return lines


def _bytes(value: int) -> str:
    return f"{count(value)}B" if value >= 1000 else f"{value} B"


def _number(value: float) -> str:
    """Three figures."""
    return f"{value:.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")
