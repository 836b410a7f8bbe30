"""Reductions, softmax and scans."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tests.ops import harness as h

aten = torch.ops.aten
VOLUME = (2, 4, 3, 2, 2)

SPELLINGS = h.cases({
    "sum": (lambda x: x.sum((3, 4)), VOLUME),
    "sum of all": (lambda x: x.sum(), VOLUME),
    "sum in another type": (lambda x: x.sum(1, dtype=torch.float32), VOLUME),
    "sum depth": (lambda x: x.sum(2), VOLUME),
    "mean": (lambda x: x.mean((2, 3, 4), keepdim=True), VOLUME),
    "mean of channels": (lambda x: x.mean(1), VOLUME),
    "mean -1": (lambda x: x.mean(-1, keepdim=True), VOLUME),
    "mean of all": (lambda x: x.mean(), VOLUME),
    "amax": (lambda x: x.amax((1, 3)), VOLUME),
    "amin": (lambda x: x.amin(1, keepdim=True), VOLUME),
    "max": (lambda x: x.max(1)[0], VOLUME),
    "max values": (lambda x: x.max(1, keepdim=True).values, VOLUME),
    "argmax": (lambda x: x.argmax(1), VOLUME),
    "median": (lambda x: x.median(1).values, VOLUME),
    "var": (lambda x: x.var((3, 4)), VOLUME),
    "var biased": (lambda x: x.var(1, correction=0, keepdim=True), VOLUME),
    "var of one": (lambda x: x.var(1), (2, 1, 3)),
    "var_mean": (lambda x: torch.var_mean(x, 1)[0], VOLUME),
    "std": (lambda x: x.std(2), VOLUME),
    "norm": (lambda x: x.norm(dim=1), VOLUME),
    "norm 1": (lambda x: x.norm(1, dim=1, keepdim=True), VOLUME),
    "norm inf": (lambda x: x.norm(float("inf"), dim=1), VOLUME),
    "norm -inf": (lambda x: x.norm(float("-inf"), dim=1), VOLUME),
    "norm 0": (lambda x: x.norm(0, dim=1), VOLUME),
    "vector_norm": (lambda x: torch.linalg.vector_norm(x, dim=(1, 2)), VOLUME),
    "vector_norm -1": (lambda x: torch.linalg.vector_norm(x, -1, dim=1), VOLUME),
    "frobenius": (lambda x: torch.linalg.matrix_norm(x), VOLUME),
    "prod": (lambda x: x.prod(1), VOLUME),
    "prod of nothing": (lambda x: x[:, :0].prod(1), VOLUME),
    "any": (lambda x: (x > 0).any(1), VOLUME),
    "all": (lambda x: (x > 0).all(1), VOLUME),
    "logsumexp": (lambda x: x.logsumexp(1), VOLUME),
    "logsumexp of two": (lambda x: x.logsumexp((1, 3), keepdim=True), VOLUME),
    "softmax": (lambda x: x.softmax(1), VOLUME),
    "softmax of depth": (lambda x: F.softmax(x, 2), VOLUME),
    "softmax in another type": (lambda x: x.softmax(-1, dtype=torch.float32), VOLUME),
    "log_softmax": (lambda x: F.log_softmax(x, 1), VOLUME),
    "softmin": (lambda x: F.softmin(x, 1), VOLUME),
    "gumbel-free": (lambda x: (x / 0.5).softmax(1), VOLUME),
    "cumsum": (lambda x: x.cumsum(2), VOLUME),
    "cumsum of channels": (lambda x: x.cumsum(1), VOLUME),
    "cumprod": (lambda x: x.cumprod(1), VOLUME),
    "logcumsumexp": (lambda x: x.logcumsumexp(1), VOLUME),
    "cummax": (lambda x: x.cummax(1).values, VOLUME),
    "glu": (lambda x: F.glu(x, 1), VOLUME),
    "diff": (lambda x: x.diff(dim=2), VOLUME),
    "sorted": (lambda x: x.sort(1).values, VOLUME),
    "topk": (lambda x: x.topk(2, 1).values, VOLUME),
    "squeeze and excite": (lambda x: x * x.mean((2, 3, 4), keepdim=True).sigmoid(), VOLUME),
    "trace of shapes": (lambda x: x.sum((0, 1, 2, 3, 4), keepdim=True), VOLUME),
    "unary dims": (lambda x: torch.mean(x, [2]), VOLUME),
    "count_nonzero": (lambda x: (x != 0).sum(1), VOLUME),
})  # fmt: skip


@pytest.mark.parametrize("case", SPELLINGS, ids=repr)
@given(data=st.data())
@h.profile(8)
def test_spellings(case, data):
    h.check(case.program, data.draw(h.knowledge(case.program)))


LISTED = (
    (aten.sum.dim_IntList, {}),
    (aten.mean.dim, {}),
    (aten.amax.default, {}),
    (aten.amin.default, {}),
    (aten.var.correction, {"correction": 0}),
    (aten.linalg_vector_norm.default, {}),
    (aten.logsumexp.default, {}),
    (aten.any.dims, {}),
)
SINGLE = (aten.prod.dim_int, aten.any.dim, aten.all.dim)
SCANS = (aten.softmax.int, aten.log_softmax.int, aten.cumsum.default, aten.cumprod.default, aten._softmax.default)


def _reduced(draw, graph, x):
    rank = x.meta["val"].dim()
    kind = draw(st.sampled_from(("listed", "listed", "single", "scan")))
    dim = draw(st.integers(-rank, rank - 1))
    keep = draw(st.booleans())
    if kind == "scan":
        target = draw(st.sampled_from(SCANS))
        return graph.call(target, x, dim, *([False] if target is aten._softmax.default else []))
    if kind == "single":
        return graph.call(draw(st.sampled_from(SINGLE)), x, dim, keep)
    dims = draw(st.lists(st.integers(0, rank - 1), min_size=1, max_size=rank, unique=True))
    target, more = draw(st.sampled_from(LISTED))
    if target is aten.linalg_vector_norm.default:
        order = draw(st.sampled_from((0, 1, 2, 3.5, float("inf"), -1, float("-inf"))))
        return graph.call(target, x, order, dims, keep)
    if more:
        return graph.call(target, x, dims, keepdim=keep, **more)
    return graph.call(target, x, dims, keep)


@given(st.data())
@h.profile(120)
def test_sampled_arguments(data):
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    h.alone(data.draw, lambda graph, x: _reduced(data.draw, graph, x), *shape)


@given(st.data())
@h.profile(150)
def test_between_convolutions(data):
    def op(graph, x):
        made = _reduced(data.draw, graph, x)
        if made.meta["val"].dtype != torch.float64:
            return graph.call(aten.to.dtype, made, torch.float64)
        return graph.call(aten.mul.Tensor, x, made) if data.draw(st.booleans()) and _fits(x, made) else made

    h.sandwich(data.draw, op)


def _fits(x, made):
    shapes = zip(reversed(x.meta["val"].shape), reversed(made.meta["val"].shape), strict=False)
    return all(a == b or 1 in (a, b) for a, b in shapes) and made.meta["val"].dim() > 0


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.sum(1, keepdim=True), "00aab"),
        (lambda x: x.mean((3, 4), keepdim=True), "00aab"),
        (lambda x: x.amax(1, keepdim=True), "00aab"),
        (lambda x: x.var(1, keepdim=True), "00aab"),
        (lambda x: x.norm(dim=1, keepdim=True), "00aab"),
        (lambda x: x.softmax(1), "aabbc"),
        (lambda x: x.log_softmax(1), "aabbc"),
        (lambda x: x.cumsum(1), "00aab"),
        (lambda x: F.glu(x, 1), "00aab"),
        (lambda x: x.logsumexp(1, keepdim=True), "aabbc"),
        (lambda x: (x > 0).all(1, keepdim=True), "aabbc"),
        (lambda x: (x > 0).any(1, keepdim=True), "00aab"),
        (lambda x: x.sum(1).unsqueeze(1), "00aab"),
    ],
)
def test_found(function, expected):
    assert h.found(function, "00aab") == expected


def test_nothing_is_said_along_a_reduced_axis():
    assert h.found(lambda x: x.softmax(2), "00aab") == "abcde"
    assert h.found(lambda x: x.sum(2, keepdim=True), "00a") == "a"
    assert h.found(lambda x: x.cumsum(2), "aab") == "abc"


def test_the_variance_of_one_number_is_not_zero():
    case = h.Case("", lambda x: x.var(1, keepdim=True), ((2, 1, 2, 2),))
    h.check(case.program, h.Known({(case.program.inputs[0], 2): (0, 1)}))


@pytest.mark.parametrize(
    ("op", "inside"),
    [
        (lambda x: x * x.mean((2, 3, 4), keepdim=True), ["mean", "mul"]),
        (lambda x: x * x.mean((3, 4), keepdim=True), ["mean", "mul"]),
        (lambda x: x * x.mean(1, keepdim=True), ["mean", "mul"]),
        (lambda x: x.softmax(1), ["softmax"]),
        (lambda x: x.softmax(-1), ["softmax"]),
        (lambda x: torch.cat([x, x], 1).chunk(2, 1)[0], ["cat", "slice"]),
        (lambda x: F.glu(torch.cat([x, x], 1), 1), ["cat", "glu"]),
        (lambda x: x.cumsum(3), ["cumsum"]),
        (lambda x: x - x.amax(1, keepdim=True), ["amax", "sub"]),
        (lambda x: x * x.mean((2, 3, 4))[:, :, None, None, None], ["mean", "reshape", "mul"]),
    ],
)
def test_forms(op, inside):
    made = h.between(op)
    made.ops = ["reshape" if op in ("unsqueeze", "view") else op for op in made.ops]
    made.ops = [op for op, before in zip(made.ops, [None, *made.ops], strict=False) if not op == before == "reshape"]
    assert made.inside == inside
