"""The carrying of facts that all rooms share: whole random programs, in which numbers meet across tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from flatconv.analyse import analyse
from tests.ops import harness as h

aten = torch.ops.aten


class Growing:
    """A random program: tensors of rank 4 (N, C, D, W) that are made from each other."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.graph = h.Graph()
        depths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
        self.pool = [self.graph.input(2, 2, d, 3) for d in depths]
        self.weights = 0

    def any(self) -> Any:
        return self.draw(st.sampled_from(self.pool))

    def shape(self, node: Any) -> tuple[int, ...]:
        return tuple(node.meta["val"].shape)

    def grow(self) -> None:
        step = self.draw(st.sampled_from(STEPS))
        try:
            made = step(self, self.any())
        except (RuntimeError, IndexError):  # sizes do not fit
            return
        size = made.meta["val"].numel()
        if made.meta["val"].dim() == 4 and 0 < size <= 1000:
            self.pool.append(made)


def _axis(g: Growing) -> int:
    return g.draw(st.sampled_from((2, 2, 2, 3, 0, 1)))


def _slice(g: Growing, x: Any) -> Any:
    axis = _axis(g)
    size = g.shape(x)[axis]
    start = g.draw(st.integers(0, size - 1))
    return g.graph.call(
        aten.slice.Tensor, x, axis, start, g.draw(st.integers(start + 1, size)), g.draw(st.integers(1, 2))
    )


def _cat(g: Growing, x: Any) -> Any:
    return g.graph.call(aten.cat.default, [x, g.any()], _axis(g))


def _pad(g: Growing, x: Any) -> Any:
    d, w = (
        g.draw(st.tuples(st.integers(-1, 2), st.integers(0, 2))),
        g.draw(st.tuples(st.integers(0, 1), st.integers(0, 1))),
    )
    mode = g.draw(st.sampled_from(("constant", "constant", "replicate", "reflect", "circular")))
    d = (max(d[0], 0), d[1]) if mode == "circular" else d  # cropping and wrapping at once: see test_pad.py
    return g.graph.call(
        aten.pad.default, x, [*w, *d], mode, *([g.draw(st.sampled_from((0.0, 1.5)))] if mode == "constant" else [])
    )


def _expand(g: Growing, x: Any) -> Any:
    return g.graph.call(aten.expand.default, x, [-1, -1, g.draw(st.integers(1, 3)), -1])


def _repeat(g: Growing, x: Any) -> Any:
    return g.graph.call(
        aten.repeat.default, x, g.draw(st.sampled_from(([1, 1, 2, 1], [1, 2, 1, 1], [1, 1, 2, 2], [2, 1, 1, 1])))
    )


def _add(g: Growing, x: Any) -> Any:
    return g.graph.call(g.draw(st.sampled_from((aten.add.Tensor, aten.mul.Tensor, aten.sub.Tensor))), x, g.any())


def _unary(g: Growing, x: Any) -> Any:
    return g.graph.call(
        g.draw(st.sampled_from((aten.relu.default, aten.cos.default, aten.clone.default, aten.neg.default))), x
    )


def _flip(g: Growing, x: Any) -> Any:
    return g.graph.call(aten.flip.default, x, [_axis(g)])


def _select(g: Growing, x: Any) -> Any:
    axis = _axis(g)
    picked = g.graph.call(aten.select.int, x, axis, g.draw(st.integers(0, g.shape(x)[axis] - 1)))
    return g.graph.call(aten.unsqueeze.default, picked, axis)


def _stack(g: Growing, x: Any) -> Any:
    stacked = g.graph.call(aten.stack.default, [x, g.any()], 2)
    return g.graph.call(aten.flatten.using_ints, stacked, *g.draw(st.sampled_from(((1, 2), (2, 3)))))


def _transpose(g: Growing, x: Any) -> Any:
    return g.graph.call(aten.transpose.int, x, *g.draw(st.sampled_from(((2, 3), (0, 2), (1, 2)))))


def _conv(g: Growing, x: Any) -> Any:
    kd, kw = g.draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    channels = g.shape(x)[1]
    weight = g.graph.weight(torch.randn(2, channels, kd, kw, dtype=torch.float64))
    bias = g.graph.weight(torch.randn(2, dtype=torch.float64)) if g.draw(st.booleans()) else None
    padding, stride = [g.draw(st.integers(0, 2)), 0], [g.draw(st.integers(1, 2)), 1]
    if g.draw(st.integers(0, 3)) == 0:
        weight = g.graph.weight(torch.randn(channels, 2, kd, kw, dtype=torch.float64))
        return g.graph.call(aten.conv_transpose2d.input, x, weight, bias, stride, padding, [0, 0], 1, [1, 1])
    return g.graph.call(aten.conv2d.default, x, weight, bias, stride, padding, [g.draw(st.integers(1, 2)), 1], 1)


