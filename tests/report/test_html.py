"""The pages of an audit and of a fold: whole, self-contained, and safe against names."""

import collections
import dataclasses
import html.parser
import re

import pytest
import torch
from torch import nn

import flatconv
from flatconv.report import html as report
from tests.report import pages

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Reader(html.parser.HTMLParser):
    """Elements with their attributes, the text, and whether every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.words, self.wrong = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), tuple(i for _, i in self.open if i)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("id", "")))

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs), tuple(i for _, i in self.open if i)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop()[0] != tag:
            self.wrong.append((tag, self.getpos()))

    def handle_data(self, data):
        if not self.open or self.open[-1][0] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for found, attrs, _ in self.found if found == tag]


PAGES = {
    "mixed": lambda: report.audit_html(pages.mixed()),
    "empty": lambda: report.audit_html(pages.audit([])),
    "folded": lambda: report.fold_html(pages.folded()),
    "measured": lambda: report.fold_html(pages.folded(), pages.MEASURED),
    "hostile": lambda: report.fold_html(pages.hostile()),
    "hostile audit": lambda: report.audit_html(pages.hostile().audit),
}


@pytest.fixture(scope="module", params=PAGES)
def read(request):
    return Reader(PAGES[request.param]())


def test_it_is_well_formed(read):
    assert not read.wrong
    assert not read.open
    ids = [attrs["id"] for _, attrs, _ in read.found if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_it_refers_to_nothing_outside(read):
    ids = {attrs.get("id") for _, attrs, _ in read.found}
    for tag, attrs, _ in read.found:
        assert tag not in ("img", "iframe", "object", "embed", "form", "base")
        assert not any(name.startswith("on") or name in ("src", "srcset", "style", "action") for name in attrs), attrs
        if "href" in attrs:
            assert attrs["href"] == "data:," or attrs["href"][1:] in ids
        for name in ("aria-labelledby", "aria-controls"):
            assert set(attrs.get(name, "").split()) <= ids
    assert len(read.all("script")) == 1


def test_drawings_have_words(read):
    for attrs in read.all("svg"):
        assert attrs.get("role") == "img" or attrs.get("aria-hidden") == "true"
    titles = [t for tag, _, _ in read.found if tag == "title" for t in [tag]]
    assert len(titles) == 1 + len([a for a in read.all("svg") if a.get("role") == "img"])


def test_taps_are_counted_as_the_audit_counts_them():
    audit = pages.mixed()
    read = Reader(report.audit_html(audit))
    kernels = {k.id: k for k in report._layers(audit, ())[0]}
    seen = collections.Counter()
    for tag, attrs, inside in read.found:
        kind = (attrs.get("class") or "").split()
        if tag in ("rect", "circle", "path") and kind[:1] == ["tap"]:
            seen[inside[-1], kind[1]] += 1
    for layer in report._layers(audit, ())[1]:
        drawn, site = kernels[layer.kernel.id].drawing, layer.site
        if drawn.cells == drawn.face and all(s.first == s.last for s in drawn.sheets):
            face = drawn.face[0] * drawn.face[1]
            assert seen[layer.kernel.id, "dead"] == len(site.dead_taps) * face
            assert seen[layer.kernel.id, "merged"] == len(site.merged_taps) * face
            assert seen[layer.kernel.id, "live"] == (len(site.live_taps) - len(site.merged_taps)) * face
    assert {kind for _, kind in seen} == {"live", "dead", "merged"}


def test_each_layer_shows_its_own_kernel():
    audit = pages.mixed()
    read = Reader(report.audit_html(audit))
    uses = [a["href"][1:] for tag, a, i in read.found if tag == "use" and "layers" in i and "kernel" in a["href"]]
    layers = report._layers(audit, ())[1]
    assert uses == [layer.kernel.id for layer in layers]
    assert layers[0].kernel is layers[-1].kernel
    assert layers[0].kernel.layers == 2


def test_layers_stand_in_network_order_and_buttons_wait_for_the_script():
    read = Reader(report.audit_html(pages.mixed()))
    rows = [a for a in read.all("li") if "data-network" in a]
    assert [int(a["data-network"]) for a in rows] == list(range(11))
    wasted = [s.macs - s.useful_macs for s in pages.mixed().sites]
    assert [int(a["data-waste"]) for a in rows] == wasted
    (group,) = [a for a in read.all("div") if a.get("role") == "group"]
    assert "hidden" in group
    assert [a["aria-pressed"] for a in read.all("button") if "data-sort" in a] == ["true", "false"]


def test_bars_are_as_long_as_the_numbers():
    audit = pages.mixed()
    longest = max(s.macs for s in audit.sites)
    for layer in report._layers(audit, ())[1]:
        assert layer.useful == pytest.approx(100 * layer.site.useful_macs / longest, abs=1e-3)
        assert layer.useful + layer.wasted == pytest.approx(100 * layer.site.macs / longest, abs=2e-3)


def test_names_are_text_and_nothing_else():
    text = report.fold_html(pages.hostile())
    read = Reader(text)
    assert not any(c in text for c in "\u202e\x1b\x00\ud800\u2028")
    for name in pages.HOSTILE[:5]:
        assert " ".join(name.split()) in read.text
    assert "\\u202e" in read.text
    assert "49" not in re.findall(r"<h1>.*?</h1>", text)[0]


def test_hundreds_of_strange_kernels_stay_a_page_that_opens():
    sites = [pages.site(f"net.{i}", (5, 5, 5 + i), groups=((i % 5,),)) for i in range(300)]
    text = report.audit_html(pages.audit(sites))
    read = Reader(text)
    taps = [a for _, a, _ in read.found if (a.get("class") or "").startswith("tap ")]
    assert report.CELLS < len(taps) < report.CELLS + 4000
    assert len(text) < 3e6
    assert sum(1 for a in read.all("li") if "data-network" in a) == 300
    assert "a sheet stands for" in read.text.lower()


def test_everything_an_audit_knows_is_on_the_page():
    audit = pages.audit(
        [pages.site("net.causal", reason="the pad in front")],
        unused_parameters=("head.weight",), unknown={"aten.odd.default": ("there",)}, notes=("batch is fixed",),
        assumptions=("all frames of x are equal",),
    )  # fmt: skip
    text = Reader(report.audit_html(audit)).text
    said = ["net.causal", "The pad in front.", "head.weight", "aten.odd.default", "there", "Batch is fixed.",
            "All frames of x are equal.", "33.3 %", "3×3×3", f"flatconv {flatconv.__version__}", torch.__version__]  # fmt: skip
    assert [s for s in said if s not in text] == []


def test_everything_a_fold_did_is_on_the_page():
    text = Reader(report.fold_html(pages.folded(), pages.MEASURED)).text
    said = ["2 of 3 convolutions rewritten", "1 exact, 1 bounded", "conv3d → conv2d", "drop dead taps, drop an axis",
            "dyadic integers", "0.25 of the rounding bound", "left as it was", "2 slices are all different", "200.0 ms",
            "50.0 ms", "4.00 times as fast (3.80 to 4.20)", "4 MB", "1.2e-16", "9.3e-08", "512"]  # fmt: skip
    assert [s for s in said if s not in text] == []


def test_an_unchecked_fold_says_so():
    unchecked = dataclasses.replace(
        pages.folded(), evidence=type(pages.folded().evidence)(),
        sites=tuple(dataclasses.replace(s, evidence=None) for s in pages.folded().sites),
    )  # fmt: skip
    text = Reader(report.fold_html(unchecked)).text
    assert "Not verified." in text
    assert "Checked:" not in text


def test_only_a_kernel_that_lost_its_depth_is_drawn_flat():
    flat, deep, left = pages.folded().sites
    assert report._flat(flat.audit, flat) == "3×3 conv2d"
    assert report._flat(deep.audit, deep) is None
    assert report._flat(left.audit, left) is None
    # One axis is gone, but not the first.
    other = dataclasses.replace(flat, refusal=("drop an axis: axis 2: 3 slices are all different",))
    assert report._flat(flat.audit, other) is None


def test_a_real_model_from_the_call_to_the_file(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 2, 3, padding=1, padding_mode="replicate"))
    flat = flatconv.fold(net.eval(), (torch.randn(1, 1, 1, 6, 7),), dynamic=False)
    flat.report.to_html(tmp_path / "fold.html", measured=pages.MEASURED)
    flat.report.audit.to_html(str(tmp_path / "audit.html"))
    folded = Reader((tmp_path / "fold.html").read_text(encoding="utf-8")).text
    assert "2 exact" in folded
    assert "conv3d → conv2d" in folded
    assert "33.3 %" in Reader((tmp_path / "audit.html").read_text(encoding="utf-8")).text


def test_the_file_is_written_whole_or_not_at_all(tmp_path):
    audit, path = pages.mixed(), tmp_path / "page.html"
    audit.to_html(path)
    first = path.read_bytes()
    with pytest.raises(flatconv.InputError, match="exists already"):
        audit.to_html(path)
    assert path.read_bytes() == first
    pages.audit([]).to_html(path, force=True)
    assert path.read_bytes() != first
    for wrong in (tmp_path, tmp_path / "missing/page.html", 3):
        with pytest.raises(flatconv.InputError):
            audit.to_html(wrong)
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_the_same_numbers_make_the_same_bytes():
    assert report.fold_html(pages.folded()) == report.fold_html(pages.folded())
