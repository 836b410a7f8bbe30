"""The pages of a study: every number is there, a quick run says so, and hostile names are text."""

import functools
import html
import math
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from flatconv.findings import Estimate, Series
from flatconv.report import study as report
from tests.study import made

HOSTILE = "<script>alert('x')</script> | *b* [l](javascript:x) `code` ` \x1b[31m \u202e &amp; ${x} {{ 7*7 }}"


class Reader(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def page(study):
    return report.html(study, report.figures(study))


def text(study):
    return report.markdown(study, report.figures(study))


@pytest.fixture(autouse=True, scope="module")
def _each_chart_is_drawn_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report.charts, "draw", functools.cache(report.charts.draw))
        yield


@pytest.fixture(scope="module")
def study():
    return made.study()


def test_everything_is_on_both_pages(study):
    for found in (html.unescape(page(study)), text(study)):
        for word in (
            "confirmed",
            "corrected",
            "refuted",
            "undecided",
            "a plain finding",
            "a plain note",
            "a plain table",
        ):
            assert word in found, word
        assert "0.50 (0.25 to 0.75)" in found
        assert "0.50 ms (0.25 to 0.75)" in found
        assert "flatconv study -o out/study --only C3" in found
        assert "4 claims of the article put to the test: 1 confirmed, 1 corrected, 1 refuted, 1 undecided." in found
        assert report.QUICK not in found


def test_a_quick_run_says_that_its_verdicts_mean_nothing():
    quick = made.study(quick=True, verdicts=("confirmed",))
    console = Console(width=200, file=open("/dev/null", "w"), record=True)  # noqa: SIM115
    console.print(report.view(quick))
    for found in (page(quick), text(quick), console.export_text()):
        assert "verdicts mean nothing" in found
    assert "--only C1 --quick" in text(quick)


def test_the_page_loads_nothing_and_its_links_lead_somewhere(study):
    reader = Reader(page(study))
    ids = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in reader.tags:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            if value is None:
                continue
            assert value.startswith(("data:", "#")), (tag, value)
            if value.startswith("#"):
                assert value[1:] in ids
    images = [a for tag, a in reader.tags if tag == "img"]
    assert len(images) == 8
    assert all(a["alt"] for a in images)


def test_verdicts_have_a_shape_each(study):
    shapes = re.findall(r'<symbol id="(v-\w+)"[^>]*>(.*?)</symbol>', page(study))
    assert {name for name, _ in shapes} == {f"v-{v}" for v in report.MEANS}
    assert len({re.sub(r'class="[^"]*"', "", shape) for _, shape in shapes}) == 4
    assert len(set(report.SIGNS.values())) == 4


def test_hostile_names_are_text_on_the_page():
    reader = Reader(page(made.study(HOSTILE)))
    assert not [t for t, _ in reader.tags if t == "script"]
    assert "<script>alert('x')</script>" in "".join(reader.words)
    shown = page(made.study(HOSTILE))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "{{ 7*7 }}" in "".join(reader.words)
    assert not [a for _, a in reader.tags if "javascript" in a.get("href", "") + a.get("src", "")]


def test_hostile_names_are_text_in_markdown():
    from markdown_it import MarkdownIt

    shown = text(made.study(HOSTILE))
    assert "\x1b" not in shown
    found = Reader(MarkdownIt("commonmark", {"html": True}).enable("table").render(shown))
    tags = {t for t, _ in found.tags}
    assert "script" not in tags
    assert not [a for t, a in found.tags if t == "a" and "javascript" in a.get("href", "")]
    # Four tables of four claims and two more; a bar in a name does not make a cell.
    rows = [t for t, _ in found.tags if t == "td"]
    assert rows
    assert "<script>alert('x')</script>" in "".join(found.words)


def test_figures_of_the_markdown_are_written_next_to_it(study, tmp_path):
    report.write(tmp_path, study)
    names = re.findall(r"\]\((c\d-\d\.svg)\)", (tmp_path / "study.md").read_text())
    assert len(names) == len(set(names)) == 8
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*names, "study.html", "study.md"])


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "shown"),
    [
        (0.9531, 0.9402, 0.9660, "", "0.953 (0.940 to 0.966)"),
        (12.345, 11.9, 12.8, "ms", "12.35 ms (11.90 to 12.80)"),
        (12345.6, 11000.0, 14000.0, "", "12,346 (11,000 to 14,000)"),
        (0.00055, 0.00049, 0.00062, "", "0.00055 (0.00049 to 0.00062)"),
        (3e-7, 1e-7, 5e-7, "", "3.0e−07 (1.0e−07 to 5.0e−07)"),
        (1.0, 1 - 1e-9, 1 + 1e-9, "", "1.0000 (1.0000 to 1.0000)"),
        (0.25, 0.25, 0.25, "", "0.25"),
        (2.0, -math.inf, math.inf, "s", "2 s (one value, no interval)"),
        (-0.5, -0.75, -0.25, "", "−0.50 (−0.75 to −0.25)"),
    ],
)
def test_an_estimate_has_as_many_digits_as_its_interval_deserves(value, low, high, unit, shown):
    assert report.estimate(Estimate("x", value, low, high, unit)) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (1.0, "1"), (0.15, "0.15"), (math.nan, "–"), (math.inf, "∞"), (-math.inf, "−∞"), (1234.5678, "1,235"),
     (2.5e-8, "2.5e−08"), (-3.0, "−3"), (1e7, "1.0e+07"), (100.0, "100")],
)  # fmt: skip
def test_number(value, shown):
    assert report.number(value) == shown


def test_configurations_are_flat():
    config = {"seeds": [0, 1], "ways": [{"rate": 0.5, "optimizer": "sgd"}], "inner": {"a": {"b": 1}}, "none": []}
    assert report.flat(config) == [
        ("seeds", "0, 1"), ("ways 1", "rate 0.5, optimizer sgd"), ("inner.a.b", "1"), ("none", "none"),
    ]  # fmt: skip


def test_an_empty_study_is_a_page_too():
    empty = made.study(verdicts=())
    assert "0 claims" in page(empty)
    assert "none yet" in text(empty)


def test_the_caption_names_the_level_of_the_intervals():
    one = made.result(estimates=(made.estimate(level=0.9), made.estimate(value=1.0, low=1.0, high=1.0)))
    assert report.caption(made.chart(), one) == "Whiskers and bands are intervals of 90 %."
    two = made.result(estimates=(made.estimate(level=0.9), made.estimate(level=0.975)))
    assert report.caption(made.chart(), two) == "Whiskers and bands are intervals."
    assert report.level(made.estimate(level=0.975)) == "97.5 %"
    without = made.chart(series=(Series("s", ("a",), (1.0,)),))
    assert report.caption(without, one) == ""
