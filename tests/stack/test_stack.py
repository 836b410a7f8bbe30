"""Windows of a stack: which frames they show, how many are in memory, and putting back together."""

import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import flatconv
from flatconv.errors import InputError
from flatconv.stack import stack
from flatconv.stack.cache import FrameCache
from flatconv.stack.limits import MAX_WINDOW
from flatconv.stack.patches import grid
from tests.stack.making import Counting
from tests.stack.strategies.test_base import EVERY, fits


def frames(count, channels=1, height=5, width=6):
    return torch.arange(count * channels * height * width, dtype=torch.float32).view(count, channels, height, width)


def test_a_window_shows_its_frames():
    x = frames(10, 2)
    s = stack(x, "time:4,stride=2,step=3,edge=pad", layout="TCHW")
    assert s.shape == (1, 2, 4, 5, 6)
    assert len(s) == 2
    assert s[0].frames == (0, 2, 4, 6)
    assert s[-1].frames == (3, 5, 7, 9)
    assert torch.equal(s[1].data[0], x[[3, 5, 7, 9]].transpose(0, 1))
    with pytest.raises(IndexError):
        s[2]
    assert [w.index for w in s] == [0, 1]
    s = stack(x, "time:4,step=4,edge=pad", layout="TCHW")
    assert s[2].frames == (8, 9, None, None)
    assert not s[2].data[:, :, 2:].any()


@given(EVERY, st.integers(1, 14), st.sampled_from([1, 3]), st.booleans())
@settings(deadline=None, max_examples=40)
def test_iteration_and_access_agree(how, count, channels, sequential):
    assume(fits(how, count, channels) and count * 40 * 50)
    x = frames(count, channels, 40, 50)
    s = stack(x, how, layout="DCHW")
    s.source.SEQUENTIAL = sequential
    for window in s:
        other = s[window.index]
        assert window.frames == other.frames
        assert torch.equal(window.data, other.data)
        assert tuple(window.data.shape) == s.shape


@given(EVERY, st.integers(1, 60), st.booleans())
@settings(deadline=None, max_examples=40)
def test_few_frames_are_held(how, count, sequential):
    assume(how.NAME != "pyramid" and fits(how, count, 1))
    source = Counting(count, sequential)
    s = stack(source, how)
    cache = FrameCache(s._frames)
    most = 0
    for window in s.windows(cache):
        most = max(most, len(cache.held))
        # What is shown is what was asked for, whatever was kept or dropped meanwhile.
        shown = window.data[0, 0, :, 0, 0].tolist()
        assert shown == [0 if f is None else f for f in window.frames]
    positions = how.positions(0, count)
    span = positions[-1] - positions[0] + 1
    step = how.positions(1, count)[0] - positions[0]
    assert most <= span + (step if sequential else 0)
    if not sequential:
        assert len(source.read_frames) == len(set(source.read_frames))  # each is read once
    elif how.outside != "reflect":
        assert len(source.starts) <= 2  # one pass, and the one of s[0] above


def test_frames_of_a_long_source_are_let_go():
    alive = weakref.WeakSet()
    most = 0

    class Long(Counting):
        def read(self, index):
            found = super().read(index)
            alive.add(found)
            return found

    for window in stack(Long(300, sequential=True), "time:16,step=4"):
        if window.index % 20 == 0:
            gc.collect()
        most = max(most, len(alive))
    assert most <= 16 + 4 + 2


def test_a_video_is_decoded_once_and_in_order():
    source = Counting(100, sequential=True)
    assert sum(1 for _ in stack(source, "time:16,step=4")) == 22
    assert source.starts == [0]
    assert source.read_frames == list(range(100))


@given(
    how=EVERY,
    count=st.integers(1, 12),
    channels=st.sampled_from([1, 3]),
    patch=st.one_of(st.none(), st.tuples(st.integers(33, 40), st.integers(33, 50))),
    overlap=st.integers(0, 12),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=40)
