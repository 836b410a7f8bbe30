import pytest
import torch
from torch import nn

from tests.expected import Before, Padded, filled, folded, form, only_site, refused, sample

RULE = "drop an axis"


def conv(kernel=3, padding=1, **options):
    return nn.Conv3d(2, 3, kernel, padding=padding, **options)


def test_a_kernel_of_one_on_one_slice():
    net = filled(conv(kernel=(1, 3, 3), padding=(0, 1, 1)))
    flat = folded(net, sample(2, 2, 1, 4, 5))
    assert form(flat) == [
        ("squeeze.dims", "input", [2]),
        ("conv2d.default", "#0", "weight", "bias", [1, 1], [1, 1], [1, 1], 1),
        ("unsqueeze.default", "#1", 2),
        ("return", "#2"),
    ]
    assert torch.equal(flat.weight, net.weight[:, :, 0])
    assert only_site(flat).rule == (RULE,)
    assert only_site(flat).becomes == "conv2d"


def test_stride_and_dilation_of_the_other_axes_stay():
    net = filled(conv(kernel=(3, 3, 2), padding=(2, 0, 3), stride=(3, 2, 1), dilation=(2, 1, 3)))
    flat = folded(net, sample(1, 2, 1, 6, 7))
    assert form(flat) == [
        ("squeeze.dims", "input", [2]),
        ("conv2d.default", "#0", "weight", "bias", [2, 1], [0, 3], [1, 3], 1),
        ("unsqueeze.default", "#1", 2),
        ("return", "#2"),
    ]
    assert torch.equal(flat.weight, net.weight[:, :, 1])


def test_conv2d_loses_height():
    net = filled(nn.Conv2d(2, 3, (3, 3), padding=(1, 0), bias=False))
    flat = folded(net, sample(1, 2, 1, 6))
    assert form(flat) == [
        ("squeeze.dims", "input", [2]),
        ("conv1d.default", "#0", "weight", None, [1], [0], [1], 1),
        ("unsqueeze.default", "#1", 2),
        ("return", "#2"),
    ]
    assert torch.equal(flat.weight, net.weight[:, :, 1])


def test_a_middle_axis():
    net = filled(conv(kernel=(2, 3, 2), padding=(0, 1, 0)))
    flat = folded(net, sample(1, 2, 3, 1, 5))
    assert form(flat) == [
        ("squeeze.dims", "input", [3]),
        ("conv2d.default", "#0", "weight", "bias", [1, 1], [0, 0], [1, 1], 1),
        ("unsqueeze.default", "#1", 3),
        ("return", "#2"),
    ]
    assert torch.equal(flat.weight, net.weight[:, :, :, 1])


def test_a_kernel_of_one_on_one_voxel_is_a_matrix_product():
    net = filled(conv(kernel=3, padding=1))
    flat = folded(net, sample(4, 2, 1, 1, 1))
    assert form(flat) == [
        ("squeeze.dims", "input", [2, 3, 4]),
        ("linear.default", "#0", "weight", "bias"),
        ("unsqueeze.default", "#1", 2),
        ("unsqueeze.default", "#2", 3),
        ("unsqueeze.default", "#3", 4),
        ("return", "#4"),
    ]
    assert torch.equal(flat.weight, net.weight[:, :, 1, 1, 1])


def test_a_transposed_convolution_on_one_voxel_is_a_matrix_product():
    net = filled(nn.ConvTranspose3d(2, 3, 3, padding=1))
    flat = folded(net, sample(4, 2, 1, 1, 1))
    assert ("linear.default", "#0", "#1", "bias") in form(flat)
    assert ("t.default", "weight") in form(flat)
    assert torch.equal(flat.weight, net.weight[:, :, 1, 1, 1])


def test_unbatched():
    net = filled(conv())
    flat = folded(net, sample(2, 1, 4, 5))
    assert form(flat) == [
        ("squeeze.dims", "input", [1]),
        ("conv2d.default", "#0", "weight", "bias", [1, 1], [1, 1], [1, 1], 1),
        ("unsqueeze.default", "#1", 1),
        ("return", "#2"),
    ]


def test_grouped_keeps_the_last_axis():
    net = filled(nn.Conv3d(4, 6, 3, padding=1, groups=2))
    flat = folded(net, sample(2, 4, 1, 1, 1))
    assert form(flat) == [
        ("squeeze.dims", "input", [2, 3]),
        ("conv1d.default", "#0", "weight", "bias", [1], [0], [1], 2),
        ("unsqueeze.default", "#1", 2),
        ("unsqueeze.default", "#2", 3),
        ("return", "#3"),
    ]
    assert torch.equal(flat.weight, net.weight[:, :, 1, 1, 1:2])
    assert "a grouped convolution keeps one axis" in refused(flat, RULE)


def test_results_that_read_nothing_are_put_back_as_zeros():
    net = filled(conv(kernel=1, padding=(1, 0, 0), bias=False))
    flat = folded(net, sample(1, 2, 1, 3, 4))
    assert form(flat) == [
        ("squeeze.dims", "input", [2]),
        ("conv2d.default", "#0", "weight", None, [1, 1], [0, 0], [1, 1], 1),
        ("unsqueeze.default", "#1", 2),
        ("zeros_like.default", "#2"),
        ("zeros_like.default", "#2"),
        ("cat.default", ["#3", "#2", "#4"], 2),
        ("return", "#5"),
    ]


