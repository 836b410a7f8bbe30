"""Elementwise operators: everything that torch tags as pointwise, and the rooms beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flatconv import ops
from flatconv.ops.pointwise import Pointwise
from tests.ops import harness as h

aten = torch.ops.aten
VOLUME = (2, 3, 3, 2, 2)


def tagged() -> dict[str, Any]:
    """Every functional overload of ATen that torch tags as pointwise."""
    found = {}
    for name in dir(aten):
        packet = getattr(aten, name)
        if not hasattr(packet, "overloads"):
            continue
        for overload in packet.overloads():
            target = getattr(packet, overload)
            mutable = target._schema.is_mutable
            if torch.Tag.pointwise in target.tags and not mutable:
                found[str(target)] = target
    return found


TAGGED = tagged()
SCALARS = {"float": 0.5, "int": 2, "bool": False, "number": 1.5, "Optional[float]": None, "str": "none"}


def arguments(target: Any, tensor: Any) -> list[Any]:
    """Arguments for any overload; ``tensor()`` makes its tensors."""
    made: list[Any] = []
    for a in target._schema.arguments:
        if a.kwarg_only:
            break
        if str(a.type) == "Tensor":
            made.append(tensor())
        elif a.has_default_value():
            made.append(a.default_value)
        else:
            made.append(SCALARS.get(str(a.type), 1))
    return made


@pytest.mark.parametrize("name", TAGGED)
@given(data=st.data())
@h.profile(4)
def test_everything_tagged_as_pointwise(name, data):
    target = TAGGED[name]
    graph = h.Graph()
    shapes = iter(((2, 3, 2), data.draw(st.sampled_from(((2, 3, 2), (3, 1), (2, 1, 1)))), (2, 3, 2), (2,)))
    dtype = data.draw(st.sampled_from((torch.float64, torch.float64, torch.int64)))
    try:
        made = graph.call(target, *arguments(target, lambda: graph.input(*next(shapes), dtype=dtype)))
    except (RuntimeError, NotImplementedError):  # not for numbers of this kind
        return
    if not isinstance(made.meta["val"], torch.Tensor) or made.meta["val"].is_complex():
        return
    program = graph.program(made)
    room = ops.room(program.outputs[0])
    if name not in UNKNOWN:
        assert isinstance(room, Pointwise), f"{name} is not read"
    else:
        assert room is None
        return
    h.check(program, data.draw(h.knowledge(program)))


# Random numbers; and operators that tell zeros of both signs apart, of which nothing may be said.
UNKNOWN = (
    "aten.rrelu.default", "aten.atan2.default", "aten.copysign.Tensor", "aten.copysign.Scalar", "aten.nextafter.default",
    "aten.signbit.default",
)  # fmt: skip


def test_the_arguments_fit_nearly_every_operator():
    fit = 0
    for target in TAGGED.values():
        for dtype in (torch.float64, torch.int64):
            try:
                target(*arguments(target, lambda dtype=dtype: torch.ones(2, dtype=dtype)))
            except (RuntimeError, NotImplementedError):
                continue
            fit += 1
            break
    assert fit > 0.9 * len(TAGGED) > 200


BIAS = torch.randn(4, 1, 1, 1, dtype=torch.float64)
MASK = (torch.arange(2) % 2 == 0).reshape(1, 1, 1, 2, 1)

SPELLINGS = h.cases({
    "relu": (F.relu, VOLUME),
    "relu_": (lambda x: F.relu_(x * 2), VOLUME),
    "add_": (lambda x, y: (x * 1).add_(y), VOLUME, VOLUME),
    "augmented": (lambda x, y: _augmented(x, y), VOLUME, VOLUME),
    "silu": (F.silu, VOLUME),
    "sigmoid gate": (lambda x: x * torch.sigmoid(x), VOLUME),
    "gelu": (lambda x: F.gelu(x, approximate="tanh"), VOLUME),
    "hardswish": (F.hardswish, VOLUME),
    "hardtanh": (lambda x: F.hardtanh(x, 0.5, 1.0), VOLUME),
    "leaky": (lambda x: F.leaky_relu(x, 0.2), VOLUME),
    "elu": (F.elu, VOLUME),
    "softplus": (F.softplus, VOLUME),
    "mish": (F.mish, VOLUME),
    "prelu": (nn.PReLU(3), VOLUME),
    "prelu, one slope": (nn.PReLU(), VOLUME),
    "prelu of (N, C)": (nn.PReLU(3), (2, 3)),
    "prelu 1-D": (nn.PReLU(), (3,)),
    "affine": (lambda x: x * 2 + 1, VOLUME),
    "scaled": (lambda x: (x - 0.0) / 3, VOLUME),
    "bias by channel": (lambda x: x + torch.arange(3.0).double().reshape(3, 1, 1, 1), VOLUME),
    "bias by depth": (lambda x: x + torch.arange(3.0).double().reshape(3, 1, 1), VOLUME),
    "position table": (lambda x, t: x + t, VOLUME, (1, 3, 1, 2, 2)),
    "broadcast both ways": (lambda x, y: x * y, (2, 1, 3, 2, 2), (3, 1, 2, 1)),
    "rank 1 with rank 5": (lambda x, y: x - y, VOLUME, (2,)),
    "scalar tensor": (lambda x, y: x * y, VOLUME, ()),
    "lerp": (lambda x, y: torch.lerp(x, y, 0.3), VOLUME, VOLUME),
    "addcmul": (lambda x, y, z: torch.addcmul(x, y, z, value=2), VOLUME, VOLUME, VOLUME),
    "where": (lambda x, y: torch.where(MASK, x, y), VOLUME, VOLUME),
    "where scalar": (lambda x: torch.where(x > 0, x, 0.0), VOLUME),
    "masked_fill": (lambda x: x.masked_fill(MASK, -1.0), VOLUME),
    "clamp": (lambda x: x.clamp(-0.5, 0.5), VOLUME),
    "clamp from above zero": (lambda x: x.clamp(min=0.5), VOLUME),
    "pow": (lambda x: x**2, VOLUME),
    "square": (torch.square, VOLUME),
    "to the power of zero": (lambda x: x**0, VOLUME),
    "rsub": (lambda x: 1 - x, VOLUME),
    "abs, sign, floor": (lambda x: x.abs() + x.sign() + x.floor(), VOLUME),
    "compare": (lambda x: (x > 0).double() + (x == 0).double(), VOLUME),
    "logical": (lambda x: torch.logical_not(x > 1).double(), VOLUME),
    "float": (lambda x: x.float(), VOLUME),
    "half and back": (lambda x: x.half().double(), VOLUME),
    "to": (lambda x: x.to(torch.float32) * 2, VOLUME),
    "type_as": (lambda x, y: x.type_as(y), VOLUME, (2, 2)),
    "to nothing else": (lambda x: x.double().to(x.dtype), VOLUME),
    "int": (lambda x: (x * 3).int(), VOLUME),
    "clone": (lambda x: x.clone(), VOLUME),
    "contiguous": (lambda x: x.transpose(1, 2).contiguous(), VOLUME),
    "channels_last_3d": (lambda x: x.contiguous(memory_format=torch.channels_last_3d), VOLUME),
    "detach": (lambda x: x.detach() + 0, VOLUME),
    "dropout": (lambda x: F.dropout(x, 0.5, training=False), VOLUME),
    "Dropout3d": (nn.Dropout3d(0.5), VOLUME),
    "AlphaDropout": (nn.AlphaDropout(0.5), VOLUME),
    "zeros": (lambda x: x + torch.zeros(2, 3, 1, 2, 2).double(), VOLUME),
    "zeros_like": (lambda x: torch.zeros_like(x), VOLUME),
    "new_zeros": (lambda x: x.new_zeros(2, 3, 4), VOLUME),
    "ones": (lambda x: torch.ones(2, 3, 4), (2,)),
    "ones of two shapes": (lambda x: (torch.ones(3, 2).sum(1), torch.ones(3, 4).sum(1)), (2,)),
    "full": (lambda x: torch.full((2, 3), 0.25), (2,)),
    "full zero": (lambda x: torch.full((2, 3), 0.0), (2,)),
    "full_like": (lambda x: torch.full_like(x, 2.0), VOLUME),
    "full of an input": (lambda x: torch.full((2, 2), 1.0).double() * x, (2, 2)),
    "nan_to_num": (lambda x: torch.nan_to_num(x / x), VOLUME),
    "zero over zero": (lambda x, y: x / y, VOLUME, VOLUME),
    "maximum": (torch.maximum, VOLUME, VOLUME),
    "atan2": (torch.atan2, VOLUME, VOLUME),
    "copysign": (torch.copysign, VOLUME, VOLUME),
    "rotary": (lambda x, c, s: x * c + torch.cat([-x[..., 1:], x[..., :1]], -1) * s, VOLUME, (3, 1, 2), (3, 1, 2)),
})  # fmt: skip


def _augmented(x, y):
    x = x * 1
    x += y
    x *= 2
    return x


@pytest.mark.parametrize("case", SPELLINGS, ids=repr)
@given(data=st.data())
@h.profile(8)
def test_spellings(case, data):
    h.check(case.program, data.draw(h.knowledge(case.program)))


OPERATORS = (aten.relu.default, aten.cos.default, aten.neg.default, aten.sigmoid.default, aten.clone.default)


def _pointwise(draw, graph, x):
    shape = list(x.meta["val"].shape)
    kind = draw(st.sampled_from(("unary", "weight", "itself", "prelu", "moved", "layout")))
    if kind == "unary":
        return graph.call(draw(st.sampled_from(OPERATORS)), x)
    if kind == "weight":
        given = [draw(st.sampled_from((n, 1))) for n in shape[draw(st.integers(0, 2)) :]]
        weight = graph.weight(torch.randn(given, dtype=torch.float64))
        return graph.call(draw(st.sampled_from((aten.add.Tensor, aten.mul.Tensor))), x, weight)
    if kind == "itself":
        return graph.call(aten.mul.Tensor, x, graph.call(aten.sigmoid.default, x))
    if kind == "prelu":
        slopes = graph.weight(torch.randn(shape[1], dtype=torch.float64))
        return graph.call(aten.prelu.default, x, slopes)
    if kind == "layout" and len(shape) == 5:
        return graph.call(aten.clone.default, x, memory_format=torch.channels_last_3d)
    moved = graph.call(aten.permute.default, x, list(draw(st.permutations(range(len(shape))))))
    return _pointwise(draw, graph, moved) if draw(st.booleans()) else moved


@given(st.data())
@h.profile(120)
def test_between_convolutions(data):
    h.sandwich(data.draw, lambda graph, x: _pointwise(data.draw, graph, x))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (F.relu, "00ab"),
        (F.silu, "00ab"),
        (F.gelu, "00ab"),
        (torch.tanh, "00ab"),
        (lambda x: F.leaky_relu(x, 0.2), "00ab"),
        (lambda x: x * 3, "00ab"),
        (lambda x: x / 3, "00ab"),
        (lambda x: -x, "00ab"),
        (lambda x: x**2, "00ab"),
        (lambda x: x * torch.sigmoid(x), "00ab"),
        (lambda x: x.clamp(-1, 1), "00ab"),
        (lambda x: x.float().double(), "00ab"),
        (lambda x: x + x.abs(), "00ab"),
        (lambda x: F.prelu(x, torch.ones(4).double()), "00ab"),
        (lambda x: F.dropout(x, 0.5, training=False), "00ab"),
        (lambda x: x.clone(), "00ab"),
        (lambda x: x * torch.arange(4.0).double().reshape(4, 1, 1, 1), "00ab"),
        (torch.sigmoid, "aabc"),
        (torch.exp, "aabc"),
        (torch.cos, "aabc"),
        (F.softplus, "aabc"),
        (lambda x: x + 1, "aabc"),
        (lambda x: 1 - x, "aabc"),
        (lambda x: x.clamp(min=0.5), "aabc"),
        (lambda x: F.hardtanh(x, 0.5, 1.0), "aabc"),
        (lambda x: x == 0, "aabc"),
        (lambda x: x + torch.arange(4.0).double().reshape(4, 1, 1, 1), "aabc"),
    ],
)
def test_zero_and_equality(function, expected):
    assert h.found(function, "00ab") == expected


def test_a_table_along_the_axis_makes_slices_distinct():
    assert h.found(lambda x: x + torch.arange(3.0).double().reshape(3, 1, 1), "aaa") == "abc"
    assert h.found(lambda x: x * torch.arange(3.0).double().reshape(3, 1, 1), "0aa") == "0ab"


def test_zero_times_anything():
    assert h.found(lambda x, y: x * y, "0ab", (2, 4, 1, 5, 3)) == "0ab"
    assert h.found(lambda x, y: x + y, "0ab", (2, 4, 1, 5, 3)) == "abc"
    assert h.found(lambda x, y: x * y, "0a", "a0") == "00"


def test_copies_are_the_same_slices():
    def cached(x):
        return torch.cat([x[:, :, :1].clone(), x], 2)

    assert h.found(cached, "abc") == "aabc"
    assert h.found(lambda x: torch.cat([x[:, :, :1].contiguous(), x], 2), "abc") == "aabc"


def test_created_tensors():
    assert h.found(lambda x: torch.zeros(2, 3, 4), (2,), axis=1) == "000"
    assert h.found(lambda x: torch.ones(2, 3, 4), (2,), axis=1) == "aaa"
    assert h.found(lambda x: torch.full((2, 3), 0.5), (2,), axis=0) == "aa"
    assert h.found(lambda x: torch.cat([x.new_zeros(2, 4, 2, 5, 3), x], 2), "ab") == "00ab"
    assert h.found(lambda x: torch.cat([torch.zeros_like(x), x], 2), "a") == "0a"
    assert h.found(lambda x: torch.cat([torch.ones(2, 4, 1), torch.ones(2, 4, 2)], 2), (2,)) == "aaa"
    assert h.found(lambda x: torch.cat([torch.ones(2, 4, 1), torch.full((2, 4, 1), 2.0)], 2), (2,)) == "ab"


@pytest.mark.parametrize(
    ("op", "inside"),
    [
        (F.relu, ["relu"]),
        (nn.SiLU(), ["silu"]),
        (nn.PReLU(4), ["prelu"]),
        (lambda x: x + BIAS, ["add"]),
        (lambda x: x * torch.sigmoid(x), ["sigmoid", "mul"]),
        (nn.Dropout(0.5), []),
        (lambda x: x.float().double(), ["to", "to"]),
        (lambda x: x.contiguous(memory_format=torch.channels_last_3d), ["contiguous"]),
        (lambda x: torch.where(x > 0, x, -x), ["gt", "neg", "where"]),
    ],
)
def test_forms(op, inside):
    h.assert_flat(h.between(op), *inside)