def test_a_model_that_changes_nothing_gives_the_frames_back(how, count, channels, patch, overlap, seed):
    assume(fits(how, count, channels))
    x = torch.randn(count, channels, 40, 50, generator=torch.Generator().manual_seed(seed))
    s = stack(x, how, layout="DCHW", patches=patch, overlap=overlap if patch else 0)
    used = {p for w in range(how.windows(count)) for p in how.positions(w, count)}
    outputs = [w.data for w in s]
    if used >= set(range(count)):
        assert torch.equal(s.restore(outputs), x.transpose(0, 1)[None])
        assert [i for i, _ in s.map(lambda d: d)] == list(range(count))
    else:
        with pytest.raises(InputError, match=r"frame \d+ is in no window of"):
            s.restore(outputs)


def test_results_are_averaged_where_they_overlap():
    s = stack(torch.zeros(4, 1, 2, 3), "time:3,step=1", layout="DCHW")
    found = s.restore(torch.full((1, 1, 3, 2, 3), float(i)) for i in range(2))
    assert found[0, 0, :, 0, 0].tolist() == [0, 0.5, 0.5, 1]
    s = stack(torch.zeros(1, 1, 1, 5), "single", layout="DCHW", patches=(1, 3), overlap=(0, 1))
    found = s.restore(torch.full((1, 1, 1, 1, 3), float(i)) for i in range(2))
    assert found[0, 0, 0, 0].tolist() == [0, 0, 0.5, 1, 1]


def test_what_stands_for_no_frame_is_not_put_back():
    s = stack(torch.zeros(3, 1, 2, 2), "slices:3,edge=replicate", layout="DCHW")
    # Each result speaks of its own slice by 0 and of the neighbours by 9: the ends have one neighbour, not two.
    answer = torch.tensor([9.0, 0, 9]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 2, 2)
    assert s.restore([answer] * 3)[0, 0, :, 0, 0].tolist() == [4.5, 6, 4.5]


def test_a_middle_slice_as_the_answer():
    x = frames(5)
    s = stack(x, "slices:3", layout="DCHW")
    found = s.restore(w.data[:, :, 1:2].repeat(1, 4, 1, 1, 1) for w in s)  # more channels may come out than went in
    assert torch.equal(found, x.transpose(0, 1)[None].repeat(1, 4, 1, 1, 1))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 11),
    st.integers(0, 11),
)
def test_patches_cover_and_overlap(height, width, h, w, a, b):
    assume(h <= height and w <= width and a < h and b < w)
    cut = grid((height, width), (h, w), (a, b))
    for starts, whole, part, shared in ((cut.tops, height, h, a), (cut.lefts, width, w, b)):
        assert starts[0] == 0
        assert starts[-1] + part == whole
        assert all(0 < q - p <= part - shared for p, q in itertools.pairwise(starts))
    assert len({cut[i] for i in range(len(cut))}) == len(cut) == len(cut.tops) * len(cut.lefts)


def test_batches():
    x = frames(7)
    s = stack(x, "single", layout="DCHW")
    found = list(s.batches(3))
    assert [len(b.windows) for b in found] == [3, 3, 1]
    assert torch.equal(torch.cat([b.data for b in found])[:, :, 0], x)
    assert found[1].windows[2].index == 5
    assert torch.equal(found[1].windows[2].data, found[1].data[2:])
    with pytest.raises(InputError, match="batches of 0"):
        next(s.batches(0))


def test_summary():
    s = stack(frames(10), "time:4,edge=pad", layout="TCHW", patches=(5, 3))
    found = s.summary()
    assert (found.frames, found.windows, found.patches, found.beyond, found.unused) == (10, 3, 2, 1, 0)
    assert stack(frames(10), "time:4", layout="TCHW").summary().unused == 2
    assert "3 windows" not in repr(s)
    assert "6 windows of (1, 1, 4, 5, 3)" in repr(s)


