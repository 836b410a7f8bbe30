"""A study as pages: one self-contained HTML file, and Markdown with figures next to it."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from flatconv.errors import plain
from flatconv.findings import Chart, Entry, Estimate, Result, Study, Table
from flatconv.report import charts
from flatconv.report.page import data_uri, page

QUESTION = "Can Conv3D filters be applied effectively to 2-D images?"
SIGNS = {"confirmed": "✓", "corrected": "≈", "refuted": "✗", "undecided": "?"}
MEANS = {
    "confirmed": "the measurement says what the article says",
    "corrected": "true in part, or under a condition that the article does not name",
    "refuted": "the measurement says the opposite",
    "undecided": "the intervals allow more than one answer",
}
QUICK = (
    "This is a quick run. It shows that the experiments work; it is far too small to decide anything. "
    "Its verdicts mean nothing."
)
AGAIN = "flatconv study -o out/study --only"


@dataclass(frozen=True)
class Figure:
    """A chart, drawn.

    Attributes:
        name: of its file.
        chart: the numbers.
        svg: the drawing.
    """

    name: str
    chart: Chart
    svg: str


def write(folder: Path, study: Study) -> None:
    """Put ``study.html``, ``study.md`` and the figures into a folder that is there."""
    drawn = figures(study)
    (folder / "study.html").write_text(html(study, drawn), encoding="utf-8")
    (folder / "study.md").write_text(markdown(study, drawn), encoding="utf-8")
    for figure in itertools.chain.from_iterable(drawn.values()):
        (folder / figure.name).write_text(figure.svg, encoding="utf-8")


def figures(study: Study) -> dict[str, list[Figure]]:
    """The drawn charts of each claim, by its key."""
    return {
        e.claim.key: [
            Figure(f"{re.sub(r'[^a-z0-9]', '', e.claim.key.lower())}-{i}.svg", chart, charts.draw(chart))
            for i, chart in enumerate(e.result.charts, 1)
        ]
        for e in study.entries
    }


def html(study: Study, drawn: Mapping[str, list[Figure]]) -> str:
    """One page that loads nothing."""
    return page(
        "study.html.j2",
        kind="study",
        study=study,
        question=QUESTION,
        tally=tally(study),
        figures=drawn,
        quick=QUICK,
        means=MEANS,
        again=AGAIN,
        cell=cell,
        prose=_prose,
        source=data_uri,
        describe=charts.describe,
        caption=caption,
        level=level,
        chart_table=chart_table,
        flat=flat,
        is_number=is_number,
        duration=duration,
        seen=[v for v in MEANS if any(e.result.verdict == v for e in study.entries)],
    )


def markdown(study: Study, drawn: Mapping[str, list[Figure]]) -> str:
    """The same as Markdown; figures are named by their files."""
    lines = [f"# {QUESTION}", "", _mark(tally(study)), ""]
    if study.quick:
        lines += [f"> **{QUICK}**", ""]
    lines += verdicts(study)
    for entry in study.entries:
        lines += _section(entry, drawn[entry.claim.key], study.quick)
    lines += ["", "## Where and when", ""]
    lines += _rows(("", ""), [(_mark(k), _mark(v)) for k, v in study.environment.items()])
    return "\n".join(lines).rstrip() + "\n"


def verdicts(study: Study, page: str = "") -> list[str]:
    """The overview as the lines of a Markdown table; claims link to their sections in ``page``."""
    return _rows(
        ("claim", "the article says", "verdict", "measured"),
        [
            (
                f"[{_mark(e.claim.key)}]({page}#{e.claim.key.lower()}) {_mark(e.claim.title)}",
                _mark(e.claim.said),
                f"{SIGNS[e.result.verdict]} **{e.result.verdict}**",
                _mark(e.result.finding),
            )
            for e in study.entries
        ],
    )


def view(study: Study) -> RenderableType:
    """For the terminal: each claim with its verdict and finding."""
    grid = Grid(title=Text(QUESTION), box=None, title_justify="left", pad_edge=False, padding=(0, 2, 1, 0))
    for name in ("", "verdict", "finding"):
        grid.add_column(name, no_wrap=name != "finding")
    for e in study.entries:
        sign = f"{SIGNS[e.result.verdict]} {e.result.verdict}"
        grid.add_row(Text(plain(e.claim.key)), Text(sign, style="bold"), Text(plain(e.result.finding.replace("`", ""))))
    return Group(grid, *([Text(QUICK, style="bold")] if study.quick else []))


def tally(study: Study) -> str:
    """How many claims got which verdict."""
    found: Counter[str] = Counter(e.result.verdict for e in study.entries)
    parts = [f"{found[v]} {v}" for v in MEANS if found[v]]
    n = len(study.entries)
    return f"{n} claim{'' if n == 1 else 's'} of the article put to the test: {', '.join(parts) or 'none yet'}."


def level(e: Estimate) -> str:
    """Of the confidence of an interval; a count of everything has none."""
    return f"{100 * e.level:.3g} %" if e.high > e.low else "exact"


def caption(chart: Chart, result: Result) -> str:
    """What the intervals of a figure are; empty if it has none. Those of many comparisons may have levels of their own."""
    if not charts.intervals(chart):
        return ""
    levels = {level(e) for e in result.estimates} - {"exact"}
    return f"Whiskers and bands are intervals{f' of {levels.pop()}' if len(levels) == 1 else ''}."


def cell(value: str | int | float | Estimate) -> str:
    """A cell of a table."""
    if isinstance(value, Estimate):
        return estimate(value)
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else number(value)


def number(value: float) -> str:
    """Four figures at most; very large and very small ones with an exponent."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.1e}".replace("-", "−")
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def estimate(e: Estimate) -> str:
    """The value and its interval, with no more digits than the interval deserves."""
    unit = f" {e.unit}" if e.unit else ""
    half = (e.high - e.low) / 2
    if not math.isfinite(half):
        return f"{number(e.value)}{unit} (one value, no interval)"
    if half <= 0 or not math.isfinite(e.value):
        return f"{number(e.value)}{unit}"
    largest = max(abs(v) for v in (e.value, e.low, e.high))
    if not 1e-4 <= largest < 1e6:
        return f"{number(e.value)}{unit} ({number(e.low)} to {number(e.high)})"
    most = max(4, 1 - math.floor(math.log10(largest)))
    digits = max(0, min(most, 1 - math.floor(math.log10(half))))
    value, low, high = (f"{v:,.{digits}f}".replace("-", "−") for v in (e.value, e.low, e.high))
    return f"{value}{unit} ({low} to {high})"


