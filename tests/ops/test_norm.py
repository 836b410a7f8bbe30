"""Norms, and norms spelled out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.ops import harness as h

aten = torch.ops.aten
VOLUME = (2, 4, 3, 3, 2)


def _rms(x):
    return x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6)


class ChannelNorm(nn.Module):
    """The norm of several video autoencoders: unit length along the channels, times a gain."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(4, 1, 1, 1))

    def forward(self, x):
        return F.normalize(x, dim=1) * 4**0.5 * self.gamma


class LastNorm(nn.Module):
    """Layer norm over channels, moved to the back and to the front again."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


def _batch(affine=True):
    norm = nn.BatchNorm3d(4, affine=affine)
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        if affine:
            norm.weight.normal_()
            norm.bias.normal_()
    return norm


SPELLINGS = h.cases({
    "batch_norm": (_batch(), VOLUME),
    "batch_norm plain": (_batch(affine=False), VOLUME),
    "batch_norm 2-D": (lambda x: F.batch_norm(x, torch.ones(4).double(), torch.ones(4).double()), (2, 4, 3, 2)),
    "batch_norm of (N, C)": (lambda x: F.batch_norm(x, torch.ones(4).double(), torch.ones(4).double()), (2, 4)),
    "batch_norm, relu in place": (nn.Sequential(_batch(), nn.ReLU(inplace=True)), VOLUME),
    "group_norm": (nn.GroupNorm(2, 4), VOLUME),
    "group_norm, one group": (nn.GroupNorm(1, 4, affine=False), VOLUME),
    "group_norm 1-D": (lambda x: F.group_norm(x, 2), (2, 4, 3)),
    "instance_norm": (nn.InstanceNorm3d(4, affine=True), VOLUME),
    "instance_norm plain": (lambda x: F.instance_norm(x), VOLUME),
    "instance_norm running": (nn.InstanceNorm3d(4, track_running_stats=True), VOLUME),
    "layer_norm": (nn.LayerNorm(2), VOLUME),
    "layer_norm of three": (nn.LayerNorm((3, 3, 2), elementwise_affine=False), VOLUME),
    "layer_norm of channels": (LastNorm(), VOLUME),
    "rms_norm": (nn.RMSNorm(2), VOLUME),
    "rms_norm of two": (lambda x: F.rms_norm(x, (3, 2), eps=1e-6), VOLUME),
    "rms spelled out": (_rms, VOLUME),
    "normalize": (ChannelNorm(), VOLUME),
    "normalize depth": (lambda x: F.normalize(x, dim=2), VOLUME),
    "local_response_norm": (lambda x: F.local_response_norm(x, 2), VOLUME),
    "standardised by hand": (lambda x: (x - x.mean((2, 3, 4), keepdim=True)) / (x.std((2, 3, 4), keepdim=True) + 1), VOLUME),
})  # fmt: skip


@pytest.mark.parametrize("case", SPELLINGS, ids=repr)
@given(data=st.data())
@h.profile(10)
def test_spellings(case, data):
    h.check(case.program, data.draw(h.knowledge(case.program)))


def _norm(draw, graph, x):
    shape = x.meta["val"].shape
    channels = shape[1]
    weight, bias = (graph.weight(torch.randn(channels, dtype=torch.float64)) for _ in range(2))
    kind = draw(st.sampled_from(("batch", "group", "instance", "layer", "rms")))
    if kind == "batch":
        mean, var = graph.weight(torch.randn(channels).double()), graph.weight(torch.rand(channels).double() + 0.5)
        return graph.call(aten.batch_norm.default, x, weight, bias, mean, var, False, 0.1, 1e-5, False)
    if kind == "group":
        return graph.call(aten.group_norm.default, x, draw(st.sampled_from((1, channels))), weight, bias)
    if kind == "instance":
        return graph.call(aten.instance_norm.default, x, weight, bias, None, None, True, 0.1, 1e-5, False)
    over = list(shape[-draw(st.integers(1, 2)) :])
    target = {"layer": aten.layer_norm.default, "rms": aten.rms_norm.default}[kind]
    return graph.call(target, x, over)


@given(st.data())
@h.profile(80)
def test_sampled_arguments(data):
    shape = data.draw(st.sampled_from(((2, 2, 3, 2, 2), (2, 2, 3, 2), (1, 2, 3), (2, 2, 1, 3, 1))))
    h.alone(data.draw, lambda graph, x: _norm(data.draw, graph, x), *shape)


@given(st.data())
@h.profile(120)
def test_between_convolutions(data):
    h.sandwich(data.draw, lambda graph, x: _norm(data.draw, graph, x))


@given(st.data())
@h.profile(60)
def test_behind_moved_axes(data):
    order = list(data.draw(st.permutations(range(5))))
    h.sandwich(data.draw, lambda graph, x: _norm(data.draw, graph, graph.call(aten.permute.default, x, order)), 3)


@pytest.mark.parametrize(
    ("norm", "given", "expected"),
    [
        (_batch(), "00ab", "aabc"),  # the shift makes zeros something else, but the same
        (nn.GroupNorm(2, 4), "aab", "aab"),
        (nn.GroupNorm(2, 4), "00a", "aab"),  # statistics over depth: zero is lost
        (nn.InstanceNorm3d(4), "aab0", "aabc"),
        (lambda x: F.layer_norm(x, x.shape[-1:]), "0aab", "abbc"),
        (lambda x: F.rms_norm(x, x.shape[-1:]), "aab", "aab"),
        (_rms, "00ab", "00ab"),
        (_rms, "aab", "aab"),
    ],
)
def test_found(norm, given, expected):
    assert h.found(norm, given) == expected


def test_zero_survives_normalize():
    # x / max(‖x‖, ε): zero over something that is not zero.
    assert h.found(lambda x: F.normalize(x, dim=1), "00ab") in ("00ab", "aabc")


def test_group_norm_in_a_batch_of_equal_images():
    assert h.found(nn.GroupNorm(2, 4), "aab", axis=0) == "aab"


def test_layer_norm_over_depth_says_nothing_of_depth():
    assert h.found(lambda x: F.layer_norm(x, x.shape[2:]), "aab") == "abc"
    assert h.found(lambda x: F.layer_norm(x, x.shape[2:]), "0ab", axis=1) == "abc"


def test_statistics_over_depth_keep_zero_slices():
    # (x − mean)/std of (0, x): dropping the zero slice would change mean and std.
    case = h.Case("", lambda x: F.group_norm(F.pad(x, (0, 0, 0, 0, 1, 0)), 1), ((2, 2, 1, 3, 2),))
    h.check(case.program)
    graph = h.Graph()
    x = graph.input(2, 2, 1, 3, 4)
    weight = graph.weight(torch.randn(2, 2, 1, 1, 1).double())
    y = graph.call(aten.conv3d.default, x, weight)
    y = graph.call(aten.constant_pad_nd.default, y, [0, 0, 0, 0, 1, 0])
    y = graph.call(aten.group_norm.default, y, 1)
    h.check(graph.program(graph.call(aten.conv3d.default, y, weight)))


@pytest.mark.parametrize(
    ("op", "inside"),
    [
        (_batch(), ["batch_norm"]),
        (nn.GroupNorm(2, 4), ["group_norm"]),
        (nn.InstanceNorm3d(4), ["instance_norm"]),
        (lambda x: F.layer_norm(x, x.shape[-2:]), ["layer_norm"]),
        (nn.Sequential(_batch(), nn.ReLU(inplace=True)), ["batch_norm", "relu"]),
        (LastNorm(), ["permute", "layer_norm", "permute"]),
        (_rms, ["pow", "mean", "add", "rsqrt", "mul"]),
    ],
)
def test_forms(op, inside):
    h.assert_flat(h.between(op), *inside)


def test_forms_of_normalize():
    made = h.between(ChannelNorm())
    assert all(rank <= 4 for op, rank in zip(made.ops[2:-1], made.ranks[2:-1], strict=True)), made.ops
    assert "squeeze" not in made.inside
    assert "unsqueeze" not in made.inside