def test_the_public_name():
    assert flatconv.stack is stack
    assert isinstance(flatconv.stack(np.zeros((3, 4, 4)), "slices:3", layout="DHW"), flatconv.Stack)


WRONG_RESULTS = {
    "too few": (lambda w: w[:-1], "there are 2 results, and the stack has 3 windows"),
    "too many": (lambda w: [*w, w[0]], "more results than the 3 windows"),
    "another size": (lambda w: [x[..., 1:] for x in w], r"result 0 is \(1, 1, 2, 4, 3\); \(1, C, D, 4, 4\) is needed"),
    "several at once": (lambda w: [torch.cat(w)], r"result 0 is \(3, 1, 2, 4, 4\)"),
    "another depth": (lambda w: [x[:, :, :1] for x in w], "answered with depth 1, and 2 is needed"),
    "another number of channels": (
        lambda w: [w[0], w[1].repeat(1, 2, 1, 1, 1), w[2]],
        "result 1 has 2 channels, and those before 1",
    ),
}


@pytest.mark.parametrize(("change", "words"), WRONG_RESULTS.values(), ids=WRONG_RESULTS.keys())
def test_wrong_results(change, words):
    s = stack(torch.zeros(4, 1, 4, 4), "time:2,step=1", layout="TCHW")
    with pytest.raises(InputError, match=words):
        s.restore(change([w.data for w in s]))


WRONG = {
    "no layout": ({}, "an array of 3×2×4×4 needs a layout, which is not guessed: say which of NCHW, NHWC"),
    "unknown layout": ({"layout": "XYZW"}, "the layout 'XYZW' is unknown"),
    "another rank": ({"layout": "DHW"}, "has 4 axes, and the layout DHW names 3"),
    "several items": ({"layout": "NCHW"}, r"3 items on its axis N, and one is stacked at a time: give array\[i:i\+1\]"),
    "unknown scale": ({"layout": "TCHW", "scale": "half"}, "scale=half is unknown: it may be signed, unit, stored"),
    "scale without a range": ({"layout": "TCHW", "scale": "unit"}, "needs values with a natural range"),
    "unknown channels": ({"layout": "TCHW", "channels": "cmyk"}, "channels=cmyk is unknown"),
    "channels that are not there": (
        {"layout": "TCHW", "channels": "rgb"},
        "needs frames of 1 or 3 channels, and 'the array' has 2",
    ),
    "no size": ({"layout": "TCHW", "size": (0, 4)}, "has no pixels"),
    "huge size": ({"layout": "TCHW", "size": (10**6, 10**6)}, "at most 67,108,864 pixels"),
    "one number as a size": ({"layout": "TCHW", "size": (3,)}, "height, width"),
    "patch too large": ({"layout": "TCHW", "patches": (5, 4)}, "height of 5, and the frames of 4"),
    "overlap too large": ({"layout": "TCHW", "patches": (2, 2), "overlap": 2}, "overlap by 2: it must be less"),
    "overlap of nothing": ({"layout": "TCHW", "overlap": 2}, "is for patches"),
    "an option of DICOM": ({"layout": "TCHW", "series": "1"}, "series= is not for array: leave it out"),
    "an option of NIfTI": ({"layout": "TCHW", "volume": 1}, "volume= is not for array"),
}


@pytest.mark.parametrize(("options", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_options(options, words):
    with pytest.raises(InputError, match=words):
        stack(torch.zeros(3, 2, 4, 4), "single", **options)


def test_a_window_that_is_too_large():
    source = Counting(2**20)
    source.shape, source.sizes = (1, 2000, 2000), {(2000, 2000): "counted"}
    with pytest.raises(InputError, match=f"at most {MAX_WINDOW:,} are stacked"):
        stack(source, "bracket")


def test_patches_too_small_for_a_pyramid():
    with pytest.raises(InputError, match="shorter side has 4 pixels"):
        stack(torch.zeros(1, 1, 64, 64), "pyramid:5", layout="DCHW", patches=(4, 4))
