"""Figures: valid SVG, the same bytes each time, everything shown, and hostile names are text."""

import math
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from flatconv.errors import MissingExtraError
from flatconv.findings import Series
from flatconv.report import charts, style
from tests.study import made

HOSTILE = "<script>alert(1)</script> $x_{2}$ --> \x1b[31m \u202e & \"'"


def every():
    yield "bars", made.chart()
    yield "lines", made.chart("lines")
    yield "log bars", made.chart(log="y", reference=(1.0, "parity"))
    yield "log lines", made.chart("lines", log="xy")
    words = tuple(f"a rather long name of thing number {i}" for i in range(9))
    yield "long labels", made.chart(series=(Series("s", words, tuple(map(float, range(9)))),))
    yield "long labels, log", made.chart(series=(Series("s", words, tuple(map(float, range(1, 10)))),), log="y")
    x = tuple(float(i) for i in range(40))
    yield "a band", made.chart("lines", series=(Series("s", x, x, tuple(v - 1 for v in x), tuple(v + 1 for v in x)),))
    infinite = Series("s", ("a",), (1.0,), (-math.inf,), (math.inf,))
    yield "no interval", made.chart(series=(infinite,))
    yield "nothing known", made.chart(series=(Series("s", ("a", "b"), (math.nan, 0.0)),))
    yield "words on a line", made.chart("lines", series=(Series("s", ("a", "b"), (1.0, 2.0)),))
    yield "more series than looks", made.chart(series=tuple(Series(f"s{i}", ("a",), (1.0,)) for i in range(9)))
    yield "no series", made.chart(series=())


@pytest.mark.parametrize(("name", "chart"), list(every()))
def test_every_chart_is_valid_and_the_same_each_time(name, chart):
    text = charts.draw(chart)
    root = ET.fromstring(text)
    assert root.tag.endswith("svg")
    assert text == charts.draw(chart)
    assert "<!DOCTYPE" not in text
    assert "<?xml" not in text
    assert not re.search(r"\d\d\d\d-\d\d-\d\d", text)  # no date


def test_series_are_told_apart_without_colour():
    bars = charts.draw(made.chart())
    assert "<pattern" in bars  # the second series is hatched
    lines = charts.draw(made.chart("lines"))
    assert "stroke-dasharray" in lines
    colours = {s.colour.lower() for s in style.SERIES[:2]}
    assert all(c in bars.lower() and c in lines.lower() for c in colours)


def test_the_ground_is_transparent():
    shown = charts.draw(made.chart())
    first = re.search(r'<g id="patch_1">.*?</g>', shown, re.DOTALL)[0]
    assert "fill: none" in first


@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_hostile_names_are_text(kind):
    x = (HOSTILE, "b") if kind == "bars" else (1.0, 2.0)
    chart = replace(
        made.chart(kind, series=(Series(HOSTILE, x, (1.0, 2.0)), Series("b", x, (1.0, 2.0))), reference=(1.0, HOSTILE)),
        title=HOSTILE, x_label=HOSTILE, y_label=HOSTILE,
    )  # fmt: skip
    text = charts.draw(chart)
    root = ET.fromstring(text)
    assert not [e for e in root.iter() if isinstance(e.tag, str) and e.tag.endswith("script")]
    assert "\x1b" not in text
    assert "\u202e" not in charts.describe(chart)


def test_text_is_drawn_and_needs_no_font():
    assert "<text" not in charts.draw(made.chart())


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"flatconv\[study\]"):
        charts.draw(made.chart())


def test_description_names_all_series():
    text = charts.describe(made.chart("lines"))
    assert "first, second" in text
    assert "up over across" in text
