"""Convolutions and transposed convolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flatconv.analyse import analyse
from flatconv.lower import lower
from flatconv.ops.base import Facts
from flatconv.ops.conv import AxisPlan, site
from tests.ops import harness as h

aten = torch.ops.aten


def _module(kind, *args, **options):
    """A convolution with the weights that torch draws for it, the same on every run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(*args, **options)


class Causal(nn.Module):
    """Zeros or copies of the first frame in front, then a convolution without padding along time."""

    def __init__(self, mode: str = "constant", stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.mode = mode
        self.conv = _module(nn.Conv3d, 2, 3, (3, 2, 1), stride=(stride, 1, 1), bias=bias)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 0, 1, 0, 2, 0), mode=self.mode))


class Shared(nn.Module):
    """One weight used by two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _module(nn.Conv3d, 2, 2, 3, padding=1)

    def forward(self, x):
        return self.conv(self.conv(x))


VOLUME = (2, 2, 3, 3, 2)

SPELLINGS = h.cases({
    "Conv3d": (_module(nn.Conv3d, 2, 3, 2), VOLUME),
    "Conv3d padded": (_module(nn.Conv3d, 2, 3, 3, padding=1), VOLUME),
    "Conv3d plain": (_module(nn.Conv3d, 2, 3, 3, padding=1, bias=False), VOLUME),
    "Conv3d strided": (_module(nn.Conv3d, 2, 3, 3, stride=2, padding=1), VOLUME),
    "Conv3d dilated": (_module(nn.Conv3d, 2, 3, (3, 2, 1), dilation=(2, 1, 1), padding=(2, 0, 0)), VOLUME),
    "Conv3d grouped": (_module(nn.Conv3d, 2, 4, (3, 1, 1), groups=2, padding=(1, 0, 0)), VOLUME),
    "Conv3d depthwise": (_module(nn.Conv3d, 2, 2, 3, groups=2, padding=1), VOLUME),
    "Conv3d same": (_module(nn.Conv3d, 2, 3, 3, padding="same"), VOLUME),
    "Conv3d same, even": (_module(nn.Conv3d, 2, 3, (4, 2, 2), padding="same"), VOLUME),
    "Conv3d same, dilated": (_module(nn.Conv3d, 2, 3, (2, 3, 1), padding="same", dilation=(3, 1, 1)), VOLUME),
    "Conv3d valid": (_module(nn.Conv3d, 2, 3, 2, padding="valid"), VOLUME),
    "Conv3d replicate": (_module(nn.Conv3d, 2, 3, 3, padding=1, padding_mode="replicate"), VOLUME),
    "Conv3d reflect": (_module(nn.Conv3d, 2, 3, (1, 3, 1), padding=(0, 1, 0), padding_mode="reflect"), VOLUME),
    "Conv3d circular": (_module(nn.Conv3d, 2, 3, 3, padding=1, padding_mode="circular"), VOLUME),
    "Conv3d unbatched": (_module(nn.Conv3d, 2, 3, 3, padding=1), VOLUME[1:]),
    "Conv3d 1×1×1": (_module(nn.Conv3d, 2, 3, 1), VOLUME),
    "Conv2d": (_module(nn.Conv2d, 2, 3, 3, padding=1), (2, 2, 3, 4)),
    "Conv2d unbatched": (_module(nn.Conv2d, 2, 3, 3, padding=1), (2, 3, 4)),
    "Conv1d": (_module(nn.Conv1d, 2, 3, 3, padding=1), (2, 2, 4)),
    "Conv1d same": (_module(nn.Conv1d, 2, 3, 4, padding="same"), (2, 2, 4)),
    "ConvTranspose3d": (_module(nn.ConvTranspose3d, 2, 3, 2, stride=2), VOLUME),
    "ConvTranspose3d padded": (_module(nn.ConvTranspose3d, 2, 3, 3, stride=2, padding=1, output_padding=1), VOLUME),
    "ConvTranspose3d grouped": (_module(nn.ConvTranspose3d, 2, 4, (2, 1, 1), stride=(2, 1, 1), groups=2), VOLUME),
    "ConvTranspose3d dilated": (_module(nn.ConvTranspose3d, 2, 3, (2, 1, 1), dilation=(2, 1, 1)), VOLUME),
    "ConvTranspose3d plain": (_module(nn.ConvTranspose3d, 2, 3, (2, 1, 1), stride=(3, 1, 1), bias=False), VOLUME),
    "ConvTranspose2d": (_module(nn.ConvTranspose2d, 2, 3, 2, stride=2), (2, 2, 3, 4)),
    "ConvTranspose1d": (_module(nn.ConvTranspose1d, 2, 3, 2, stride=2), (2, 2, 3)),
    "causal": (Causal(), VOLUME),
    "causal plain": (Causal(bias=False), VOLUME),
    "causal replicate": (Causal("replicate"), VOLUME),
    "causal strided": (Causal(stride=2), (2, 2, 4, 3, 2)),
    "shared": (Shared(), VOLUME),
    "computed weight": (lambda x, w: F.conv3d(x, w * 2, padding=1), VOLUME, (3, 2, 3, 1, 1)),
    "weight is the input": (lambda x: F.conv3d(x, x[:, :, :2], padding=1), (2, 2, 3, 2, 2)),
    "bias computed": (lambda x, b: F.conv3d(x, torch.ones(3, 2, 2, 1, 1).double(), b.exp()), VOLUME, (3,)),
    "weight_norm": (nn.utils.parametrizations.weight_norm(_module(nn.Conv3d, 2, 3, 3, padding=1)), VOLUME),
    "in place behind": (nn.Sequential(_module(nn.Conv3d, 2, 2, 3, padding=1), nn.ReLU(inplace=True)), VOLUME),
    "residual": (lambda x: x + F.conv3d(x, torch.ones(2, 2, 3, 1, 1).double(), padding=(1, 0, 0)), VOLUME),
})  # fmt: skip


@pytest.mark.parametrize("case", SPELLINGS, ids=repr)
@given(data=st.data())
@h.profile(14)
def test_spellings(case, data):
    h.check(case.program, data.draw(h.knowledge(case.program)))


def _sampled(draw, graph, x, n):
    """Any convolution over n axes that torch accepts on x, in any of ATen's spellings; None where it does not fit."""
    channels = x.meta["val"].shape[-n - 1]
    groups = draw(st.sampled_from((1, 1, channels)))
    kernel = [draw(st.integers(1, 4)), *(draw(st.integers(1, 3)) for _ in range(n - 1))]
    stride, dilation = ([draw(st.sampled_from((1, 1, 2, 3))) for _ in range(n)] for _ in range(2))
    padding = [draw(st.integers(0, 3)) for _ in range(n)]
    transposed = draw(st.integers(0, 2)) == 0
    out = 2 * groups
    shape = [channels, out // groups, *kernel] if transposed else [out, channels // groups, *kernel]
    weight = graph.weight(torch.randn(shape, dtype=torch.float64))
    bias = graph.weight(torch.randn(out, dtype=torch.float64)) if draw(st.booleans()) else None
    general = draw(st.booleans())
    try:
        if transposed:
            more = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)]
            if general:
                rest = [stride, padding, dilation, True, more, groups]
                return graph.call(aten.convolution.default, x, weight, bias, *rest)
            packet = getattr(aten, f"conv_transpose{n}d")
            target = packet.default if n == 1 else packet.input
            return graph.call(target, x, weight, bias, stride, padding, more, groups, dilation)
        word = draw(st.sampled_from((None, None, None, "same", "valid")))
        if word:
            stride = [1] * n if word == "same" else stride
            target = getattr(aten, f"conv{n}d").padding
            return graph.call(target, x, weight, bias, stride, word, dilation, groups)
        if general:
            rest = [stride, padding, dilation, False, [0] * n, groups]
            return graph.call(aten.convolution.default, x, weight, bias, *rest)
        return graph.call(getattr(aten, f"conv{n}d").default, x, weight, bias, stride, padding, dilation, groups)
    except RuntimeError:  # the result would be empty
        return None


