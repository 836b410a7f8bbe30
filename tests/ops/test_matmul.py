"""Matrix products and attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.ops import harness as h

aten = torch.ops.aten
W = torch.randn(3, 4, dtype=torch.float64)
B = torch.randn(3, dtype=torch.float64)

SPELLINGS = h.cases({
    "linear": (lambda x: F.linear(x, W, B), (2, 3, 4)),
    "linear plain": (lambda x: F.linear(x, W), (2, 3, 4)),
    "linear of a vector": (lambda x: F.linear(x, W), (4,)),
    "linear to one": (lambda x: F.linear(x, W[0]), (2, 3, 4)),
    "Linear": (nn.Linear(4, 5), (2, 3, 2, 4)),
    "linear with a computed weight": (lambda x, w: F.linear(x, w), (2, 3, 4), (3, 4)),
    "matmul": (torch.matmul, (2, 3, 4), (2, 4, 3)),
    "matmul broadcast": (torch.matmul, (2, 1, 3, 4), (3, 4, 3)),
    "matmul of matrices": (lambda x, y: x @ y, (3, 4), (4, 3)),
    "matmul with a vector": (lambda x, y: x @ y, (2, 3, 4), (4,)),
    "vector times matrix": (lambda x, y: x @ y, (3,), (2, 3, 4)),
    "dot": (lambda x, y: x @ y, (3,), (3,)),
    "matmul with itself": (lambda x: x @ x, (2, 3, 3)),
    "gram": (lambda x: x @ x.mT, (2, 3, 4)),
    "square of a batch": (lambda x: x @ x, (1, 3, 2, 2)),
    "mm": (torch.mm, (3, 4), (4, 3)),
    "bmm": (torch.bmm, (2, 3, 4), (2, 4, 3)),
    "bmm with itself": (lambda x: torch.bmm(x, x), (2, 3, 3)),
    "addmm": (torch.addmm, (3,), (2, 4), (4, 3)),
    "baddbmm": (torch.baddbmm, (2, 3, 3), (2, 3, 4), (2, 4, 3)),
    "einsum": (lambda x, y: torch.einsum("bchw,cd->bdhw", x, y), (2, 3, 2, 2), (3, 4)),
    "tensordot": (lambda x, y: torch.tensordot(x, y, dims=([1], [0])), (2, 3, 2), (3, 4)),
    "outer": (torch.outer, (2,), (3,)),
    "attention": (F.scaled_dot_product_attention, (2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4)),
    "causal attention": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), (2, 2, 3, 4)),
    "attention with a mask": (
        lambda q, k, m: F.scaled_dot_product_attention(q, k, k, attn_mask=m), (2, 2, 3, 4), (2, 2, 3, 4), (2, 1, 3, 3),
    ),
    "attention with a mask for all": (
        lambda q, m: F.scaled_dot_product_attention(q, q, q, attn_mask=m), (2, 2, 3, 4), (3, 3),
    ),
    "grouped attention": (
        lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True), (2, 4, 3, 4), (2, 2, 3, 4),
    ),
    "attention of rank 3": (lambda x: F.scaled_dot_product_attention(x, x, x), (2, 3, 4)),
    "attention spelled out": (lambda x: (x @ x.mT / 2).softmax(-1) @ x, (2, 3, 4)),
    "frames attend": (lambda x: F.scaled_dot_product_attention(*[x.flatten(2).mT[:, None]] * 3), (2, 4, 2, 3)),
    "MultiheadAttention": (lambda x: MHA(x, x, x)[0], (2, 3, 4)),
})  # fmt: skip

MHA = nn.MultiheadAttention(4, 2, batch_first=True).double().eval()


@pytest.mark.parametrize("case", SPELLINGS, ids=repr)
@given(data=st.data())
@h.profile(12)
def test_spellings(case, data):
    h.check(case.program, data.draw(h.knowledge(case.program)))


def _product(draw, graph, x):
    shape = list(x.meta["val"].shape)
    kind = draw(st.sampled_from(("linear", "matmul", "left", "gram", "bmm", "attention")))
    if kind == "linear":
        weight = graph.weight(torch.randn(3, shape[-1], dtype=torch.float64))
        bias = graph.weight(torch.randn(3, dtype=torch.float64)) if draw(st.booleans()) else None
        return graph.call(aten.linear.default, x, weight, bias)
    if kind in ("matmul", "left"):
        batch = [draw(st.sampled_from((1, n))) for n in shape[draw(st.integers(0, len(shape) - 2)) : -2]]
        if kind == "matmul":
            return graph.call(
                aten.matmul.default, x, graph.weight(torch.randn(*batch, shape[-1], 2, dtype=torch.float64))
            )
        return graph.call(aten.matmul.default, graph.weight(torch.randn(*batch, 2, shape[-2], dtype=torch.float64)), x)
    if kind == "gram":
        return graph.call(aten.matmul.default, x, graph.call(aten.transpose.int, x, -1, -2))
    if kind == "bmm":
        flat = graph.call(aten.flatten.using_ints, x, 0, len(shape) - 3)
        return graph.call(aten.bmm.default, flat, graph.call(aten.transpose.int, flat, 1, 2))
    flat = graph.call(aten.flatten.using_ints, x, 1, len(shape) - 3) if len(shape) > 4 else x
    if len(flat.meta["val"].shape) != 4:
        return None
    return graph.call(aten.scaled_dot_product_attention.default, flat, flat, flat)


@given(st.data())
@h.profile(80)
def test_sampled_arguments(data):
    shape = data.draw(st.sampled_from(((2, 2, 3, 2), (2, 3, 1, 2, 2), (3, 2, 2))))
    graph = h.Graph()
    made = _product(data.draw, graph, graph.input(*shape))
    if made is not None:
        program = graph.program(made)
        h.check(program, data.draw(h.knowledge(program)))


@given(st.data())
@h.profile(120)
def test_between_convolutions(data):
    def op(graph, x):
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(range(x.meta["val"].dim())))
            x = graph.call(aten.permute.default, x, list(order))
        return _product(data.draw, graph, x)

    h.sandwich(data.draw, op)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: F.linear(x, W[:, :3]), "0aab"),
        (lambda x: F.linear(x, W[:, :3], B), "abbc"),
        (lambda x: x @ W[:, :2], "0aab"),
        (lambda x: x @ x.mT, "0aab"),
        (lambda x: x.mT @ x, "0aab"),
    ],
)
def test_found_of_what_passes_through(function, expected):
    assert h.found(function, "0aab") == expected


def test_rows_and_columns():
    assert h.found(lambda x: x @ torch.ones(5, 2).double(), "0aab", axis=2, rank=4) == "0aab"
    assert h.found(lambda x: torch.ones(2, 6).double() @ x, "0aab", axis=3, rank=4) == "0aab"
    assert h.found(lambda x: W[:2] @ x, "0aab", axis=2, rank=4) == "ab"


def test_attention_in_a_batch_of_equal_images():
    def attend(x):
        return F.scaled_dot_product_attention(x, x, x)

    assert h.found(attend, "0aab", axis=0, rank=4) == "abbc"
    assert h.found(attend, "0aab", axis=1, rank=4) == "abbc"
    assert h.found(attend, "0aab", axis=2, rank=4) == "abcd"


@pytest.mark.parametrize(
    ("op", "inside"),
    [
        (lambda x: F.linear(x.permute(0, 2, 3, 4, 1), torch.eye(4).double()).permute(0, 4, 1, 2, 3), None),
        (nn.Linear(6, 6), ["linear"]),
        (lambda x: x @ torch.ones(6, 5).double(), None),
    ],
)
def test_forms(op, inside):
    made = h.between(op)
    if inside is None:
        assert all(rank <= 4 for name, rank in zip(made.ops, made.ranks, strict=True) if name in ("linear", "matmul"))
    else:
        h.assert_flat(made, *inside)