def _pool(g: Growing, x: Any) -> Any:
    target = g.draw(st.sampled_from((aten.max_pool2d.default, aten.avg_pool2d.default)))
    kernel = [g.draw(st.integers(1, 3)), 1]
    return g.graph.call(target, x, kernel, [g.draw(st.integers(1, 2)), 1], [g.draw(st.integers(0, 1)), 0])


def _norm(g: Growing, x: Any) -> Any:
    return g.graph.call(aten.group_norm.default, x, 1, None, None, 1e-5)


def _reduce(g: Growing, x: Any) -> Any:
    return g.graph.call(g.draw(st.sampled_from((aten.sum.dim_IntList, aten.amax.default))), x, [_axis(g)], True)


def _resize(g: Growing, x: Any) -> Any:
    return g.graph.call(aten.upsample_nearest2d.vec, x, None, [2.0, 1.0])


def _softmax(g: Growing, x: Any) -> Any:
    return g.graph.call(g.draw(st.sampled_from((aten.softmax.int, aten.cumsum.default))), x, _axis(g))


def _matmul(g: Growing, x: Any) -> Any:
    return g.graph.call(aten.matmul.default, x, g.any())


def _zeros(g: Growing, x: Any) -> Any:
    return g.graph.call(g.draw(st.sampled_from((aten.zeros_like.default, aten.ones_like.default))), x)


def _split(g: Growing, x: Any) -> Any:
    return g.graph.call(aten.view.default, x, [2, 2, 1, -1])


STEPS = (
    _slice, _slice, _cat, _cat, _pad, _pad, _expand, _repeat, _add, _add, _unary, _flip, _select, _stack, _transpose, _conv,
    _conv, _pool, _norm, _reduce, _resize, _softmax, _matmul, _zeros, _split,
)  # fmt: skip


@st.composite
def programs(draw: Any, steps: int = 8) -> Any:
    g = Growing(draw)
    for _ in range(draw(st.integers(2, steps))):
        g.grow()
    inputs = 1 + (len(g.pool) > 1)
    outputs = draw(st.lists(st.sampled_from(g.pool[inputs:] or g.pool), min_size=1, max_size=2, unique=True))
    return g.graph.program(*outputs)


@given(st.data())
@h.profile(250)
def test_random_programs(data):
    program = data.draw(programs())
    known = data.draw(h.knowledge(program))
    h.check_facts(program, known)
    h.check_lowering(program, known)


def test_nothing_is_known_of_a_plain_input():
    program = h.Case("", lambda x: x * 2, ((2, 3, 4),)).program
    facts = analyse(program).facts
    assert [h.pattern(s) for s in facts.of[program.outputs[0]]] == ["ab", "abc", "abcd"]
    assert all(s.all_distinct for s in facts.of[program.outputs[0]])


def test_a_tensor_and_its_first_slice_are_not_the_same_addend():
    # x + c and x + c[:1] read ranges of numbers that begin alike.
    def add(x, c):
        return torch.cat([x + c, x + c[:, :, :1]], 2)

    assert h.found(add, "abc", "abc") in ("abcade", "abcdef")


def test_zeros_of_different_shapes_are_not_the_same_operand():
    def widths(x):
        z = torch.zeros_like(x)
        return torch.cat([torch.exp(z).sum(3, True), torch.exp(z[..., :1]).sum(3, True)], 2)

    def lengths(x):
        z = torch.zeros(2, 2, 2, 3, dtype=x.dtype)
        return torch.cat([torch.cat([z, x], 2).mean(2, True), torch.cat([z[:, :, :1], x], 2).mean(2, True)], 3)

    def pads(x):
        z = torch.zeros_like(x)
        padded = [F.pad(part, (1, 1), value=1.0).mean(3, True) for part in (z, z[..., :1])]
        return torch.cat(padded, 2)

    assert h.found(widths, (2, 2, 3, 5)) == "aaabbb"
    assert h.found(lengths, (2, 2, 1, 3), axis=3) == "abcdef"
    assert h.found(pads, (2, 2, 2, 5)) == "aabb"


def test_equality_is_seen_across_tensors():
    assert h.found(lambda x: torch.cat([x[:, :, :1], x], 2), "abc") == "aabc"


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, y: x + y, "0abc"),
        (lambda x, y: x * y, "000a"),
        (lambda x, y: torch.cat([x, y], 2), "00ab0c0d"),
    ],
)
def test_two_tensors(function, expected):
    assert h.found(function, "00ab", "0a0b") == expected
