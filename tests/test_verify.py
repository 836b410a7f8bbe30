"""Verification: it passes what is right and stops what is not."""

import dataclasses
import importlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatconv
from flatconv import accuracy, capture, lower, oracle, verify
from flatconv.forms import native
from flatconv.ops import conv as conv_room
from flatconv.ops import norm, pointwise, shape
from flatconv.rules import drop_axis
from tests.expected import Before, Net, Padded, filled, sample

aten = torch.ops.aten


def clip(*shape, dtype=torch.float32):
    return sample(*(shape or (1, 2, 1, 5, 6)), dtype=dtype)


def network(**options):
    return filled(
        nn.Sequential(nn.Conv3d(2, 3, 3, padding=1, **options), nn.SiLU(), nn.Conv3d(3, 2, 3, padding=1)),
        dtype=torch.float32,
    )


def stopped(net, x, **options):
    with pytest.raises(flatconv.VerificationError) as caught:
        flatconv.fold(net, (x,), **{"dynamic": False} | options)
    assert "Nothing was written" in str(caught.value) or "fold" in str(caught.value)
    # Without the checks it goes through: they are what stops it.
    flatconv.fold(net, (x,), **{"dynamic": False, "verify": False} | options)
    return str(caught.value)


# --- what is broken on purpose is stopped


def change_weight(monkeypatch, change):
    """Break the reduction of weights everywhere it is used."""
    right = conv_room.reduce_weight

    def wrong(weight, here, dtype, call):
        return change(right, weight, here, dtype, call)

    monkeypatch.setattr(conv_room, "reduce_weight", wrong)
    monkeypatch.setattr(lower, "reduce_weight", wrong)


@pytest.mark.parametrize("weights", ["folded", "shared"])
def test_the_wrong_tap(monkeypatch, weights):
    def change(right, weight, here, dtype, call):
        axes = tuple(dataclasses.replace(a, taps=((a.taps[0][0] - 1,),)) if a.dropped else a for a in here.axes)
        return right(weight, dataclasses.replace(here, axes=axes), dtype, call)

    change_weight(monkeypatch, change)
    said = stopped(network(), clip(), weights=weights)
    assert said.startswith("'0': with whole numbers as weights and inputs the rewritten conv3d")


def test_one_of_the_merged_taps_is_forgotten(monkeypatch):
    def change(right, weight, here, dtype, call):
        axes = tuple(dataclasses.replace(a, taps=tuple(g[:2] for g in a.taps)) for a in here.axes)
        return right(weight, dataclasses.replace(here, axes=axes), dtype, call)

    change_weight(monkeypatch, change)
    stopped(network(padding_mode="replicate"), clip())


def test_height_and_width_swapped(monkeypatch):
    def change(right, weight, here, dtype, call):
        return call(aten.transpose.int, right(weight, here, dtype, call), -2, -1)

    change_weight(monkeypatch, change)
    stopped(network(), clip())
    stopped(network(), clip(1, 2, 1, 5, 5))


def test_the_bias_is_lost(monkeypatch):
    right = conv_room.emit_plan
    monkeypatch.setattr(native, "emit_plan", lambda here, low, weight, bias: right(here, low, weight, None))
    stopped(network(), clip())


def test_padding_on_the_wrong_side(monkeypatch):
    right = conv_room.window

    def wrong(plan):
        lo, hi, dilation = right(plan)
        return hi, lo, dilation

    monkeypatch.setattr(conv_room, "window", wrong)
    net = filled(Padded(nn.Conv3d(2, 3, (3, 1, 1)), (0, 0, 0, 0, 2, 0)), dtype=torch.float32)
    stopped(net, clip(1, 2, 2, 5, 6))


def test_an_axis_dropped_that_is_read(monkeypatch):
    monkeypatch.setattr(drop_axis, "_why_not", lambda site, axis: None if axis is site.axes[0] else "no")
    net = filled(nn.Conv3d(2, 3, (1, 1, 1)), dtype=torch.float32)
    with pytest.raises((flatconv.VerificationError, AssertionError, StopIteration, RuntimeError)):
        flatconv.fold(net, (clip(1, 2, 2, 5, 6),), dynamic=False)


def test_near_zero_taps_are_dropped(monkeypatch):
    # Too small for a comparison within float32's rounding of the whole output; not for coefficients.
    def change(right, weight, here, dtype, call):
        made = right(weight, here, dtype, call)
        return made * (made.abs() > 1e-6) if isinstance(made, torch.Tensor) else made

    net = network()
    with torch.no_grad():
        net[0].weight[0, 0] *= 1e-8
    change_weight(monkeypatch, change)
    stopped(net, clip())


