"""Where the parts of a kernel's drawing go."""

import itertools

import pytest

from flatconv.report import drawing
from tests.report import pages


@pytest.mark.parametrize("site", pages.mixed().sites, ids=lambda s: s.name)
def test_every_tap_is_drawn_as_what_it_is(site):
    drawn = drawing.drawing(site)
    shown = {t: s.kind for s in drawn.sheets for t in range(s.first, s.last + 1)}
    assert [t for t, kind in shown.items() if kind == "dead"] == list(site.dead_taps)
    assert [t for t, kind in shown.items() if kind == "merged"] == list(site.merged_taps)
    assert [t for t, kind in shown.items() if kind != "dead"] == list(site.live_taps)
    assert drawn.left_out == 0


@pytest.mark.parametrize("site", pages.mixed().sites, ids=lambda s: s.name)
def test_nothing_hides_anything_or_leaves_the_drawing(site):
    drawn = drawing.drawing(site)
    across = drawing.ACROSS * drawn.wide
    assert all(a.x + across < b.x for a, b in itertools.pairwise(drawn.sheets))
    assert drawn.sheets[-1].x + across <= drawn.width
    assert all(s.y - drawing.UP * drawn.wide >= 0 for s in drawn.sheets)
    assert drawn.base < drawn.height
    assert all(link.y < drawn.height for link in drawn.links)


def test_a_bracket_joins_the_taps_that_are_added():
    drawn = drawing.drawing(pages.site(kernel=(5, 3, 3), groups=((0, 1), (2,), (3, 4))))
    assert [len(link.ticks) for link in drawn.links] == [2, 2]
    across = drawing.ACROSS * drawn.wide / 2
    for link, (first, last) in zip(drawn.links, ((0, 1), (3, 4)), strict=True):
        assert link.ticks == pytest.approx([drawn.sheets[first].x + across, drawn.sheets[last].x + across], abs=0.02)
    assert drawn.links[0].y != drawn.links[1].y


def test_equal_neighbours_of_a_long_kernel_are_one_sheet():
    drawn = drawing.drawing(pages.site(kernel=(40, 1, 1), groups=((19,), (20,))))
    assert [s.label for s in drawn.sheets] == ["0–18", "19–20", "21–39"]
    assert any("one sheet" in r for r in drawn.remarks)


def test_groups_side_by_side_are_not_one_sheet():
    drawn = drawing.drawing(pages.site(kernel=(20, 1, 1), groups=(tuple(range(10)), tuple(range(10, 20)))))
    assert [s.label for s in drawn.sheets] == ["0–9", "10–19"]


def test_what_cannot_be_drawn_is_said():
    drawn = drawing.drawing(pages.site(kernel=(101, 1, 1), groups=tuple((t,) for t in range(0, 101, 2))))
    assert len(drawn.sheets) == drawing.SHEETS
    assert drawn.left_out == 101 - drawing.SHEETS
    assert f"{drawn.left_out} slices are not drawn" in drawn.remarks


def test_a_large_slice_is_drawn_whole():
    drawn = drawing.drawing(pages.site(kernel=(3, 31, 15)))
    assert drawn.cells == (1, 1)
    assert drawn.high / drawn.wide == pytest.approx(31 / 15, rel=0.01)
    assert "a sheet stands for 31 × 15 weights" in drawn.remarks


def test_the_flat_kernel_is_told_by_what_was_added():
    flat = drawing.drawing(pages.site(groups=((2,),)), becomes="3×3 conv2d").flat
    assert (flat.kind, flat.label) == ("live", "3×3 conv2d")
    assert drawing.drawing(pages.site(groups=((0, 1, 2),)), becomes="3×3 conv2d").flat.kind == "merged"
    assert drawing.drawing(pages.site(groups=((2,),))).flat is None
    assert drawing.drawing(pages.site(groups=()), becomes="3×3 conv2d").flat is None