def is_number(value: object) -> bool:
    """Whether a cell belongs on the right."""
    return isinstance(value, int | float | Estimate)


def chart_table(chart: Chart) -> Table:
    """The numbers of a chart: a row for each x, a column for each series."""
    xs = list(dict.fromkeys(x for s in chart.series for x in s.x))
    held = [{x: _point(s.name, i, s) for i, x in enumerate(s.x)} for s in chart.series]
    rows = tuple((x if isinstance(x, str) else number(x), *(h.get(x, "–") for h in held)) for x in xs)
    return Table(chart.title, (chart.x_label, *(s.name for s in chart.series)), rows)


def _point(name: str, i: int, series: Any) -> Estimate | float:
    value = series.y[i]
    return Estimate(name, value, series.low[i], series.high[i]) if series.low and series.high else value


def flat(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A configuration as names and values; nested ones get a name with a dot or a number."""
    found: list[tuple[str, str]] = []
    for name, value in config.items():
        if isinstance(value, Mapping):
            found += [(f"{name}.{k}", v) for k, v in flat(value)]
        elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
            for i, v in enumerate(value):
                found.append((f"{name} {i + 1}", ", ".join(f"{k} {w}" for k, w in flat(v))))
        elif isinstance(value, list | tuple):
            found.append((name, ", ".join(map(str, value)) or "none"))
        else:
            found.append((name, str(value)))
    return found


def duration(seconds: float) -> str:
    """How long it took."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _section(entry: Entry, drawn: Iterable[Figure], quick: bool) -> list[str]:
    claim, result = entry.claim, entry.result
    # An anchor of our own: what headings get as theirs differs from one reader to the next.
    lines = ["", f'<a id="{re.sub(r"[^a-z0-9]", "", claim.key.lower())}"></a>', ""]
    lines += [f"## {_mark(claim.key)}: {_mark(claim.title)}", ""]
    lines += [f"**{SIGNS[result.verdict]} {result.verdict}**. {_mark(result.finding)}", ""]
    lines += [f"The article: {_mark(claim.said)}  ", f"Measured: {_mark(claim.question)}", ""]
    for figure in drawn:
        lines += [f"![{_mark(figure.chart.title)}]({figure.name})", ""]
        if under := caption(figure.chart, result):
            lines += [_mark(under), ""]
    lines += ["What the verdict stands on:", ""]
    lines += _rows(
        ("", "value and interval", "level", "n"),
        [(_mark(e.name), _mark(estimate(e)), level(e), f"{e.n:,}") for e in result.estimates],
    )
    for table in result.tables:
        lines += ["", f"**{_mark(table.title)}**", ""]
        lines += _rows(map(_mark, table.columns), [[_mark(cell(c)) for c in row] for row in table.rows])
    if result.notes:
        lines += ["", *(f"- {_mark(note)}" for note in result.notes)]
    if result.advice:
        lines += ["", f"**What to do.** {_mark(result.advice)}"]
    lines += ["", f"Run again: `{AGAIN} {plain(claim.key)}{' --quick' if quick else ''}` ({duration(entry.seconds)})."]
    settings = "; ".join(f"{k}: {v}" for k, v in flat(entry.config))
    return [*lines, "", f"Configuration: {_mark(settings)}."]


def _rows(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(columns)
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _parts(text: str) -> list[str]:
    """Text and code in turn: what stands between backticks is code. An odd backtick is a backtick."""
    parts = plain(text).split("`")
    return parts if len(parts) % 2 else [*parts[:-2], "`".join(parts[-2:])]


def _prose(text: str) -> Markup:
    """A sentence for a page."""
    shown = (escape(p) if i % 2 == 0 else Markup("<code>{}</code>").format(p) for i, p in enumerate(_parts(text)))
    return Markup("").join(shown)


def _mark(text: str) -> str:
    """A sentence for Markdown, in a table too: nothing in it is markup but code between backticks."""
    shown = []
    for i, part in enumerate(_parts(text)):
        if i % 2:
            shown.append("`" + part.replace("|", "\\|") + "`")
        else:
            shown.append(re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", part))
    return "".join(shown)