def test_a_stale_weight(monkeypatch):
    module = importlib.import_module("flatconv.fold")
    right = module._state

    def stale(captured, lowered, weights):
        state = right(captured, lowered, weights)
        with torch.no_grad():
            for tensor in state.values():
                if tensor.dim() == 4:
                    tensor.mul_(1.0 + 1e-3)
        return state

    monkeypatch.setattr(module, "_state", stale)
    stopped(network(), clip())


def test_an_activation_that_is_left_out(monkeypatch):
    right = pointwise.Pointwise.emit

    def wrong(self, node, drop, low):
        return low.get(node.tensors[0], drop) if "silu" in node.op else right(self, node, drop, low)

    monkeypatch.setattr(pointwise.Pointwise, "emit", wrong)
    said = stopped(network(), clip())
    assert "in float64 the fold differs from the original by" in said


def test_channels_taken_from_another_axis(monkeypatch):
    # What batch norm would do, if an axis in front of the channels were dropped.
    def forward(self, x):
        return self.norm(self.conv(x).transpose(0, 2)).transpose(0, 2)

    norms = nn.BatchNorm3d(2)
    norms.running_mean.copy_(torch.tensor([1.0, -2.0]))
    net = filled(Net(forward, conv=nn.Conv3d(2, 2, 3, padding=1), norm=norms), dtype=torch.float32)
    flatconv.fold(net, (clip(2, 2, 1, 5, 6),), dynamic=False)
    monkeypatch.setattr(norm.BatchNorm, "twin", norm.Operator.twin)
    stopped(net, clip(2, 2, 1, 5, 6))


def test_a_wrong_result_shape(monkeypatch):
    right = shape.Permute.emit

    def wrong(self, node, drop, low):
        return low.call(aten.transpose.int, right(self, node, drop, low), -2, -1)

    monkeypatch.setattr(shape.Permute, "emit", wrong)
    net = filled(Before(lambda x: x.permute(0, 1, 2, 4, 3), nn.Conv3d(2, 3, 3, padding=1)), dtype=torch.float32)
    with pytest.raises(flatconv.VerificationError):
        flatconv.fold(net, (clip(),), dynamic=False)


def test_a_size_of_the_example_that_should_be_free(monkeypatch):
    # Wrong at other sizes alone: the trial at another size is what finds it.
    right = shape.Reshape._size

    def wrong(self, node, axis, source, low):
        size = right(self, node, axis, source, low)
        return size if isinstance(size, int) else 6 if axis == node.rank - 1 else size

    def forward(self, x):
        n, c, d, h, w = x.shape
        y = self.conv(x).reshape(n * c, d, h, w)
        return y.reshape(n, c, h, w)

    net = filled(Net(forward, conv=nn.Conv3d(2, 2, 3, padding=1)), dtype=torch.float32)
    flatconv.fold(net, (clip(),))
    monkeypatch.setattr(shape.Reshape, "_size", wrong)
    with pytest.raises(flatconv.VerificationError):
        flatconv.fold(net, (clip(),))


def test_a_capture_that_is_not_the_model():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(2, 2, 1)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return self.conv(x) * self.calls

    with pytest.raises(flatconv.FlatconvError, match=r"the capture is not the model|cannot be captured"):
        flatconv.fold(filled(Counting(), dtype=torch.float32), (clip(),), dynamic=False)


# --- what is right passes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", ["zeros", "replicate"])
def test_every_type_passes(dtype, mode):
    net = network(padding_mode=mode).to(dtype)
    report = flatconv.fold(net, (clip(dtype=dtype),), dynamic=False).report
    assert report.evidence.float64_error < verify.FLOAT64_LIMIT
    assert all(s.evidence.level in ("exact", "bounded") for s in report.sites)