@given(st.data())
@h.profile(300)
def test_sampled_arguments(data):
    n = data.draw(st.integers(1, 3))
    spatial = [data.draw(st.integers(1, 4)) for _ in range(n)]
    shape = data.draw(st.sampled_from(([2, 2], [1, 2], [2]))) + spatial
    graph = h.Graph()
    x = graph.input(*shape)
    if len(shape) == n + 2 and data.draw(st.booleans()):
        sides = [data.draw(st.integers(-1, 2)) for _ in range(2 * n)]
        try:
            x = graph.call(aten.constant_pad_nd.default, x, sides)
        except RuntimeError:  # nothing is left
            return
    made = _sampled(data.draw, graph, x, n)
    if made is not None and made.meta["val"].numel():
        program = graph.program(made)
        h.check(program, data.draw(h.knowledge(program)))


@given(st.data())
@h.profile(200)
def test_between_convolutions(data):
    def op(graph, x):
        n = x.meta["val"].dim() - 2
        made = _sampled(data.draw, graph, x, n)
        return made if made is not None and made.meta["val"].numel() else None

    h.sandwich(data.draw, op)


def _taps(kernel, pad=(0, 0), **options):
    conv = _module(nn.Conv3d, 4, 3, (kernel, 1, 1), **options).double()
    return lambda x: conv(F.pad(x, (0, 0, 0, 0, *pad)))


