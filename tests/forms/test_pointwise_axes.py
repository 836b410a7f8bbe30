import pytest
import torch
from torch import nn

from tests.expected import filled, folded, form, only_site, sample

NAME = "pointwise axes as one"


def conv(kernel=(3, 1, 1), padding=(1, 0, 0), **options):
    return filled(nn.Conv3d(2, 4, kernel, padding=padding, **options))


def test_height_and_width_are_one_axis():
    net = conv()
    flat = folded(net, sample(3, 2, 5, 6, 7), verify=True)
    assert form(flat) == [
        ("flatten.using_ints", "input", 3, 4),
        ("conv2d.default", "#0", "weight", "bias", [1, 1], [1, 0], [1, 1], 1),
        ("unflatten.int", "#1", 3, [6, 7]),
        ("return", "#2"),
    ]
    assert torch.equal(flat.weight, net.weight[..., 0])
    assert (only_site(flat).rule, only_site(flat).becomes) == ((NAME,), "conv2d")
    assert only_site(flat).evidence.level == "exact"


def test_of_three_axes_two_are_left():
    flat = folded(conv(kernel=1, padding=0, groups=2), sample(3, 2, 5, 6, 7))
    assert form(flat)[:2] == [
        ("flatten.using_ints", "input", 3, 4),
        ("conv2d.default", "#0", "weight", "bias", [1, 1], [0, 0], [1, 1], 2),
    ]


def test_two_axes_stay_two():
    flat = folded(conv(kernel=1, padding=0), sample(3, 2, 1, 6, 7))
    assert only_site(flat).rule == ("drop an axis",)
    assert only_site(flat).becomes == "conv2d"


def test_the_first_two_axes_of_a_kernel_along_width():
    flat = folded(
        conv(kernel=(1, 1, 3), padding=(0, 0, 2), dilation=(1, 1, 2), stride=(1, 1, 2)), sample(3, 2, 5, 6, 7)
    )
    assert form(flat)[:2] == [
        ("flatten.using_ints", "input", 2, 3),
        ("conv2d.default", "#0", "weight", "bias", [1, 2], [0, 2], [1, 2], 1),
    ]


def test_free_sizes():
    net = conv()
    flat = folded(net, sample(1, 2, 3, 6, 7), dynamic="auto", verify=True)
    x = sample(4, 2, 3, 5, 9)
    torch.testing.assert_close(flat(x), net(x), rtol=1e-12, atol=1e-12)
    assert len(flat.report.free) == 3


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (conv(stride=(1, 2, 1)), (1, 2, 5, 6, 7)),
        (conv(padding=(1, 0, 1)), (1, 2, 5, 6, 7)),
        (conv(kernel=(1, 3, 1), padding=(0, 1, 0)), (1, 2, 5, 6, 7)),
        (filled(nn.ConvTranspose3d(2, 3, (3, 1, 1))), (1, 2, 5, 6, 7)),
        (conv(), (2, 5, 6, 7)),
    ],
    ids=["stride", "padding", "apart", "transposed", "no batch"],
)
def test_left_alone(net, shape):
    assert NAME not in only_site(folded(net, sample(*shape))).rule
