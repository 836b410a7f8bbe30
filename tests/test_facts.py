"""Slice identities and their algebra."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from flatconv.facts import ZERO, Numbering, Slices, pad_positions
from tests.ops.harness import profile

IDS = st.lists(st.integers(0, 4), max_size=6).map(tuple)


def test_the_same_key_has_the_same_number():
    numbering = Numbering()
    first = numbering.number("a")
    assert numbering.number("b") != first
    assert numbering.number("a") == first
    assert first != ZERO


def test_numbers_are_never_handed_out_twice():
    numbering = Numbering()
    blocks = [numbering.block(key, size) for key, size in (("a", 3), ("a", 2), ("b", 3), ("c", 1), ("d", 0), ("e", 2))]
    numbers = [n for block in blocks for n in block]
    assert len(set(numbers)) == len(numbers)
    assert ZERO not in numbers


def test_a_block_is_small_whatever_its_size():
    numbering = Numbering()
    block = numbering.block("axis", 10**9)
    assert isinstance(block, range)
    assert len(block) == 10**9
    assert numbering.block("axis", 10**9) == block
    assert numbering.number("next") == block.stop


def test_a_number_is_a_block_of_one():
    numbering = Numbering()
    assert numbering.block("a", 1)[0] == numbering.number("a")


def test_an_empty_axis():
    numbering = Numbering()
    empty = Slices(numbering.block("empty", 0))
    assert len(empty) == 0
    assert empty.only is None
    assert empty.position is None
    assert not empty.uniform
    assert not empty.all_zero
    assert not Slices(()).all_zero
    assert not Slices(()).uniform


@given(IDS)
@profile(200)
def test_queries(ids):
    slices = Slices(ids)
    numbers = set(ids) - {ZERO}
    assert list(slices) == list(ids)
    assert [slices[i] for i in range(len(slices))] == list(ids)
    assert slices.only == (numbers.pop() if len(numbers) == 1 else None)
    assert slices.uniform == (len(ids) > 0 and len(set(ids)) == 1 and ZERO not in ids)
    assert slices.all_zero == (len(ids) > 0 and set(ids) == {ZERO})
    assert not slices.all_distinct
    if slices.only is not None:
        assert slices.position == ids.index(slices.only)
    else:
        assert slices.position is None


@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_queries_of_distinct_slices(size):
    slices = Slices(range(7, 7 + size))
    assert slices.all_distinct
    assert slices.only == (7 if size == 1 else None)
    assert slices.position == (0 if size == 1 else None)
    assert slices.uniform == (size == 1)
    assert not slices.all_zero


@given(IDS, st.data())
@profile(100)
def test_take(ids, data):
    chosen = st.sampled_from([*range(len(ids)), None])
    positions = data.draw(st.lists(chosen, max_size=6))
    taken = Slices(ids, "somewhere").take(positions)
    assert taken.ids == tuple(ZERO if p is None else ids[p] for p in positions)
    assert taken.origin == "somewhere"
    assert Slices(ids, "somewhere").take(positions, "elsewhere").origin == "elsewhere"


@given(st.integers(0, 6), st.integers(0, 7), st.integers(0, 7), st.sampled_from((1, 2, 3)))
@profile(100)
def test_take_a_range_of_distinct_slices(size, start, stop, step):
    positions = range(*slice(start, stop, step).indices(size))
    taken = Slices(range(10, 10 + size)).take(positions)
    assert list(taken) == [10 + p for p in positions]
    if step == 1:
        assert taken.all_distinct  # as small as before


def test_take_backwards():
    assert list(Slices(range(10, 13)).take(range(2, -1, -1))) == [12, 11, 10]
    assert list(Slices((1, 2, 3)).take(range(2, -1, -1))) == [3, 2, 1]


@given(st.lists(st.one_of(IDS, st.builds(range, st.just(5), st.integers(5, 8))), min_size=1, max_size=4))
@profile(100)
def test_concatenate(parts):
    joined = Slices.concatenate([Slices(p) for p in parts], "joined")
    assert list(joined) == [i for p in parts for i in p]
    if len(parts) > 1:
        repeats = len(set(joined)) < len(joined) or ZERO in set(joined)
        assert joined.origin == ("joined" if repeats else "")


def test_concatenate_keeps_the_words_of_what_it_joins():
    zeros = Slices((ZERO, 1), "1 slice of zeros")
    assert Slices.concatenate([zeros], "joined").origin == "1 slice of zeros"
    assert Slices.concatenate([zeros, Slices(range(2, 4))], "").origin == "1 slice of zeros"


def test_the_origin_is_no_part_of_the_claim():
    assert Slices((1, 1), "here").ids == Slices((1, 1), "there").ids


@given(
    st.sampled_from(("constant", "replicate", "reflect", "circular")),
    st.integers(1, 5),
    st.integers(0, 5),
    st.integers(0, 5),
)
@profile(300)
def test_pad_positions_are_torchs(mode, size, lo, hi):
    limit = {"reflect": size - 1, "circular": size}.get(mode, 5)
    lo, hi = min(lo, limit), min(hi, limit)
    assert pad_positions(mode, size, lo, hi) == torch_positions(mode, size, lo, hi)


@given(
    st.sampled_from(("constant", "replicate", "reflect", "circular")),
    st.integers(1, 5),
    st.integers(-3, 3),
    st.integers(-3, 3),
)
@profile(300)
def test_cropping_pad_positions_are_torchs(mode, size, lo, hi):
    left = size + min(lo, 0) + min(hi, 0)
    if left <= 0 or max(lo, hi) > {"reflect": left - 1, "circular": left}.get(mode, 5):
        return  # torch refuses, or its result is not defined
    assert pad_positions(mode, size, lo, hi) == torch_positions(mode, size, lo, hi)


def torch_positions(mode: str, size: int, lo: int, hi: int) -> list[int | None]:
    padded = F.pad(torch.arange(1.0, size + 1)[None, None], (lo, hi), mode=mode)[0, 0]
    return [int(v) - 1 if v else None for v in padded]


def test_this_module_never_imports_torch():
    source = "import sys; sys.path.insert(0, sys.argv[1]); import facts; assert 'torch' not in sys.modules"
    folder = sys.modules["flatconv.facts"].__file__.rpartition("/")[0]
    subprocess.run([sys.executable, "-c", source, folder], check=True)