@pytest.mark.parametrize(
    ("conv", "given", "expected"),
    [
        (_taps(1), "00ab", "aabc"),
        (_taps(1, bias=False), "00ab", "00ab"),
        (_taps(3, (2, 0)), "a", "a"),
        (_taps(3, (2, 0)), "aaaa", "abcc"),
        (_taps(3, (2, 0), bias=False), "000a", "000a"),
        (_taps(3, (1, 1)), "aaaa", "abbc"),  # equal slices are not equal at a border of zeros
        (_taps(3), "aaaaa", "aaa"),
        (_taps(3), "aaab", "ab"),
        (_taps(2, stride=2), "abab", "aa"),
        (_taps(2, stride=2), "00ab", "ab"),
        (_taps(2, dilation=2), "abab", "ab"),
        (_taps(3, (4, 0), bias=False), "a", "00a"),
        (_taps(2, (0, 3), bias=False), "a", "ab0".replace("b", "0")),
    ],
)
def test_found_along_the_axis(conv, given, expected):
    assert h.found(conv, given) == expected


def _transposed(kernel, **options):
    return _module(nn.ConvTranspose3d, 4, 3, (kernel, 1, 1), **options)


@pytest.mark.parametrize(
    ("conv", "given", "expected"),
    [
        (_transposed(1), "0aab", "abbc"),
        (_transposed(1, bias=False), "0aab", "0aab"),
        (_transposed(2, stride=(2, 1, 1)), "aa", "abab"),
        (_transposed(1, stride=(3, 1, 1), bias=False), "aa", "a00a"),
        (_transposed(1, stride=(2, 1, 1)), "aa", "aba"),
        (_transposed(2, bias=False), "00a", "00ab"),
    ],
)
def test_found_along_the_axis_of_a_transposed_convolution(conv, given, expected):
    assert h.found(conv, given) == expected


def test_found_in_the_batch():
    conv = _module(nn.Conv3d, 4, 3, (1, 3, 3))
    assert h.found(conv, "0aab", axis=0) == "abbc"
    assert h.found(_module(nn.Conv3d, 4, 3, (1, 3, 3), bias=False), "0aab", axis=0) == "0aab"


def test_channels_are_mixed():
    assert h.found(_module(nn.Conv3d, 4, 3, 1, bias=False), "00aa", axis=1) == "abc"


def _plans(program, known=None):
    analysis = analyse(program, (known or h.Known()).given())
    return list(analysis.sites.values())


