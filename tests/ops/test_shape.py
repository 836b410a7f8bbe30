"""Reshapes and permutations."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flatconv.ops.shape import groups
from tests.ops import harness as h

aten = torch.ops.aten
VOLUME = (2, 4, 3, 2, 2)

SPELLINGS = h.cases(
    {
        "view": (lambda x: x.view(2, 4, 3, 4), VOLUME),
        "view -1": (lambda x: x.view(2, -1), VOLUME),
        "reshape": (lambda x: x.reshape(8, 3, 2, 2), VOLUME),
        "reshape across": (lambda x: x.reshape(2, 2, 6, 4), VOLUME),
        "reshape of a transposed": (lambda x: x.transpose(1, 2).reshape(6, 4, 2, 2), VOLUME),
        "view_as": (lambda x: x.view_as(torch.zeros(2, 12, 4)), VOLUME),
        "flatten": (lambda x: x.flatten(), VOLUME),
        "flatten some": (lambda x: x.flatten(2), VOLUME),
        "flatten two": (lambda x: torch.flatten(x, 1, 2), VOLUME),
        "unflatten": (lambda x: x.unflatten(1, (2, 2)), VOLUME),
        "unflatten -1": (lambda x: x.unflatten(1, (-1, 2)), VOLUME),
        "split and merge": (lambda x: x.view(2, 2, 2, 3, 2, 2).flatten(2, 3), VOLUME),
        "squeeze": (lambda x: x.squeeze(), (2, 1, 3, 1)),
        "squeeze one": (lambda x: x.squeeze(1), (2, 1, 3, 1)),
        "squeeze nothing": (lambda x: x.squeeze(0), (2, 1, 3, 1)),
        "squeeze two": (lambda x: torch.squeeze(x, (1, 3)), (2, 1, 3, 1)),
        "unsqueeze": (lambda x: x.unsqueeze(2), (2, 3, 2)),
        "unsqueeze -1": (lambda x: x.unsqueeze(-1), (2, 3, 2)),
        "None": (lambda x: x[:, None, :, None], (2, 3, 2)),
        "ones moved about": (lambda x: x.reshape(1, 2, 3, 1, 2), (2, 1, 3, 2, 1)),
        "to rank 0": (lambda x: x.reshape(()), (1, 1)),
        "permute": (lambda x: x.permute(0, 2, 1, 4, 3), VOLUME),
        "permute negative": (lambda x: x.permute(-1, 0, 1, -2, 2), VOLUME),
        "transpose": (lambda x: x.transpose(1, -1), VOLUME),
        "swapaxes": (lambda x: x.swapaxes(0, 2), VOLUME),
        "movedim": (lambda x: x.movedim(1, -1), VOLUME),
        "movedim two": (lambda x: x.movedim((0, 3), (2, 1)), VOLUME),
        "moveaxis": (lambda x: torch.moveaxis(x, 2, 0), VOLUME),
        "t": (lambda x: x.t(), (2, 3)),
        "T": (lambda x: x.T, (2, 3)),
        "mT": (lambda x: x.mT, VOLUME),
        "adjoint": (lambda x: x.adjoint(), VOLUME),
        "frames into batch": (lambda x: x.permute(0, 2, 1, 3, 4).reshape(6, 4, 2, 2), VOLUME),
        "and back": (lambda x: _back(_into_batch(x) * 2, 2), VOLUME),
        "patches": (lambda x: x.reshape(2, 4, 3, 1, 2, 1, 2).permute(0, 3, 5, 1, 2, 4, 6).flatten(3), VOLUME),
        "tokens": (lambda x: x.flatten(2).transpose(1, 2), VOLUME),
        "pixel_shuffle": (lambda x: torch.pixel_shuffle(x, 2), (2, 4, 2, 3)),
        "pixel_unshuffle": (lambda x: torch.pixel_unshuffle(x, 2), (2, 1, 4, 2)),
        "channel shuffle": (lambda x: x.view(2, 2, 2, 3, 2, 2).transpose(1, 2).flatten(1, 2), VOLUME),
        "depth to space": (
            lambda x: x.reshape(2, 2, 2, 3, 2, 2).permute(0, 1, 3, 2, 4, 5).reshape(2, 2, 6, 2, 2),
            VOLUME,
        ),
        "empty": (lambda x: x.reshape(3, 0), (2, 0, 3)),
    },
    exact=True,
)


def _into_batch(x):
    return x.transpose(1, 2).flatten(0, 1)


def _back(x, n):
    return x.unflatten(0, (n, -1)).transpose(1, 2)


@pytest.mark.parametrize("case", SPELLINGS, ids=repr)
@given(data=st.data())
@h.profile(8)
def test_spellings(case, data):
    h.check(case.program, data.draw(h.knowledge(case.program)), exact=True)


@st.composite
def factored(draw):
    """Two shapes of as many elements: one list of factors, put together twice."""
    factors = draw(st.lists(st.sampled_from((1, 1, 2, 2, 3)), min_size=1, max_size=5))

    def grouped():
        cuts = sorted(draw(st.lists(st.integers(0, len(factors)), max_size=4)))
        bounds = [0, *cuts, len(factors)]
        return tuple(math.prod(factors[a:b]) for a, b in itertools.pairwise(bounds))

    return grouped(), grouped()


@given(st.data(), factored())
@h.profile(120)
def test_sampled_reshapes(data, shapes):
    before, behind = shapes
    h.alone(data.draw, lambda graph, x: graph.call(aten.reshape.default, x, list(behind)), *before, exact=True)


@given(factored())
@h.profile(200)
def test_groups_partition_the_axes(shapes):
    before, behind = shapes
    found = groups(before, behind)
    assert [a for ins, _ in found for a in ins] == [a for a, s in enumerate(before) if s != 1]
    assert [a for _, outs in found for a in outs] == [a for a, s in enumerate(behind) if s != 1]
    for ins, outs in found:
        assert math.prod(before[a] for a in ins) == math.prod(behind[a] for a in outs)


@pytest.mark.parametrize(
    ("before", "behind", "expected"),
    [
        ((2, 3, 4), (6, 4), [((0, 1), (0,)), ((2,), (1,))]),
        ((2, 12), (2, 3, 4), [((0,), (0,)), ((1,), (1, 2))]),
        ((2, 1, 3), (1, 2, 3, 1), [((0,), (1,)), ((2,), (2,))]),
        ((4, 6), (2, 12), [((0, 1), (0, 1))]),
        ((2, 3), (2, 3), [((0,), (0,)), ((1,), (1,))]),
        ((1,), (), []),
    ],
)
def test_groups(before, behind, expected):
    assert groups(before, behind) == expected


def _view(draw, graph, x):
    """A permutation and a reshape that puts neighbours together or takes them apart."""
    if draw(st.booleans()):
        x = graph.call(aten.permute.default, x, list(draw(st.permutations(range(x.meta["val"].dim())))))
    shape = list(x.meta["val"].shape)
    kind = draw(st.sampled_from(("none", "merge", "unsqueeze", "squeeze", "split")))
    if kind == "merge":
        a = draw(st.integers(0, len(shape) - 2))
        shape[a : a + 2] = [shape[a] * shape[a + 1]]
        x = graph.call(aten.reshape.default, x, shape)
    elif kind == "unsqueeze":
        x = graph.call(aten.unsqueeze.default, x, draw(st.integers(-len(shape) - 1, len(shape))))
    elif kind == "squeeze":
        x = graph.call(aten.squeeze.dim, x, draw(st.integers(-len(shape), len(shape) - 1)))
    elif kind == "split":
        a = draw(st.integers(0, len(shape) - 1))
        shape[a : a + 1] = draw(st.sampled_from(([1, shape[a]], [shape[a], 1], [2, -1] if shape[a] % 2 == 0 else [-1])))
        x = graph.call(aten.reshape.default, x, shape)
    if x.meta["val"].dim() in (4, 5) and draw(st.booleans()):
        x = graph.call(aten.relu.default, x)
    return x


@given(st.data())
@h.profile(150)
def test_between_convolutions(data):
    def op(graph, x):
        for _ in range(data.draw(st.integers(1, 3))):
            x = _view(data.draw, graph, x)
        return x

    h.sandwich(data.draw, op)


@pytest.mark.parametrize(
    ("function", "axis", "given", "expected"),
    [
        (lambda x: x.permute(0, 2, 1, 3, 4), 1, "00ab", "00ab"),
        (lambda x: x.unsqueeze(0), 3, "00ab", "00ab"),
        (lambda x: x.flatten(3), 2, "00ab", "00ab"),
        (lambda x: x.flatten(0, 1), 1, "aab", "aab"),
        (lambda x: x.transpose(1, 2).flatten(0, 1), 0, "0a", "0a0b"),
        (lambda x: x.flatten(1, 2), 1, "0a", "0a0b0c0d"),
        (lambda x: x.unflatten(2, (2, 2)), 2, "00ab", "0a"),
        (lambda x: x.unflatten(2, (2, 2)), 2, "abab", "aa"),
        (lambda x: x.unflatten(2, (2, 2)), 3, "abab", "ab"),
        (lambda x: x.unflatten(2, (2, 2)), 3, "aabb", "aa"),
        (lambda x: x.unflatten(2, (2, 2)), 3, "abba", "ab"),
        (lambda x: x.unflatten(2, (2, 2)), 3, "0a0b", "0a"),
        (lambda x: x.unflatten(2, (2, 2)), 3, "0aa0", "ab"),
        (lambda x: x.unflatten(2, (2, 2)), 3, "00ab", "ab"),
        (lambda x: x.unflatten(2, (2, 2, 2)), 2, "ababcdcd", "ab"),
        (lambda x: x.unflatten(2, (2, 2, 2)), 3, "ababcdcd", "aa"),
        (lambda x: x.unflatten(2, (2, 2, 2)), 4, "ababcdcd", "ab"),
        (lambda x: x.unflatten(2, (2, 2, 2)), 4, "aabbccdd", "aa"),
        (lambda x: x.unflatten(2, (2, 2, 2)), 3, "0a0b0c0d", "ab"),
        (lambda x: x.unflatten(2, (2, 2, 2)), 4, "0a0b0c0d", "0a"),
        (lambda x: x.unflatten(2, (3, 2)), 3, "aabbcc", "aa"),
        (lambda x: x.unflatten(2, (3, 2)), 2, "abcabc", "abc"),
        (lambda x: x.unflatten(2, (2, 3)), 3, "aaabbb", "aaa"),
        (lambda x: x.unflatten(2, (3, 2)).flatten(2, 3), 2, "aabbcc", "aabbcc"),
        (lambda x: x.unflatten(2, (2, 4)).unflatten(3, (2, 2)), 3, "ababcdcd", "aa"),
        (lambda x: x.unflatten(2, (4, 2)).unflatten(2, (2, 2)), 3, "ababcdcd", "aa"),
        (lambda x: x.unflatten(2, (2, 2, 1, 2)), 3, "ababcdcd", "aa"),
    ],
)
def test_found(function, axis, given, expected):
    def moved(x):
        return function(x).movedim(axis, 2)

    assert h.found(moved, given) == expected


@st.composite
def laid_out(draw):
    """Sizes laid out flat, and letters of the flat axis: repeated along one of them, and a few zeros there or anywhere."""
    sizes = draw(st.lists(st.sampled_from((1, 2, 2, 3)), min_size=1, max_size=4))
    letters = torch.arange(1, math.prod(sizes) + 1).reshape(sizes)
    for axis in draw(st.sets(st.integers(0, len(sizes) - 1), min_size=1, max_size=2)):
        kind = draw(st.sampled_from(("repeated", "repeated", "zero at one", "as it is")))
        if kind == "repeated":
            letters = letters.narrow(axis, 0, 1).expand_as(letters).clone()
        elif kind == "zero at one":
            letters = letters.clone()
            letters.select(axis, draw(st.integers(0, sizes[axis] - 1))).zero_()
    letters = letters.flatten()
    if draw(st.integers(0, 3)) == 0:
        letters[draw(st.integers(0, len(letters) - 1))] = draw(st.sampled_from((0, 1)))
    return sizes, tuple(letters.tolist())


@given(st.data(), laid_out())
@h.profile(150)
def test_axes_laid_out_flat(data, laid):
    """Taken apart as they were laid out or otherwise, moved about, worked on, and put together again."""
    sizes, letters = laid
    flat = math.prod(sizes)
    graph = h.Graph()
    x = graph.input(2, flat, 3)
    if data.draw(st.booleans()):
        x = graph.call(aten.mul.Tensor, x, 2.0)
    apart = data.draw(st.sampled_from([sizes, sizes[::-1], [*sizes[:1], -1]]))
    y = graph.call(aten.reshape.default, x, [2, *apart, 3])
    for _ in range(data.draw(st.integers(0, 2))):
        rank = y.meta["val"].dim()
        if data.draw(st.booleans()):
            y = graph.call(aten.permute.default, y, list(data.draw(st.permutations(range(rank)))))
        else:
            y = graph.call(aten.flatten.using_ints, y, *sorted(data.draw(st.integers(0, rank - 1)) for _ in range(2)))
    results = [y]
    if data.draw(st.booleans()):
        results.append(graph.call(aten.reshape.default, y, [2, flat, 3]))
    program = graph.program(*results)
    known = h.Known({(program.inputs[0], 1): letters})
    if data.draw(st.booleans()):
        known.letters[program.inputs[0], 2] = data.draw(h.letters(3))
    h.check(program, known, exact=True)


@given(st.data(), laid_out())
@h.profile(80)
def test_axes_laid_out_flat_before_a_convolution(data, laid):
    sizes, letters = laid
    sizes = [*sizes, 1, 1, 1][: max(len(sizes), 3)]
    graph = h.Graph()
    y = graph.call(aten.reshape.default, graph.input(2, math.prod(sizes)), [2, *sizes])
    n = len(sizes) - 1
    kernel = [data.draw(st.integers(1, s)) for s in sizes[1:]]
    values = torch.randn(2, sizes[0], *kernel, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    target = {2: aten.conv2d.default, 3: aten.conv3d.default}[n]
    y = graph.call(target, y, graph.weight(values), None, data.draw(st.sampled_from(([1] * n, kernel))))
    program = graph.program(y, graph.call(aten.flatten.using_ints, y, 1))
    h.check(program, h.Known({(program.inputs[0], 1): letters}))


def test_the_same_slices_as_rows_and_as_columns():
    """One view takes columns apart and one takes rows apart: what they make of the same slices is not the same."""

    def both(p, q):
        columns, rows = torch.stack([p, q, p, q], 1), torch.stack([p, p, q, q], 0)
        return columns.view(2, 2, 2), rows.view(2, 2, 2)

    program = h.Case("", both, ((2,), (2,))).program
    h.check(program, exact=True)
    columns = h.Case("", lambda p, q: both(p, q)[0], ((2,), (2,))).program
    assert h.pattern(h.check(columns).facts.along(columns.outputs[0], 1)) == "aa"


def test_a_view_is_the_same_slices():
    assert h.found(lambda x: torch.cat([x, x.unsqueeze(0).squeeze(0)], 2), "ab") in ("abab", "abcd")


@pytest.mark.parametrize(
    ("op", "inside"),
    [
        (lambda x: _back(_into_batch(x).relu(), 2), ["relu"]),
        (lambda x: x.permute(0, 2, 3, 4, 1).relu().permute(0, 4, 1, 2, 3), ["permute", "relu", "permute"]),
        (lambda x: x.squeeze(2).unsqueeze(2), []),
        (lambda x: x.transpose(3, 4), ["transpose"]),
        (lambda x: x.flatten(2).relu().reshape(x.shape), ["reshape", "relu", "reshape"]),
        (nn.Identity(), []),
    ],
)
def test_forms(op, inside):
    made = h.between(op)
    same = {"view": "reshape", "flatten": "reshape", "transpose": "permute", "unflatten": "reshape"}
    made.ops = [same.get(op, op) for op in made.ops]
    h.assert_flat(made, *[same.get(op, op) for op in inside])