def test_the_middle_of_three_slices_is_selected():
    # In steps of three behind one zero slice, only the middle slice of each three is ever read.
    net = filled(conv(kernel=1, padding=0, stride=(3, 1, 1)))
    flat = folded(Padded(net, (0, 0, 0, 0, -1, 0)), sample(1, 2, 4, 3, 4))
    assert form(flat) == [
        ("pad.default", "x", [0, 0, 0, 0, -1, 0]),
        ("select.int", "#0", 2, 0),
        ("conv2d.default", "#1", "conv.weight", "conv.bias", [1, 1], [0, 0], [1, 1], 1),
        ("unsqueeze.default", "#2", 2),
        ("return", "#3"),
    ]


def test_views_between_twins_cancel():
    net = filled(nn.Sequential(conv(), nn.SiLU(), nn.Conv3d(3, 2, 3, padding=1), nn.AvgPool3d((1, 2, 2))))
    flat = folded(net, sample(1, 2, 1, 4, 6))
    assert form(flat) == [
        ("squeeze.dims", "input", [2]),
        ("conv2d.default", "#0", "0.weight", "0.bias", [1, 1], [1, 1], [1, 1], 1),
        ("silu.default", "#1"),
        ("conv2d.default", "#2", "2.weight", "2.bias", [1, 1], [1, 1], [1, 1], 1),
        ("avg_pool2d.default", "#3", [2, 2], [2, 2], [0, 0], False, True),
        ("unsqueeze.default", "#4", 2),
        ("return", "#5"),
    ]


@pytest.mark.parametrize(
    ("net", "shape", "why"),
    [
        pytest.param(conv(), (1, 2, 2, 4, 5), "axis 2: 2 slices are all different", id="two slices, three taps"),
        pytest.param(
            conv(kernel=(1, 3, 3), padding=(1, 1, 1)),
            (1, 2, 1, 4, 5),
            "positions that read nothing still get the bias",
            id="bias at positions that read nothing",
        ),
        pytest.param(
            conv(kernel=(2, 1, 1), padding=(1, 0, 0)),
            (1, 2, 1, 4, 5),
            "each output position has its own subset of slices and taps (2 different ones)",
            id="padding of one side too many",
        ),
        pytest.param(
            conv(kernel=(2, 1, 1), padding=(1, 0, 0), dilation=(2, 1, 1)),
            (1, 2, 1, 4, 5),
            "no tap meets data",
            id="all taps dead",
        ),
        pytest.param(
            conv(kernel=(2, 1, 1), padding=0), (1, 2, 2, 4, 5), "2 different slices are read", id="one result"
        ),
        pytest.param(
            nn.ConvTranspose3d(2, 3, (2, 1, 1), stride=(2, 1, 1)),
            (1, 2, 1, 4, 5),
            "each output position has its own subset of slices and taps (2 different ones)",
            id="transposed: a slice out for each tap",
        ),
        pytest.param(
            nn.ConvTranspose3d(2, 3, (1, 1, 1), stride=(2, 1, 1), output_padding=(1, 0, 0)),
            (1, 2, 1, 4, 5),
            "positions that read nothing still get the bias",
            id="transposed: output padding",
        ),
        pytest.param(
            Before(lambda x: x.repeat(1, 1, 2, 1, 1), conv(kernel=(2, 1, 1), padding=(1, 0, 0))),
            (1, 2, 1, 4, 5),
            "each output position has its own subset",
            id="equal slices under a border of zeros",
        ),
    ],
)
def test_left_alone(net, shape, why):
    flat = folded(filled(net), sample(*shape))
    assert why in refused(flat, RULE)
    assert only_site(flat).rule == ()
    assert only_site(flat).becomes == only_site(flat).op
    operator, *rest = form(flat)[-2]
    assert operator.startswith(only_site(flat).op)
    assert len([a for a in rest if isinstance(a, str)]) == 3
    (weight,) = (t for t in flat.parameters() if t.dim() > 1)
    assert torch.equal(weight, next(net.parameters()))


def test_a_free_size():
    # Height is 1 behind the mean, and is dropped; width stays free.
    def forward(x):
        return x.mean(2, keepdim=True)

    net = filled(Before(forward, nn.Conv2d(2, 3, 3, padding=1)))
    flat = folded(net, sample(2, 2, 6, 7), dynamic="auto")
    assert flat.report.free == ("x.shape[0]", "x.shape[2]", "x.shape[3]")
    assert only_site(flat).becomes == "conv1d"
    y = sample(3, 2, 4, 9)
    with torch.no_grad():
        torch.testing.assert_close(flat(y), net(y))


def test_an_axis_free_on_its_way_in_stays():
    net = filled(nn.Conv2d(2, 3, (3, 3), padding=(1, 1)))
    x = sample(2, 2, 6, 7)
    flat = folded(net, x, dynamic="auto")
    assert flat.report.sites == ()
    assert form(flat) == [
        ("conv2d.default", "input", "weight", "bias", [1, 1], [1, 1]),
        ("return", "#0"),
    ]