@given(st.data())
@h.profile(100)
def test_every_tap_meets_what_the_plan_says(data):
    """One tap of ones at a time: result slice o is the sum of the input slice that the tap meets there."""
    n = 1
    graph = h.Graph()
    size = data.draw(st.integers(1, 6))
    made = _sampled(data.draw, graph, graph.input(1, 2, size), n)
    if made is None:
        return
    program = graph.program(made)
    node = program.outputs[0]
    facts = Facts()
    for each in program.nodes:
        facts.of[each] = tuple(facts.fresh(each, a) for a in range(each.rank))
    here = site(node, facts)
    (plan,) = here.axes
    x = torch.arange(1.0, size + 1).expand(1, 2, size).double()
    for tap in range(plan.kernel):
        weight = torch.zeros(tuple(here.weight.shape), dtype=torch.float64)
        weight[..., tap] = 1
        args = node.args | {"input": x, "weight": weight, "bias": None}
        result = node.target(**args)[0, 0] / (2 // here.groups)
        met = [plan.place(o, tap) for o in range(plan.outputs)]
        assert result.tolist() == [0 if p is None else p + 1 for p in met]


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 4), st.integers(0, 4))
@h.profile(300)
def test_a_plain_axis_has_nothing_to_gain(size, kernel, stride, dilation, lo, hi):
    outputs = (size + lo + hi - dilation * (kernel - 1) - 1) // stride + 1
    if outputs < 1:
        return
    facts = Facts()
    taps = tuple((t,) for t in range(kernel))
    ids = h.Slices(facts.numbering.block("x", size))
    plan = AxisPlan(2, size, outputs, kernel, stride, dilation, lo, hi, ids, False, 0, taps)
    if plan.plain:
        assert all(any(plan.meets(o, t) for o in range(outputs)) for t in range(kernel)), "a dead tap"
        columns = [tuple(plan.meets(o, t) for o in range(outputs)) for t in range(kernel)]
        assert len(set(columns)) == kernel, "two taps that meet the same slices"
        assert () not in plan.rows, "a position that reads nothing"
        assert len(set(plan.rows)) > 1, "all results are equal"


@pytest.mark.parametrize(
    ("spelling", "n"),
    [
        (lambda w: F.conv3d(torch.zeros(1, 2, 1, 4, 5), w, padding=1), 3),
        (lambda w: F.conv3d(torch.zeros(2, 1, 4, 5), w, padding="same"), 3),
        (lambda w: torch.convolution(torch.zeros(1, 2, 1, 4, 5), w, None, [1], [1], [1], False, [0], 1), 3),
    ],
)
def test_one_int_stands_for_all_axes(spelling, n):
    program = h.Case("", lambda w: spelling(w.float()), ((2, 2, 3, 3, 3),)).program
    (here,) = _plans(program)
    assert [(a.kernel, a.stride, a.dilation, a.lo, a.hi) for a in here.axes] == [(3, 1, 1, 1, 1)] * n


def test_same_puts_the_odd_slice_behind():
    program = h.Case("", _module(nn.Conv3d, 2, 2, (2, 4, 3), padding="same", dilation=(1, 1, 2)), (VOLUME,)).program
    (here,) = _plans(program)
    assert [(a.lo, a.hi) for a in here.axes] == [(0, 1), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("conv", "expected"),
    [
        (_module(nn.Conv3d, 4, 4, 3, padding=1), ["conv2d"]),
        (_module(nn.Conv3d, 4, 4, (3, 1, 1), padding=(1, 0, 0)), ["conv2d"]),
        (_module(nn.Conv3d, 4, 4, (1, 3, 3), padding=(0, 1, 1), stride=(1, 2, 2)), ["conv2d"]),
        (_module(nn.Conv3d, 4, 4, 3, padding=1, groups=4), ["conv2d"]),
        (_module(nn.Conv3d, 4, 4, 3, padding=1, padding_mode="replicate"), ["pad", "conv2d"]),
        (_module(nn.Conv3d, 4, 4, (4, 4, 4), padding="same"), ["constant_pad_nd", "conv2d"]),
        (_module(nn.ConvTranspose3d, 4, 4, (1, 2, 2), stride=(1, 2, 2)), ["conv_transpose2d"]),
        (_module(nn.ConvTranspose3d, 4, 4, 3, padding=1), ["conv_transpose2d"]),
    ],
)
def test_forms(conv, expected):
    h.assert_flat(h.between(conv), *expected)


def test_the_whole_image_is_a_matrix_product():
    conv = _module(nn.Conv3d, 2, 3, (1, 4, 5)).double()
    program = h.Case("", conv, ((2, 2, 1, 4, 5),)).program
    h.check(program)
    made = h.form(
        program, lower(program, analyse(program)), h.Known().sample(program, torch.Generator().manual_seed(0))
    )
    assert "conv3d" not in made.ops
