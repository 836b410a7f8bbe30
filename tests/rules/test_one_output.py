import pytest
import torch
from torch import nn

from tests.expected import Before, Padded, filled, folded, form, only_site, refused, sample

RULE = "one output for all"


def conv(kernel=(2, 1, 1), padding=0, **options):
    return nn.Conv3d(2, 3, kernel, padding=padding, **options)


def tiled(times):
    return lambda x: x.repeat(1, 1, times, 1, 1)


def test_every_result_reads_the_same_two_slices():
    # a b a b a b in steps of two: one result, three times.
    net = filled(Before(tiled(3), conv(stride=(2, 1, 1))))
    flat = folded(net, sample(1, 2, 2, 3, 4))
    assert form(flat) == [
        ("repeat.default", "x", [1, 1, 3, 1, 1]),
        ("constant_pad_nd.default", "#0", [0, 0, 0, 0, 0, -4]),
        ("conv3d.default", "#1", "conv.weight", "conv.bias", [1, 1, 1], [0, 0, 0], [1, 1, 1], 1),
        ("expand.default", "#2", [-1, -1, 3, -1, -1]),
        ("clone.default", "#3", {"memory_format": torch.contiguous_format}),
        ("return", "#4"),
    ]
    assert only_site(flat).rule == (RULE,)
    # Two taps at one result, where there were three.
    assert 3 * only_site(flat).useful_macs == only_site(flat).macs


def test_with_padding_on_the_other_axes():
    net = filled(Before(tiled(2), conv(kernel=(2, 3, 3), padding=(0, 1, 1), stride=(2, 1, 1), bias=False)))
    flat = folded(net, sample(1, 2, 2, 3, 4))
    assert form(flat)[1:4] == [
        ("constant_pad_nd.default", "#0", [0, 0, 0, 0, 0, -2]),
        ("conv3d.default", "#1", "conv.weight", None, [1, 1, 1], [0, 1, 1], [1, 1, 1], 1),
        ("expand.default", "#2", [-1, -1, 2, -1, -1]),
    ]


def test_an_expanded_slice_needs_no_expand_of_the_result_until_it_leaves():
    net = filled(Before(lambda x: x.expand(-1, -1, 4, -1, -1), conv()))
    flat = folded(net, sample(1, 2, 1, 3, 4))
    # One slice is all there is, so the axis goes as well.
    assert form(flat) == [
        ("squeeze.dims", "x", [2]),
        ("conv2d.default", "#0", "conv.weight", "conv.bias", [1, 1], [0, 0], [1, 1], 1),
        ("unsqueeze.default", "#1", 2),
        ("expand.default", "#2", [-1, -1, 3, -1, -1]),
        ("clone.default", "#3", {"memory_format": torch.contiguous_format}),
        ("return", "#4"),
    ]
    assert only_site(flat).rule == ("merge taps", RULE, "drop an axis")


def test_the_result_owns_its_memory():
    net = filled(Before(tiled(2), conv(stride=(2, 1, 1))))
    x = sample(1, 2, 2, 3, 4)
    y = folded(net, x)(x)
    assert y.is_contiguous()
    y.add_(1)


def test_two_convolutions_read_each_other():
    net = nn.Sequential(conv(stride=(2, 1, 1)), nn.Conv3d(3, 2, (3, 1, 1)))
    flat = folded(filled(Before(tiled(3), net)), sample(1, 2, 2, 3, 4))
    assert [s.rule for s in flat.report.sites] == [(RULE,), ("merge taps", "drop an axis")]


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        pytest.param(conv(), (1, 2, 4, 3, 4), id="all slices distinct"),
        pytest.param(Before(tiled(2), conv()), (1, 2, 1, 3, 4), id="one result"),
        pytest.param(Before(tiled(3), conv(stride=(3, 1, 1))), (1, 2, 2, 3, 4), id="a b and b a"),
        pytest.param(
            Before(tiled(4), nn.ConvTranspose3d(2, 3, (1, 1, 1), padding=0)), (1, 2, 1, 3, 4), id="transposed"
        ),
    ],
)
def test_left_alone(net, shape):
    flat = folded(filled(net), sample(*shape))
    assert RULE not in only_site(flat).rule
    assert not refused(flat, RULE)


def test_equal_slices_under_a_border_of_zeros():
    # 0 a a a a 0: the inner results are equal, the outer two are not.
    net = filled(Before(tiled(4), conv(kernel=(3, 1, 1), padding=(1, 0, 0))))
    flat = folded(net, sample(1, 2, 1, 3, 4))
    assert "3 different result slices along axis 2" in refused(flat, RULE)
    assert only_site(flat).rule == ("share equal results",)


def test_two_of_three_results_equal():
    net = filled(Padded(conv(), (0, 0, 0, 0, 2, 0), "replicate"))
    flat = folded(net, sample(1, 2, 2, 3, 4))
    assert "2 different result slices along axis 2" in refused(flat, RULE)
    assert RULE not in only_site(flat).rule


def test_results_that_are_the_bias_alone():
    net = filled(conv(kernel=1, padding=(3, 0, 0), stride=(5, 1, 1)))
    flat = folded(net, sample(1, 2, 2, 3, 4))
    assert RULE not in only_site(flat).rule
    assert form(flat) == [
        ("conv3d.default", "input", "weight", "bias", [5, 1, 1], [3, 0, 0]),
        ("return", "#0"),
    ]
