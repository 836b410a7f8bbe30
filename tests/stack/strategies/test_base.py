"""What is true of every strategy, whatever its numbers are."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from flatconv.errors import InputError
from flatconv.stack.edges import EDGES
from flatconv.stack.strategies import STRATEGIES, Bands, Bracket, Pyramid, Single, Slices, Time, read_strategy

few = st.integers(1, 6)
EVERY = st.one_of(
    st.just(Single()),
    st.builds(Time, few, few, st.integers(0, 8), st.sampled_from(EDGES)),
    st.builds(Slices, st.sampled_from([1, 3, 5]), few, few, st.sampled_from(EDGES)),
    st.builds(Bands, st.integers(0, 4)),
    st.builds(Pyramid, few),
    st.builds(Bracket, st.integers(0, 4), st.sampled_from(["error", "drop"])),
)


def fits(how, frames, channels):
    try:
        how.check(frames, (channels, 40, 50))
    except InputError:
        return False
    return True


@given(EVERY, st.integers(1, 30), st.sampled_from([1, 3]))
def test_windows_and_frames(how, frames, channels):
    assume(fits(how, frames, channels))
    windows = how.windows(frames)
    assert windows >= 1
    shown = [how.frames_of(w, frames) for w in range(windows)]
    assert len({len(s) for s in shown}) == 1
    assert all(f is None or 0 <= f < frames for s in shown for f in s)
    if how.outside != "pad":
        assert None not in {f for s in shown for f in s}
    for w in range(windows):
        # No later window goes back behind what 'earliest' promises.
        later = [f for s in shown[w:] for f in s if f is not None]
        assert how.earliest(w, frames) <= min(later, default=frames)
        assert how.earliest(w, frames) <= how.earliest(min(w + 1, windows - 1), frames)


@given(EVERY, st.integers(1, 12), st.sampled_from([1, 3]))
def test_assembling_is_undone(how, frames, channels):
    assume(fits(how, frames, channels))
    slots = len(how.positions(0, frames))
    parts = torch.randn(slots, channels, 40, 50)
    window = how.assemble(parts)
    assert tuple(window.shape) == how.shape(frames, (channels, 40, 50))
    assert torch.equal(how.separate(window), parts)
    assert len(how.answered(0, frames, window.shape[1])) == len(parts)


@given(EVERY)
def test_text_form_says_all(how):
    assert read_strategy(str(how)) == how or str(read_strategy(str(how))) == str(how)
    assert read_strategy(how) is how


@pytest.mark.parametrize("edge", ["pad", "replicate", "reflect"])
@given(length=few, step=few, frames=st.integers(1, 30))
def test_time_reaches_the_last_frame(edge, length, step, frames):
    how = Time(length, 1, step, edge)
    shown = {f for w in range(how.windows(frames)) for f in how.frames_of(w, frames) if f is not None}
    if step <= length:
        assert shown == set(range(frames))
    last = how.positions(how.windows(frames) - 1, frames)
    assert last[0] < frames  # no window of nothing but edge


@given(length=few, stride=few, step=few, frames=st.integers(1, 40))
def test_time_drops_what_does_not_fit_and_nothing_else(length, stride, step, frames):
    how = Time(length, stride, step, "drop")
    starts = [s for s in range(0, frames, step) if s + (length - 1) * stride < frames]
    assert [how.positions(w, frames)[0] for w in range(how.windows(frames))] == starts


def test_slices_have_their_slice_in_the_middle():
    how = read_strategy("slices:5,stride=2,edge=replicate")
    assert [how.frames_of(w, 6)[2] for w in range(how.windows(6))] == list(range(6))
    assert how.frames_of(0, 6) == (0, 0, 0, 2, 4)
    assert how.frames_of(5, 6) == (1, 3, 5, 5, 5)
    inside = read_strategy("slices:3,edge=drop")
    assert [inside.frames_of(w, 5) for w in range(inside.windows(5))] == [(0, 1, 2), (1, 2, 3), (2, 3, 4)]
    assert inside.answered(0, 5, 1) == (1,)


def test_pyramid_levels_keep_the_mean_and_lose_detail():
    x = torch.randn(1, 2, 32, 48) + 3
    levels = Pyramid(4).assemble(x)
    assert torch.equal(levels[:, 0], x[0])
    spread = levels.flatten(2).std(2)
    assert (spread[:, 1:] < spread[:, :-1]).all()
    assert torch.allclose(levels.flatten(2).mean(2), x[0].flatten(1).mean(1)[:, None].expand(-1, 4), atol=0.1)


WRONG = {
    "unknown": ("movie:3", "'movie' is unknown: it may be single, time:N, slices:N, bands:N, pyramid:N, bracket:N"),
    "empty": ("", "'' is unknown"),
    "unknown word": (
        "time:3,speed=2",
        r"'speed=2' in 'time:3,speed=2' is unknown: 'time' takes a number \(length\), stride=…",
    ),
    "no value": ("time:3,step=", "'step=' in"),
    "nothing behind the colon": ("time:", "'' in 'time:'"),
    "no number": ("time:many", "length in 'time:many' is 'many', and a whole number is needed"),
    "a fraction": ("time:3,stride=0.5", "'0.5', and a whole number"),
    "negative stride": ("time:3,stride=-1", "stride is -1, and a whole number from 1 to"),
    "zero": ("time:0", "time window is 0"),
    "far too long": ("time:999999999", "whole number from 1 to 65,536"),
    "digits without end": ("time:" + "9" * 4000, "whole number is needed"),
    "twice": ("time:3,length=4", "length is given twice"),
    "unknown edge": ("time:3,edge=wrap", "edge=wrap is unknown here: it may be pad, drop, replicate, reflect, error"),
    "edge of a bracket": ("bracket:3,edge=pad", "edge=pad is unknown here: it may be error, drop"),
    "single takes nothing": ("single:3", "'single' takes nothing behind a colon"),
    "even": ("slices:4", "neighbourhood of 4 slices has no middle: use 5"),
    "no levels": ("pyramid:0", "number of levels is 0"),
    "other digits": ("time:٣", "whole number is needed"),
}


@pytest.mark.parametrize(("how", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_text(how, words):
    with pytest.raises(InputError, match=words):
        read_strategy(how)


UNFIT = {
    "longer than the video": ("time:9", 8, "'time:9,stride=1,step=9,edge=drop' needs 9 frames, and there are 8"),
    "longer by its stride": ("time:3,stride=4", 8, "needs 9 frames"),
    "error at the end": ("time:3,edge=error", 8, "ends at frame 8, and the last of the 8 frames is 7"),
    "no inner slice": ("slices:9,edge=drop", 8, "needs 9 slices, and there are 8"),
    "error beside the ends": ("slices:3,edge=error", 8, "which have none on one side"),
    "bracket left over": ("bracket:3", 8, "no whole number of brackets of 3: 2 are left over"),
    "bracket too large": ("bracket:9", 8, "needs 9 pictures, and there are 8"),
    "bands of one channel": ("bands", 8, "these frames have one: bands:8"),
    "bands left over": ("bands:3", 8, "images of 3 bands: 2 are left over"),
    "pyramid too high": ("pyramid:7", 8, "use at most 6 levels"),
}


@pytest.mark.parametrize(("how", "frames", "words"), UNFIT.values(), ids=UNFIT.keys())
def test_unfit_sources(how, frames, words):
    with pytest.raises(InputError, match=words):
        read_strategy(how).check(frames, (1, 40, 50))


def test_bands_of_colour_frames():
    with pytest.raises(InputError, match="these have 3: use bands, or channels='gray'"):
        Bands(4).check(8, (3, 4, 4))


def test_what_is_no_strategy():
    with pytest.raises(InputError, match="not int: one of single"):
        read_strategy(3)
    with pytest.raises(InputError, match="whole number"):
        Time(length=2.5)
    assert len({s.NAME for s in STRATEGIES}) == len(STRATEGIES)