def test_deep_networks_with_one_number_out_pass():
    # One number is one draw of the rounding error, not its scale.
    layers = [nn.Conv3d(1, 8, 3, padding=1)]
    for _ in range(6):
        layers += [nn.SiLU(), nn.Conv3d(8, 8, 3, padding=1)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 1, bias=False))
    for seed in range(6):
        torch.manual_seed(seed)
        for module in net.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        flatconv.fold(net.eval(), (torch.randn(1, 1, 1, 8, 8),), dynamic=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_that_rounds_inside_passes(dtype):
    net = filled(Before(lambda x: x.half().to(x.dtype), nn.Conv3d(2, 3, 3, padding=1)), dtype=dtype)
    flatconv.fold(net, (clip(dtype=dtype),), dynamic=False)


def test_rms_norm_with_the_epsilon_of_its_type_passes():
    def forward(self, x):
        y = self.conv(x) * 1e-3
        return self.norm(y.movedim(1, -1)).movedim(-1, 1)

    net = filled(Net(forward, conv=nn.Conv3d(2, 4, 3, padding=1), norm=nn.RMSNorm(4)), dtype=torch.float32)
    flatconv.fold(net, (clip(),), dynamic=False)


def test_an_output_that_cancels_passes():
    def forward(self, x):
        y = self.conv(x)
        return y, y - y.clone(), y.mean((3, 4), keepdim=True).expand(-1, -1, -1, 3, 3).std((3, 4))

    flatconv.fold(
        filled(Net(forward, conv=nn.Conv3d(2, 2, 3, padding=1)), dtype=torch.float32), (clip(),), dynamic=False
    )


def test_infinities_and_nan_in_both_pass():
    def forward(self, x):
        y = self.conv(x)
        return torch.where(y > 0, torch.inf, y), (y - y) / (y - y)

    flatconv.fold(
        filled(Net(forward, conv=nn.Conv3d(2, 2, 3, padding=1)), dtype=torch.float32), (clip(),), dynamic=False
    )


def test_results_that_are_no_floats_pass():
    def forward(self, x, index):
        y = self.conv(x)
        return y > 0, y.argmax(1), y[:, index]

    net = filled(Net(forward, conv=nn.Conv3d(2, 2, 3, padding=1)), dtype=torch.float32)
    flatconv.fold(net, (clip(), torch.tensor([1, 0])), dynamic=False)


def test_a_free_channel_axis_passes():
    net = filled(
        Before(lambda x: x.permute(2, 4, 0, 1, 3), nn.Conv3d(1, 2, (3, 1, 1), padding=(1, 0, 0))), dtype=torch.float32
    )
    flatconv.fold(net, (clip(1, 1, 4, 5, 1),))


def test_sizes_that_leave_nothing_pass():
    net = filled(nn.ConvTranspose3d(2, 2, (3, 1, 2), padding=(1, 1, 0)), dtype=torch.float32)
    flatconv.fold(net, (clip(1, 2, 1, 4, 5),))


def test_sizes_that_depend_on_data():
    net = filled(
        Net(lambda self, x: self.conv(x).flatten()[x.flatten() > 0], conv=nn.Conv3d(2, 2, 1)), dtype=torch.float32
    )
    x = clip()
    try:
        flat = flatconv.fold(net, (x,), dynamic=False)
    except flatconv.RefusedError:
        return
    with torch.no_grad():
        torch.testing.assert_close(flat(x), net(x))


# --- evidence


def test_levels():
    zeros = flatconv.fold(network(), (clip(),), dynamic=False).report.sites[0].evidence
    assert (zeros.level, zeros.how) == ("exact", "dyadic integers and unit impulses")
    merged = flatconv.fold(network(padding_mode="replicate"), (clip(),), dynamic=False).report.sites[0].evidence
    assert (merged.level, merged.how) == ("exact", "dyadic integers")
    assert 0 <= merged.bound_used <= 1


def test_a_site_left_alone_has_no_evidence():
    report = flatconv.fold(
        filled(nn.Conv3d(2, 3, 3, padding=1), dtype=torch.float32), (clip(1, 2, 4, 5, 6),), dynamic=False
    ).report
    assert report.sites[0].evidence is None
    assert report.evidence.runs


def test_a_site_too_large_for_an_oracle_is_tested(monkeypatch):
    monkeypatch.setattr(oracle, "MAX_WORK", 1)
    evidence = flatconv.fold(network(), (clip(),), dynamic=False).report.sites[0].evidence
    assert (evidence.level, evidence.how) == ("tested", "too large for an oracle of its own")
    assert evidence.bound_used is None


def test_sums_too_large_to_be_exact_are_bounded(monkeypatch):
    monkeypatch.setattr(oracle, "EXACT_SUM", 1)
    evidence = flatconv.fold(network(), (clip(),), dynamic=False).report.sites[0].evidence
    assert evidence.level == "bounded"
    assert evidence.how.startswith("rounding bound")


def test_nothing_is_claimed_without_verification():
    report = flatconv.fold(network(), (clip(),), dynamic=False, verify=False).report
    assert report.evidence.runs == ()
    assert report.evidence.float64_error is None
    assert all(s.evidence is None for s in report.sites)


def test_another_size_is_tried_where_sizes_are_free():
    runs = flatconv.fold(network(), (clip(1, 2, 1, 8, 8),)).report.evidence.runs
    shapes = [run.shapes[0] for run in runs]
    assert shapes[0] == (1, 2, 1, 8, 8)
    assert any(s[0] != 1 and s[3:] != (8, 8) for s in shapes)


# --- the measures


def test_worst():
    a, b = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 4.0])
    assert accuracy.worst(a, b) == 0
    assert accuracy.worst(a + torch.tensor([0, 0.4, 0]), b) == pytest.approx(0.1)
    assert accuracy.worst(a[:2], b) == float("inf")
    assert accuracy.worst(torch.empty(0), torch.empty(0)) == 0
    assert accuracy.worst(torch.tensor([1, 2]), torch.tensor([1, 3])) == 1
    special = torch.tensor([torch.inf, -torch.inf, torch.nan, 1.0])
    assert accuracy.worst(special, special) == 0
    for changed in (
        [torch.inf, torch.inf, torch.nan, 1.0],
        [torch.inf, -torch.inf, 0.0, 1.0],
        [torch.inf, 0.0, torch.nan, 1.0],
    ):
        assert accuracy.worst(torch.tensor(changed), special) == float("inf")


