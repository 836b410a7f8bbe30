"""Joining and repeating slices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.ops import harness as h

aten = torch.ops.aten
VOLUME = (2, 3, 2, 2, 2)

SPELLINGS = h.cases(
    {
        "cat": (lambda x, y: torch.cat([x, y], 2), VOLUME, (2, 3, 3, 2, 2)),
        "cat with itself": (lambda x: torch.cat([x, x, x], 2), VOLUME),
        "cat -1": (lambda x, y: torch.cat((x, y), -1), VOLUME, VOLUME),
        "cat channels": (lambda x, y: torch.cat([x, y], 1), VOLUME, VOLUME),
        "cat batch": (lambda x, y: torch.cat([x, y]), VOLUME, VOLUME),
        "concat": (lambda x, y: torch.concat([x, y], 2), VOLUME, VOLUME),
        "cat of one": (lambda x: torch.cat([x], 2), VOLUME),
        "cat with nothing": (lambda x: torch.cat([x[:, :, :0], x], 2), VOLUME),
        "cat with an old empty tensor": (lambda x: torch.cat([x, torch.zeros(0).double()], 2), VOLUME),
        "cat of two types": (lambda x, y: torch.cat([x, y], 2), VOLUME, VOLUME),
        "cat of two types, cast again": (lambda x: torch.cat([torch.cat([x.float(), x], 2), x], 2), VOLUME),
        "cat of zeros": (lambda x: torch.cat([torch.zeros_like(x), x], 2), VOLUME),
        "hstack": (lambda x, y: torch.hstack([x, y]), VOLUME, VOLUME),
        "dstack": (lambda x, y: torch.dstack([x, y]), VOLUME, VOLUME),
        "stack": (lambda x, y: torch.stack([x, y], 2), VOLUME, VOLUME),
        "stack of itself": (lambda x: torch.stack([x, x, x], 2), VOLUME),
        "stack of some": (lambda x, y: torch.stack([x, y, x], -1), VOLUME, VOLUME),
        "stack of zeros": (lambda x: torch.stack([torch.zeros_like(x), x], 1), VOLUME),
        "expand": (lambda x: x.expand(-1, -1, 4, -1, -1), (2, 3, 1, 2, 2)),
        "expand two": (lambda x: x.expand(3, -1, 4, -1, -1), (1, 3, 1, 2, 2)),
        "expand in front": (lambda x: x.expand(4, 2, 3), (2, 3)),
        "expand in front and inside": (lambda x: x.expand(4, 2, 3, 3), (2, 1, 3)),
        "expand nothing": (lambda x: x.expand(2, -1), (2, 3)),
        "expand a scalar": (lambda x: x.expand(2, 3), ()),
        "expand to none": (lambda x: x.expand(0, 3), (1, 3)),
        "expand_as": (lambda x, y: x.expand_as(y), (2, 1, 2), (3, 2, 4, 2)),
        "broadcast_to": (lambda x: torch.broadcast_to(x, (2, 3, 4)), (3, 1)),
        "broadcast_tensors": (lambda x, y: torch.broadcast_tensors(x, y)[0], (2, 1), (1, 3)),
        "repeat": (lambda x: x.repeat(1, 1, 3, 1, 1), VOLUME),
        "repeat two": (lambda x: x.repeat(1, 1, 2, 2, 1), VOLUME),
        "repeat in front": (lambda x: x.repeat(3, 1, 1), (2, 3)),
        "repeat in front and inside": (lambda x: x.repeat(2, 2, 1), (2, 3)),
        "repeat once": (lambda x: x.repeat(1, 1, 1), (2, 3)),
        "repeat nothing": (lambda x: x.repeat(1, 1), (2, 3)),
        "repeat never": (lambda x: x.repeat(0, 1), (2, 3)),
        "tile": (lambda x: x.tile((2, 1)), (2, 3, 2)),
        "tile more": (lambda x: torch.tile(x, (2, 1, 3)), (2, 3)),
        "repeat_interleave": (lambda x: x.repeat_interleave(2, 2), VOLUME),
        "repeat_interleave by counts": (lambda x: x.repeat_interleave(torch.tensor([1, 2]), 2, output_size=3), VOLUME),
        "unsqueeze, expand, flatten": (lambda x: x.unsqueeze(3).expand(-1, -1, -1, 2, -1, -1).flatten(2, 3), VOLUME),
        "meshgrid": (lambda x, y: torch.meshgrid(x, y, indexing="ij")[1], (2,), (3,)),
        "column of a table": (lambda x: torch.cat([x, x[:, :1].expand(-1, 3, -1, -1, -1)], 2), VOLUME),
        "first frame again and again": (lambda x: torch.cat([x[:, :, :1].repeat(1, 1, 2, 1, 1), x], 2), VOLUME),
    },
    exact=True,
)
SPELLINGS[[c.name for c in SPELLINGS].index("cat of two types")].dtypes = (torch.float64, torch.float32)


@pytest.mark.parametrize("case", SPELLINGS, ids=repr)
@given(data=st.data())
@h.profile(10)
def test_spellings(case, data):
    h.check(case.program, data.draw(h.knowledge(case.program)), exact=True)


def _joined(draw, graph, x):
    """x with copies and relatives of itself along one axis."""
    shape = list(x.meta["val"].shape)
    axis = draw(st.integers(0, len(shape) - 1))
    dim = axis - draw(st.sampled_from((0, len(shape))))
    kind = draw(st.sampled_from(("cat", "cat", "stack", "expand", "repeat", "repeat")))
    if kind == "expand":
        wide = [draw(st.integers(1, 3)) if s == 1 else -1 for s in shape]
        return graph.call(aten.expand.default, x, wide)
    if kind == "repeat":
        times = [draw(st.sampled_from((1, 1, 2))) for _ in shape]
        return graph.call(draw(st.sampled_from((aten.repeat.default, aten.tile.default))), x, times)
    if kind == "stack":
        relatives = [x, graph.call(aten.relu.default, x)]
        parts = draw(st.lists(st.sampled_from(relatives), min_size=1, max_size=3))
        return graph.call(aten.stack.default, parts, draw(st.integers(0, len(shape))))
    zeros = graph.call(aten.zeros_like.default, x)
    first = graph.call(aten.slice.Tensor, x, axis, 0, 1)
    relatives = [x, first, zeros, graph.call(aten.relu.default, x), graph.call(aten.flip.default, x, [axis])]
    parts = draw(st.lists(st.sampled_from(relatives), min_size=1, max_size=4))
    return graph.call(aten.cat.default, parts, dim)


@given(st.data())
@h.profile(120)
def test_sampled_arguments(data):
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    h.alone(data.draw, lambda graph, x: _joined(data.draw, graph, x), *shape, exact=True)


@given(st.data())
@h.profile(180)
def test_between_convolutions(data):
    h.sandwich(data.draw, lambda graph, x: _joined(data.draw, graph, x))


@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        (lambda x: torch.cat([x, x], 2), "ab", "abab"),
        (lambda x: torch.cat([x, x * 2], 2), "a", "ab"),
        (lambda x: torch.cat([x[:, :, :1], x], 2), "ab", "aab"),
        (lambda x: torch.cat([torch.zeros_like(x), x], 2), "ab", "00ab"),
        (lambda x: torch.cat([x, x], 1), "0aab", "0aab"),
        (lambda x: torch.cat([x, x.relu()], 1), "0aab", "0aab"),
        (lambda x: torch.cat([x, x + 1], 1), "0aab", "abbc"),
        (lambda x: torch.stack([x, x], 1), "a", "aa"),  # along the new axis, moved to 2 below
        (lambda x: x.expand(-1, -1, 3, -1, -1), "a", "aaa"),
        (lambda x: x.expand(-1, -1, 3, -1, -1), "0", "000"),
        (lambda x: x.expand(-1, -1, 3, -1, -1), "ab", None),
        (lambda x: x[:, :1].expand(-1, 4, -1, -1, -1), "0ab", "0ab"),
        (lambda x: x.repeat(1, 1, 3, 1, 1), "a", "aaa"),
        (lambda x: x.repeat(1, 1, 2, 1, 1), "0ab", "0ab0ab"),
        (lambda x: x.repeat(1, 2, 1, 1, 1), "0aab", "0aab"),
        (lambda x: x.repeat(1, 1, 2, 2, 1), "0a", "0a0a"),
        (lambda x: x.tile((2, 1, 1)), "ab", "abab"),
        (lambda x: torch.cat([x.repeat(1, 1, 2, 1, 1), x], 2), "a", "aaa"),
        (lambda x: torch.cat([x.expand(-1, -1, 2, -1, -1), x], 2), "a", "aaa"),
    ],
)
def test_found(function, given, expected):
    if expected is None:
        return
    made = function
    if "stack" in str(function.__code__.co_names):
        made = lambda x: function(x).movedim(1, 2)  # noqa: E731
    if "tile" in str(function.__code__.co_names):
        made = lambda x: function(x.movedim(2, -3))  # noqa: E731
    assert h.found(made, given) == expected


def test_two_types_are_not_the_same_slices():
    def cast(x):
        return torch.cat([x.float(), x], 2)

    assert h.found(cast, "a") == "ab"
    assert h.found(lambda x: torch.cat([torch.cat([x.half(), x.float()], 2), x.half()], 2), "a") != "aba"


def test_a_tensor_stacked_on_itself():
    assert h.found(lambda x: torch.stack([x, x, x], 2), (2, 3)) == "aaa"
    assert h.found(lambda x, y: torch.stack([x, y, x], 2), (2, 3), (2, 3)) == "aba"


@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        (lambda x: torch.stack(x.unbind(2), 2), "0aab", "0aab"),
        (lambda x: torch.stack([x[:, :, 1], x[:, :, 0]], 2), "ab", "ab"),  # other slices, in another order
        (lambda x: torch.cat([torch.stack([x[:, :, 1], x[:, :, 0]], 2), x], 2), "ab", "abba"),
        (lambda x: torch.stack([x[:, :, 0], x[:, :, 0] * 2], 2), "ab", "ab"),
        (lambda x: torch.stack([x[:, :, 0] * 0.5, x[:, :, 1]], 2), "0a", "0a"),
        # Frames along another axis than they were taken from are no slices of the source.
        (lambda x: torch.stack(x[:, :, :2].unbind(2), 3).movedim(3, 2), "aa", "ab"),
    ],
)
def test_frames_taken_apart_and_stacked(function, given, expected):
    assert h.found(function, given) == expected


def test_zero_along_one_axis_is_zero_along_all():
    zeros = lambda x: torch.cat([x[:, :, :1].transpose(2, 3), x[:, :, 1:2].transpose(2, 3)], 2)  # noqa: E731
    assert h.found(zeros, "00a") == "0" * 10  # along what was the height
    assert h.found(lambda x: (x[:, :, :1] * 2).transpose(2, 3), "0a") == "00000"
    assert h.found(lambda x: (x[:, :, :1] + 1).transpose(2, 3), "0a") == "aaaaa"


@pytest.mark.parametrize(
    ("op", "inside"),
    [
        (lambda x: torch.cat([x, x.relu()], 1)[:, :4], ["relu", "cat", "slice"]),
        (lambda x: torch.cat([torch.zeros_like(x), x, torch.zeros_like(x)], 2)[:, :, 1:2], []),
        (lambda x: x.expand(2, 4, 1, 7, 6), []),
        (lambda x: x.repeat(1, 1, 1, 2, 1), ["repeat"]),
    ],
)
def test_forms(op, inside):
    h.assert_flat(h.between(op), *inside)


@pytest.mark.parametrize(
    ("op", "inside"),
    [
        (lambda x: torch.cat([x, x, x], 2), []),
        (lambda x: x.repeat(1, 1, 3, 1, 1), []),
        (lambda x: x.expand(-1, -1, 3, -1, -1).relu(), ["relu"]),
        (lambda x: torch.cat([x.new_zeros(2, 4, 2, 7, 6), x], 2), []),
        (lambda x: torch.cat([x[:, :, :1], x[:, :, :1], x], 2).sigmoid(), ["sigmoid"]),
        (lambda x: torch.stack([x.squeeze(2)] * 3, 2), []),
    ],
)
def test_forms_of_three_slices_that_one_convolution_reads(op, inside):
    h.assert_flat(h.between(op, after=(0, 1, 1)), *inside)
