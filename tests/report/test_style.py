"""Colours can be read, and no colour stands alone."""

import pytest

from flatconv.report import style


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [style.LIGHT, style.DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "raised"])
def test_contrast(colours, ground):
    assert all(contrast(colours[name], colours[ground]) >= 4.5 for name in ("ink", "quiet", "link"))
    assert all(contrast(colours[name], colours[ground]) >= 3 for name in ("live", "dead", "merged", "focus"))


def test_day_and_night_name_the_same_colours():
    assert style.LIGHT.keys() == style.DARK.keys()
    text = style.tokens()
    assert all(text.count(f"--{name}:") == 2 for name in style.LIGHT)


def test_series_are_told_apart_without_colour():
    assert len({m.colour for m in style.SERIES}) == len(style.SERIES)
    assert len({m.hatch for m in style.SERIES}) == len(style.SERIES)
    assert len({m.marker for m in style.SERIES}) == len(style.SERIES)
    assert len({str(m.dash) for m in style.SERIES}) == len(style.SERIES)
    assert all(contrast(m.colour, style.PAPER) >= 2 for m in style.SERIES)


def test_matplotlib_knows_every_setting():
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context(style.rc()):
        pass