def test_spread():
    b = torch.tensor([3.0, -3.0])
    assert accuracy.spread(b + torch.tensor([0.3, 0.3]), b) == pytest.approx(0.1, rel=1e-5)
    assert accuracy.spread(b, b) == 0
    assert accuracy.spread(torch.tensor([1, 2]), torch.tensor([1, 3])) == 0.5


def test_the_model_is_run_as_it_is_called():
    calls = []

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(2, 2, 3, padding=1)

        def decode(self, z, *, scale):
            calls.append(scale)
            return self.conv(z) * scale

    captured = capture.capture(
        filled(Named(), dtype=torch.float32), (clip(),), {"scale": 3.0}, method="decode", dynamic=False
    )
    assert captured.method == "decode"
    flatconv.fold(captured.model, (clip(),), {"scale": 3.0}, method="decode", dynamic=False)
    assert set(calls) == {3.0}


def test_a_pad_read_by_another_is_checked_too():
    def forward(self, x):
        padded = F.pad(x, (1, 1, 1, 1, 2, 0))
        return self.conv(padded), padded.mean()

    report = flatconv.fold(
        filled(Net(forward, conv=nn.Conv3d(2, 2, 3)), dtype=torch.float32), (clip(),), dynamic=False
    ).report
    assert report.sites[0].evidence.level == "exact"


def test_a_site_that_runs_for_an_empty_batch_alone_is_tested_and_no_more():
    # torch takes this output padding only where there is nothing to compute.
    model = filled(nn.ConvTranspose3d(1, 1, 1, output_padding=(0, 0, 1), bias=False))
    flat = flatconv.fold(model, (torch.randn(0, 1, 1, 1, 1, dtype=torch.float64),))
    assert {s.evidence.level for s in flat.report.sites if s.evidence} <= {"tested"}
    assert flat(torch.randn(0, 1, 1, 1, 1, dtype=torch.float64)).shape == (0, 1, 1, 1, 2)


@pytest.mark.parametrize("options", [{"stride": (1, 2, 1), "padding": (1, 0, 0)}, {"padding": (1, 0, 0)}])
def test_a_site_without_results(options):
    # torch takes an empty result for some types and batches and refuses it for others.
    model = filled(nn.ConvTranspose3d(1, 1, (2, 1, 1), bias=False, **options), dtype=torch.float32)
    flat = flatconv.fold(model, (torch.randn(0, 1, 1, 1, 1),), dynamic=False, weights="shared")
    assert flat(torch.randn(0, 1, 1, 1, 1)).numel() == 0


@pytest.mark.parametrize(
    "before", [lambda x: x.repeat(1, 1, 3, 1, 1), lambda x: F.pad(x, (0, 0, 0, 0, 1, 1), mode="circular")]
)
def test_impulses_in_equal_slices_are_sums_and_raise_no_false_alarm(before):
    model = filled(Before(before, nn.ConvTranspose3d(1, 1, (4, 1, 1), bias=False)), dtype=torch.float32)
    for seed in range(5):
        filled(model, seed=seed, dtype=torch.float32)
        flat = flatconv.fold(model, (torch.randn(2, 1, 1, 1, 3),))
        assert "unit impulses" not in flat.report.sites[0].evidence.how


@pytest.mark.parametrize("kernel", [(2, 1, 2), (1, 2, 2), (2, 3, 2)])
def test_weights_merged_along_two_axes_are_rounded_once(kernel):
    padding = tuple(k // 2 for k in kernel)
    for seed in range(20):
        conv = nn.Conv3d(1, 1, kernel, padding=padding, bias=False, padding_mode="replicate")
        filled(conv, seed=seed, dtype=torch.float32)
        flat = flatconv.fold(conv, (torch.randn(1, 1, 1, 1, 1),), dynamic=False)
        (held,) = flat.state_dict().values()
        assert torch.equal(held.reshape(()), conv.weight.detach().double().sum().float())
