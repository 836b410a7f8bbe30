import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.expected import Before, Padded, filled, folded, form, only_site, refused, sample

RULE = "drop dead taps"


def conv(kernel=3, padding=1, **options):
    return nn.Conv3d(2, 3, kernel, padding=padding, **options)


def test_outer_taps_that_meet_padding_alone_are_left_out():
    net = filled(conv(kernel=(5, 1, 1), padding=(2, 0, 0)))
    flat = folded(net, sample(1, 2, 2, 3, 4))
    # Two slices meet taps 2 and 3, or 1 and 2: what is left is a kernel of three, padded by one.
    assert form(flat) == [
        ("conv3d.default", "input", "weight", "bias", [1, 1, 1], [1, 0, 0], [1, 1, 1], 1),
        ("return", "#0"),
    ]
    assert torch.equal(flat.weight, net.weight[:, :, 1:4])
    assert torch.equal(flat.bias, net.bias)
    assert only_site(flat).rule == (RULE,)
    assert (only_site(flat).live_taps, only_site(flat).dead_taps) == ((1, 2, 3), (0, 4))


def test_causal_padding_on_two_frames_leaves_the_last_two_taps():
    net = filled(Padded(conv(kernel=(3, 1, 1), padding=0), (0, 0, 0, 0, 2, 0)))
    flat = folded(net, sample(1, 2, 2, 3, 4))
    assert form(flat) == [
        ("constant_pad_nd.default", "x", [0, 0, 0, 0, 1, 0]),
        ("conv3d.default", "#0", "conv.weight", "conv.bias", [1, 1, 1], [0, 0, 0], [1, 1, 1], 1),
        ("return", "#1"),
    ]
    assert torch.equal(flat.conv.weight, net.conv.weight[:, :, 1:])


def test_taps_left_apart_are_a_dilated_convolution():
    # One slice, stride 2, two in front and behind: the first result meets it with tap 2, the second with tap 0.
    net = filled(conv(kernel=(3, 1, 1), padding=(2, 0, 0), stride=(2, 1, 1)))
    flat = folded(net, sample(1, 2, 1, 3, 4))
    assert form(flat) == [
        ("conv3d.default", "input", "weight", "bias", [2, 1, 1], [2, 0, 0], [2, 1, 1], 1),
        ("return", "#0"),
    ]
    assert torch.equal(flat.weight, net.weight[:, :, ::2])
    assert only_site(flat).dead_taps == (1,)


def test_dilation_that_reaches_past_both_ends():
    net = filled(conv(kernel=(3, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1)))
    flat = folded(net, sample(1, 2, 2, 3, 4))
    assert form(flat) == [
        ("conv3d.default", "input", "weight", "bias", [1, 1, 1], [0, 0, 0], [2, 1, 1], 1),
        ("return", "#0"),
    ]
    assert torch.equal(flat.weight, net.weight[:, :, 1:2])


def test_what_the_first_live_tap_never_reads_is_cropped():
    # Every other slice is zero, and the first tap meets only those.
    def interleave(x):
        return F.pad(x, (0, 0, 0, 0, 0, 1))[:, :, [3, 0, 3, 1, 3, 2]]

    net = filled(Before(interleave, conv(kernel=(2, 1, 1), padding=0, stride=(2, 1, 1))))
    flat = folded(net, sample(1, 2, 3, 3, 4))
    *_, index, crop, convolution, output = form(flat)
    assert index[0] == "index.Tensor"
    assert crop[2:] == ([0, 0, 0, 0, -1, 0],)
    assert convolution[2:] == ("conv.weight", "conv.bias", [2, 1, 1], [0, 0, 0], [1, 1, 1], 1)
    assert output[0] == "return"
    assert torch.equal(flat.conv.weight, net.conv.weight[:, :, 1:])


def test_along_height_too():
    net = filled(nn.Conv2d(2, 3, (5, 3), padding=(2, 1), bias=False))
    flat = folded(net, sample(1, 2, 2, 6))
    assert form(flat) == [
        ("conv2d.default", "input", "weight", None, [1, 1], [1, 1], [1, 1], 1),
        ("return", "#0"),
    ]
    assert torch.equal(flat.weight, net.weight[:, :, 1:4])


def test_grouped():
    net = filled(nn.Conv3d(4, 6, (5, 1, 1), padding=(2, 0, 0), groups=2))
    flat = folded(net, sample(1, 4, 2, 3, 4))
    assert form(flat) == [
        ("conv3d.default", "input", "weight", "bias", [1, 1, 1], [1, 0, 0], [1, 1, 1], 2),
        ("return", "#0"),
    ]


def test_transposed_with_one_slice_in_and_one_out():
    net = filled(nn.ConvTranspose3d(2, 3, (3, 1, 1), padding=(1, 0, 0)))
    flat = folded(net, sample(1, 2, 1, 3, 4))
    assert form(flat) == [
        ("squeeze.dims", "input", [2]),
        ("conv_transpose2d.input", "#0", "weight", "bias", [1, 1], [0, 0], [0, 0], 1, [1, 1]),
        ("unsqueeze.default", "#1", 2),
        ("return", "#2"),
    ]
    assert torch.equal(flat.weight, net.weight[:, :, 1])
    assert only_site(flat).dead_taps == (0, 2)


