"""Pools."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.ops import harness as h

aten = torch.ops.aten

VOLUME = (1, 2, 4, 4, 3)

SPELLINGS = h.cases({
    "max_pool3d": (lambda x: F.max_pool3d(x, 2), VOLUME),
    "max_pool3d of H and W": (lambda x: F.max_pool3d(x, (1, 2, 2)), VOLUME),
    "max_pool3d padded": (lambda x: F.max_pool3d(x, 3, 2, 1), VOLUME),
    "max_pool3d ceil": (lambda x: F.max_pool3d(x, 3, 2, 1, ceil_mode=True), VOLUME),
    "max_pool3d dilated": (lambda x: F.max_pool3d(x, (2, 1, 1), 1, 0, dilation=(2, 1, 1)), VOLUME),
    "max_pool3d with indices": (lambda x: F.max_pool3d(x, 2, return_indices=True)[0], VOLUME),
    "max_pool3d unbatched": (lambda x: F.max_pool3d(x, (2, 1, 1), 1), VOLUME[1:]),
    "avg_pool3d": (lambda x: F.avg_pool3d(x, 2), VOLUME),
    "avg_pool3d padded": (lambda x: F.avg_pool3d(x, 3, 1, 1), VOLUME),
    "avg_pool3d not counting": (lambda x: F.avg_pool3d(x, 3, 1, 1, count_include_pad=False), VOLUME),
    "avg_pool3d ceil": (lambda x: F.avg_pool3d(x, 3, 2, 1, ceil_mode=True), VOLUME),
    "avg_pool3d ceil not counting": (lambda x: F.avg_pool3d(x, 3, 2, 1, True, False), VOLUME),
    "avg_pool3d divisor": (lambda x: F.avg_pool3d(x, 2, 1, 1, divisor_override=3), VOLUME),
    "avg_pool3d unbatched": (lambda x: F.avg_pool3d(x, (3, 1, 1), 1, (1, 0, 0)), VOLUME[1:]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2, 1, 1), (1, 2, 4, 3)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2, 1, 1, divisor_override=3), (1, 2, 4, 3)),
    "max_pool1d": (lambda x: F.max_pool1d(x, 2, 1, 1), (1, 2, 4)),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 2, 1, 1), (1, 2, 4)),
    "adaptive_avg_pool3d": (lambda x: F.adaptive_avg_pool3d(x, (2, 3, 2)), (1, 2, 5, 4, 3)),
    "adaptive_avg_pool3d to one": (lambda x: F.adaptive_avg_pool3d(x, 1), VOLUME),
    "adaptive_avg_pool3d to more": (lambda x: F.adaptive_avg_pool3d(x, (5, 4, 3)), VOLUME),
    "adaptive_avg_pool3d none": (lambda x: F.adaptive_avg_pool3d(x, (3, None, None)), VOLUME),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (3, 2)), (1, 2, 4, 3)),
    "adaptive_avg_pool1d": (lambda x: F.adaptive_avg_pool1d(x, 3), (1, 2, 5)),
    "adaptive_max_pool3d": (lambda x: F.adaptive_max_pool3d(x, (2, 2, 1)), VOLUME),
    "lp_pool2d": (lambda x: F.lp_pool2d(x, 2, (2, 1), 1), (1, 2, 4, 3)),
    "AvgPool3d": (nn.AvgPool3d((2, 1, 1), stride=1), VOLUME),
    "MaxPool3d": (nn.MaxPool3d((2, 1, 1), stride=1), VOLUME),
})  # fmt: skip


@pytest.mark.parametrize("case", SPELLINGS, ids=repr)
@given(data=st.data())
@h.profile(10)
def test_spellings(case, data):
    h.check(case.program, data.draw(h.knowledge(case.program)))


def _pool(draw, graph, x):
    """Any pool that torch accepts on x; None where the arguments do not fit."""
    shape = x.meta["val"].shape
    n = draw(st.integers(1, len(shape) - 1 if len(shape) < 5 else 3)) if len(shape) < 5 else 3
    if len(shape) not in (n + 1, n + 2):
        return None
    kind = draw(st.sampled_from(("max", "max", "avg", "avg", "adaptive_avg")))
    if kind == "adaptive_avg":
        return graph.call(
            getattr(aten, f"adaptive_avg_pool{n}d").default, x, [draw(st.integers(1, 4)) for _ in range(n)]
        )
    kernel = [draw(st.integers(1, 3)) for _ in range(n)]
    stride = [draw(st.integers(1, 3)) for _ in range(n)] if draw(st.booleans()) else []
    padding = [draw(st.integers(0, k // 2)) for k in kernel]
    ceil = draw(st.booleans())
    target = getattr(aten, f"{kind}_pool{n}d").default
    if kind == "max":
        rest = [[draw(st.integers(1, 2)) for _ in range(n)], ceil]
    else:
        divisor = draw(st.sampled_from((None, None, 3))) if n > 1 else None
        rest = [ceil, draw(st.booleans()), *([divisor] if divisor else [])]
    try:
        made = graph.call(target, x, kernel, stride, padding, *rest)
    except RuntimeError:  # the result would be empty
        return None
    # Windows of nothing but padding have a test of their own below.
    return None if made.meta["val"].isinf().any() else made


@given(st.data())
@h.profile(150)
def test_sampled_arguments(data):
    shape = data.draw(st.sampled_from(((2, 2, 4, 3, 1), (2, 5, 1, 3), (1, 2, 4), (2, 2, 5, 3), (1, 1, 3, 3, 3))))
    graph = h.Graph()
    made = _pool(data.draw, graph, graph.input(*shape))
    if made is not None:
        program = graph.program(made)
        h.check(program, data.draw(h.knowledge(program)))


@given(st.data())
@h.profile(150)
def test_between_convolutions(data):
    h.sandwich(data.draw, lambda graph, x: _pool(data.draw, graph, x))


@pytest.mark.parametrize(
    ("pool", "given", "expected"),
    [
        (lambda x: F.max_pool3d(x, (1, 2, 2)), "00ab", "00ab"),
        (lambda x: F.avg_pool3d(x, (1, 2, 2)), "aab0", "aab0"),
        (lambda x: F.max_pool3d(x, (2, 1, 1)), "00ab", "0a"),
        (lambda x: F.max_pool3d(x, (2, 1, 1), 1), "000a", "00a"),
        (lambda x: F.avg_pool3d(x, (2, 1, 1), 1), "aaab", "aab"),
        (lambda x: F.max_pool3d(x, (3, 1, 1), 1, (1, 0, 0)), "a", "a"),
        (lambda x: F.adaptive_avg_pool3d(x, (2, 2, 2)), "aabb", "ab"),
        (lambda x: F.adaptive_avg_pool3d(x, (4, 2, 2)), "aabb", "aabb"),
        (lambda x: F.adaptive_avg_pool3d(x, (3, 2, 2)), "a", "aaa"),
        (lambda x: F.adaptive_avg_pool3d(x, (2, 2, 2)), "00a", "0b".replace("b", "a")),
    ],
)
def test_found(pool, given, expected):
    assert h.found(pool, given) == expected


def test_batch_and_channels_pass_through():
    assert h.found(lambda x: F.max_pool3d(x, 2), "0aab", axis=1) == "0aab"
    assert h.found(lambda x: F.avg_pool3d(x, 2), "aa", axis=0) == "aa"


def test_max_pool_pads_with_less_than_zero():
    # A window that reads a zero slice and a negative one: the zero counts, the padding does not.
    assert h.found(lambda x: F.max_pool3d(x, (2, 1, 1), 1, (1, 0, 0)), "a") == "aa"
    assert h.found(lambda x: F.max_pool3d(x, (3, 1, 1), 1, (1, 0, 0)), "aaa") == "aaa"
    assert h.found(lambda x: F.max_pool3d(x, (2, 1, 1), 1), "0a") == "a"
    program = h.Case("", lambda x: F.max_pool3d(x, (2, 1, 1), 1), ((1, 1, 2, 2, 2),)).program
    h.check(program, h.Known({(program.inputs[0], 2): (0, 1)}))


def test_an_average_counts_its_padding():
    def counting(x):
        return F.avg_pool3d(x, (3, 1, 1), 1, (1, 0, 0))

    assert h.found(counting, "aaa") == "aba"
    assert h.found(lambda x: F.avg_pool3d(x, (3, 1, 1), 1, (1, 0, 0), count_include_pad=False), "aaa") == "aaa"


def test_an_average_in_ceil_mode_divides_by_less_at_the_end():
    # Both windows lie on equal slices, but the last one is cut off.
    assert h.found(lambda x: F.avg_pool3d(x, (2, 1, 1), 2, 0, True), "aaa") in ("aa", "ab")
    assert h.found(lambda x: F.avg_pool3d(x, (2, 1, 1), 2, 0, True, divisor_override=2), "aaa") == "ab"


def test_a_window_of_nothing_but_padding_is_not_zero():
    # Dilation 4 and padding 2 step over the one column there is: −∞, though the slices along D are zero.
    def hollow(x):
        return F.max_pool2d(x, (1, 2), 1, (0, 1), dilation=(1, 2))

    graph = h.Graph()
    program = graph.program(
        graph.call(aten.max_pool2d.default, graph.input(1, 1, 2, 1), [1, 2], [1, 1], [0, 1], [1, 2])
    )
    h.check(program, h.Known({(program.inputs[0], 2): (0, 1)}))
    assert hollow(torch.zeros(1, 1, 2, 1)).isinf().all()


@pytest.mark.parametrize(
    ("op", "inside"),
    [
        (lambda x: F.max_pool3d(x, (1, 2, 2)), ["max_pool2d"]),
        (lambda x: F.max_pool3d(x, (3, 2, 2), 1, (1, 1, 1)), ["max_pool2d"]),
        (lambda x: F.max_pool3d(x, (3, 3, 3), 2, 1, ceil_mode=True), ["max_pool2d"]),
        (lambda x: F.avg_pool3d(x, (1, 2, 2)), ["avg_pool2d"]),
        (lambda x: F.avg_pool3d(x, (1, 3, 3), 1, (0, 1, 1)), ["avg_pool2d"]),
        (lambda x: F.avg_pool3d(x.expand(-1, -1, 3, -1, -1), 3, 1, (0, 1, 1)), ["avg_pool2d"]),
        (lambda x: F.avg_pool3d(x.repeat(1, 1, 2, 1, 1), 2, 1, count_include_pad=False), ["avg_pool2d"]),
        (lambda x: F.avg_pool3d(x.repeat(1, 1, 2, 1, 1), 2, 1, divisor_override=3), ["avg_pool2d", "div"]),
        (lambda x: F.avg_pool3d(x, (1, 2, 2), divisor_override=3), ["avg_pool2d"]),
        (lambda x: F.adaptive_avg_pool3d(x, (1, 3, 4)), ["adaptive_avg_pool2d"]),
    ],
)
def test_forms(op, inside):
    h.assert_flat(h.between(op), *inside)
