"""Choosing and reordering slices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.ops import harness as h

aten = torch.ops.aten
VOLUME = (2, 3, 5, 2, 2)

SPELLINGS = h.cases(
    {
        "one": (lambda x: x[:, :, 0], VOLUME),
        "last": (lambda x: x[:, :, -1], VOLUME),
        "range": (lambda x: x[:, :, 1:3], VOLUME),
        "negative range": (lambda x: x[:, :, -3:-1], VOLUME),
        "step": (lambda x: x[:, :, ::2], VOLUME),
        "offset step": (lambda x: x[:, :, 1::3], VOLUME),
        "past the end": (lambda x: x[:, :, 2:100], VOLUME),
        "nothing": (lambda x: x[:, :, 3:3], VOLUME),
        "everything": (lambda x: x[:, :, :], VOLUME),
        "two axes": (lambda x: x[1:, :, ::2, 0], VOLUME),
        "ellipsis": (lambda x: x[..., 1:, None], VOLUME),
        "narrow": (lambda x: x.narrow(2, 1, 3), VOLUME),
        "narrow from behind": (lambda x: x.narrow(-3, -2, 2), VOLUME),
        "select": (lambda x: x.select(-3, 2), VOLUME),
        "split": (lambda x: torch.cat([p * i for i, p in enumerate(x.split(2, 2))], 2), VOLUME),
        "split sizes": (lambda x: x.split((1, 3, 1), 2)[1], VOLUME),
        "split last": (lambda x: x.split(2, -3)[-1], VOLUME),
        "chunk": (lambda x: x.chunk(3, 2)[2], VOLUME),
        "chunk fewer": (lambda x: x.chunk(4, 2)[2], VOLUME),
        "tensor_split": (lambda x: x.tensor_split(3, 2)[1], VOLUME),
        "tensor_split at": (lambda x: x.tensor_split((1, 4), 2)[1], VOLUME),
        "unbind": (lambda x: x.unbind(2)[3], VOLUME),
        "unbind last": (lambda x: x.unbind(2)[-1], VOLUME),
        "unbind default": (lambda x: x.unbind()[1], VOLUME),
        "unpacked": (lambda x: _swapped(*x.chunk(2, 1)), (2, 4, 3, 2)),
        "loop over frames": (lambda x: torch.stack([f * 2 for f in x.unbind(2)], 2), VOLUME),
        "flip": (lambda x: x.flip(2), VOLUME),
        "flip two": (lambda x: x.flip((2, 3)), VOLUME),
        "flip -1": (lambda x: torch.flip(x, (-1,)), VOLUME),
        "roll": (lambda x: x.roll(2, 2), VOLUME),
        "roll back": (lambda x: x.roll(-1, 2), VOLUME),
        "roll two": (lambda x: x.roll((1, 1), (2, 3)), VOLUME),
        "roll flat": (lambda x: x.roll(1), VOLUME),
        "index": (lambda x: x[:, :, [0, 0, 4, 1]], VOLUME),
        "index negative": (lambda x: x[:, :, [-1, 0, -2]], VOLUME),
        "index tensor": (lambda x: x[:, :, torch.tensor([1, 1])], VOLUME),
        "index twice": (lambda x: x[:, [0, 1], [1, 2]], VOLUME),
        "index 2-D": (lambda x: x[:, :, torch.tensor([[0, 1], [2, 0]])], VOLUME),
        "index first": (lambda x: x[[1, 0, 1]], VOLUME),
        "index of an input": (lambda x, i: x[:, :, i % 5], VOLUME, (3,)),
        "index_select": (lambda x: x.index_select(2, torch.tensor([3, 3, 0])), VOLUME),
        "index_select one": (lambda x: x.index_select(-3, torch.tensor([4])), VOLUME),
        "gather": (lambda x: x.gather(2, torch.zeros(2, 3, 2, 2, 2, dtype=torch.int64)), VOLUME),
        "index of a made list": (lambda x: x[:, :, torch.arange(4)], VOLUME),
        "index of a changed list": (lambda x: _changed(x), VOLUME),
        "take_along": (lambda x: x.take_along_dim(torch.zeros(1, 1, 1, 1, 1, dtype=torch.int64), 2), VOLUME),
        "even and odd": (lambda x: torch.cat([x[:, :, ::2], x[:, :, 1::2]], 2), VOLUME),
        "assigned": (lambda x: _assigned(x), VOLUME),
        "assigned to zero": (lambda x: _zeroed(x), VOLUME),
        "diagonal": (lambda x: x.diagonal(dim1=3, dim2=4), VOLUME),
        "unfold": (lambda x: x.unfold(2, 3, 1), VOLUME),
        "window of frames": (lambda x: x[:, :, :-1] - x[:, :, 1:], VOLUME),
    },
    exact=True,
)
SPELLINGS[[c.name for c in SPELLINGS].index("index of an input")].dtypes = (torch.float64, torch.int64)


def _swapped(a, b):
    return torch.cat([b, a], 1)


def _changed(x):
    index = torch.tensor([0, 0])
    index += 1
    return x[:, :, index]


def _assigned(x):
    x = x.clone()
    x[:, :, 0] = x[:, :, 1]
    return x


def _zeroed(x):
    x = x.clone()
    x[:, :, 1:3].zero_()
    return x


@pytest.mark.parametrize("case", SPELLINGS, ids=repr)
@given(data=st.data())
@h.profile(8)
def test_spellings(case, data):
    h.check(case.program, data.draw(h.knowledge(case.program)), exact=True)


def _picked(draw, graph, x):
    shape = x.meta["val"].shape
    axis = draw(st.integers(0, len(shape) - 1))
    size = shape[axis]
    dim = axis - draw(st.sampled_from((0, len(shape))))
    kind = draw(
        st.sampled_from(("slice", "select", "index", "index_select", "flip", "roll", "narrow", "piece", "unbind"))
    )
    if kind == "slice":
        ends = st.one_of(st.none(), st.integers(-size - 1, size + 1))
        return graph.call(aten.slice.Tensor, x, dim, draw(ends), draw(ends), draw(st.integers(1, 3)))
    if kind == "select":
        return graph.call(aten.select.int, x, dim, draw(st.integers(-size, size - 1)))
    if kind in ("index", "index_select"):
        chosen = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=4))
        index = graph.weight(torch.tensor(chosen), literal=draw(st.integers(0, 4)) > 0)
        if kind == "index":
            return graph.call(aten.index.Tensor, x, [None] * axis + [index])
        return graph.call(aten.index_select.default, x, dim, index)
    if kind == "flip":
        return graph.call(aten.flip.default, x, [dim])
    if kind == "roll":
        return graph.call(aten.roll.default, x, [draw(st.integers(-4, 4))], [dim])
    if kind == "narrow":
        start = draw(st.integers(0, size))
        return graph.call(aten.narrow.default, x, dim, start, draw(st.integers(0, size - start)))
    if kind == "unbind":
        pieces = graph.call(aten.unbind.int, x, dim)
    else:
        target = draw(st.sampled_from((aten.split.Tensor, aten.chunk.default, aten.tensor_split.sections)))
        pieces = graph.call(target, x, draw(st.integers(1, 3)), dim)
    return graph.call(h.operator.getitem, pieces, draw(st.integers(0, len(pieces.meta["val"]) - 1)))


@given(st.data())
@h.profile(150)
def test_sampled_arguments(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    h.alone(data.draw, lambda graph, x: _picked(data.draw, graph, x), *shape, exact=True)


@given(st.data())
@h.profile(150)
def test_between_convolutions(data):
    def op(graph, x):
        made = _picked(data.draw, graph, x)
        return made if made.meta["val"].numel() else None

    h.sandwich(data.draw, op)


@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        (lambda x: x[:, :, 1:3], "00ab", "0a"),
        (lambda x: x[:, :, ::2], "00ab", "0a"),
        (lambda x: x[:, :, -2:], "00ab", "ab"),
        (lambda x: x.flip(2), "00ab", "ab00"),
        (lambda x: x.roll(1, 2), "00ab", "a00b"),
        (lambda x: x[:, :, [0, 2, 2]], "00ab", "0aa"),
        (lambda x: x[:, :, [0, 0, 0]], "abc", "aaa"),
        (lambda x: x.index_select(2, torch.tensor([1, 2])), "00ab", "0a"),
        (lambda x: x.split(2, 2)[1], "00aa", "aa"),
        (lambda x: x.chunk(2, 2)[0], "00ab", "00"),
        (lambda x: x.narrow(2, 1, 2), "00ab", "0a"),
        (lambda x: torch.cat([x[:, :, :1], x, x[:, :, -1:]], 2), "abc", "aabcc"),
        (lambda x: torch.cat([x[:, :, :1]] * 2 + [x], 2), "abc", "aaabc"),
        (lambda x: torch.cat(x.split(1, 2)[::-1], 2), "aab", "abb"),
        (lambda x: x[:, :, :, 1:], "0aab", "0aab"),
        (lambda x: x[:, 1], "a", None),
        (lambda x: x.repeat_interleave(2, 2), "0ab", "00aabb"),
        (lambda x: x.repeat_interleave(3, dim=-3), "ab", "aaabbb"),
        (lambda x: x.repeat_interleave(2, 3), "0aab", "0aab"),
        (lambda x: x.repeat_interleave(torch.tensor([1, 2]), 2, output_size=3), "aa", "abc"),
    ],
)
def test_found(function, given, expected):
    if expected is not None:
        assert h.found(function, given) == expected


def test_a_slice_of_zeros_is_zero_along_every_axis():
    assert h.found(lambda x: x[:, :, 0], "0ab", axis=2) == "00000"
    assert h.found(lambda x: x.unbind(2)[0], "0ab", axis=2) == "00000"


def test_one_frame_taken_out_and_put_back():
    assert h.found(lambda x: torch.cat([x[:, :, 0].unsqueeze(2), x], 2), "abc") in ("aabc", "abcd")
    assert h.found(lambda x: torch.cat([x[:, :, 0:1], x], 2), "abc") == "aabc"


@pytest.mark.parametrize(
    ("op", "inside"),
    [
        (lambda x: x[:, :, :, 1:], ["slice"]),
        (lambda x: x[:, :, 0].unsqueeze(2), []),
        (lambda x: x[:, :, -1:], []),
        (lambda x: x.flip(2), []),
        (lambda x: x.flip(3), ["flip"]),
        (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), ["slice", "slice", "cat"]),
        (lambda x: torch.cat([x, x], 2)[:, :, 1:], []),
        (lambda x: x.repeat_interleave(3, 2)[:, :, 1:2], []),
        (lambda x: x.repeat_interleave(2, 3), ["repeat_interleave"]),
        (lambda x: torch.stack([f.relu() for f in x.unbind(2)], 2), ["relu"]),
    ],
)
def test_forms(op, inside):
    h.assert_flat(h.between(op), *inside)