def test_shared_weights_are_sliced_on_every_call():
    net = filled(conv(kernel=(5, 1, 1), padding=(2, 0, 0)))
    flat = folded(net, sample(1, 2, 2, 3, 4), weights="shared")
    assert flat.weight is net.weight
    assert form(flat)[-2:] == [
        ("conv3d.default", "input", "#3", "bias", [1, 1, 1], [1, 0, 0], [1, 1, 1], 1),
        ("return", "#4"),
    ]
    assert form(flat)[:4] == [
        ("slice.Tensor", "weight", 2, 1, 2),
        ("slice.Tensor", "weight", 2, 2, 3),
        ("slice.Tensor", "weight", 2, 3, 4),
        ("cat.default", ["#0", "#1", "#2"], 2),
    ]


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        pytest.param(conv(), (1, 2, 2, 4, 5), id="two slices under three taps: every tap meets one of them"),
        pytest.param(conv(), (1, 2, 5, 4, 5), id="more slices than taps"),
        pytest.param(conv(kernel=(3, 1, 1), padding=0), (1, 2, 3, 4, 5), id="no padding"),
        pytest.param(conv(padding_mode="replicate"), (1, 2, 2, 4, 5), id="replicate"),
        pytest.param(conv(padding_mode="reflect"), (1, 2, 2, 4, 5), id="reflect"),
        pytest.param(conv(padding_mode="circular"), (1, 2, 2, 4, 5), id="circular"),
        pytest.param(
            Padded(conv(padding=0), (1, 1, 1, 1, 1, 1), value=0.5), (1, 2, 1, 4, 5), id="a constant that is not zero"
        ),
    ],
)
def test_left_alone(net, shape):
    flat = folded(filled(net), sample(*shape))
    assert RULE not in only_site(flat).rule
    assert not refused(flat, RULE)
    assert only_site(flat).dead_taps == ()


def test_all_taps_dead():
    # Both taps step over the one slice: the result is the bias alone, and the convolution stays.
    net = filled(conv(kernel=(2, 1, 1), padding=(1, 0, 0), dilation=(2, 1, 1)))
    flat = folded(net, sample(1, 2, 1, 3, 4))
    assert only_site(flat).rule == ()
    assert "no tap along axis 2 meets data: the result is the bias alone" in refused(flat, RULE)
    assert form(flat) == [
        ("conv3d.default", "input", "weight", "bias", [1, 1, 1], [1, 0, 0], [2, 1, 1]),
        ("return", "#0"),
    ]
    assert only_site(flat).live_taps == ()
    assert only_site(flat).useful_macs == 0


def test_a_stride_that_steps_over_the_data():
    # Results at -3 and 2 of a tensor whose data are at 0 and 1.
    net = filled(conv(kernel=1, padding=(3, 0, 0), stride=(5, 1, 1)))
    flat = folded(net, sample(1, 2, 2, 3, 4))
    assert "the result is the bias alone" in refused(flat, RULE)
    assert only_site(flat).rule == ()


def test_live_taps_that_are_not_evenly_spaced():
    # Results at 0 and 3 of two slices behind three zeros: taps 3, then 0 and 1, are live.
    net = filled(conv(kernel=(4, 1, 1), padding=(3, 0, 0), stride=(3, 1, 1)))
    flat = folded(net, sample(1, 2, 2, 3, 4))
    assert "the live taps (0, 1, 3) along axis 2 are not evenly spaced" in refused(flat, RULE)
    assert only_site(flat).rule == ()
    assert form(flat) == [
        ("conv3d.default", "input", "weight", "bias", [3, 1, 1], [3, 0, 0]),
        ("return", "#0"),
    ]


def test_transposed_with_several_slices_out():
    net = filled(nn.ConvTranspose3d(2, 3, (4, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0)))
    flat = folded(net, sample(1, 2, 1, 3, 4))
    why = "the live taps (1, 2) of a transposed convolution each make another result slice"
    assert why in refused(flat, RULE)
    assert only_site(flat).rule == ()
    assert only_site(flat).dead_taps == (0, 3)
    assert form(flat) == [
        ("conv_transpose3d.input", "input", "weight", "bias", [2, 1, 1], [1, 0, 0]),
        ("return", "#0"),
    ]


def test_nothing_is_claimed_of_a_free_size():
    net = filled(nn.Conv2d(2, 3, (5, 3), padding=(2, 1)))
    x = sample(2, 2, 6, 7)
    flat = folded(net, x, dynamic="auto")
    assert only_or_none(flat) is None
    assert [row[0] for row in form(flat)] == ["conv2d.default", "return"]


def only_or_none(flat):
    return next(iter(flat.report.sites), None)


def test_a_zero_slice_that_is_only_zero_in_the_example_is_data():
    x = sample(1, 2, 3, 3, 4)
    x[:, :, 0] = 0
    flat = folded(filled(conv(kernel=(3, 1, 1), padding=0)), x)
    assert only_site(flat).dead_taps == ()
    assert only_site(flat).rule == ()
