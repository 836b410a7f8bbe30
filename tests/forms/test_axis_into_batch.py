import pytest
import torch
from torch import nn

from tests.expected import filled, folded, form, only_site, sample

NAME = "axis into batch"


def conv(stride=1, padding=(0, 1, 1), groups=1, kernel=(1, 3, 3)):
    return filled(nn.Conv3d(2, 4, kernel, stride=stride, padding=padding, groups=groups))


def test_slices_are_members_of_the_batch(take):
    take(NAME)
    net = conv()
    flat = folded(net, sample(3, 2, 5, 6, 7), verify=True)
    assert form(flat) == [
        ("transpose.int", "input", 1, 2),
        ("flatten.using_ints", "#0", 0, 1),
        ("conv2d.default", "#1", "weight", "bias", [1, 1], [1, 1], [1, 1], 1),
        ("unflatten.int", "#2", 0, [3, 5]),
        ("transpose.int", "#3", 1, 2),
        ("contiguous.default", "#4"),
        ("return", "#5"),
    ]
    assert torch.equal(flat.weight, net.weight[:, :, 0])
    assert (only_site(flat).rule, only_site(flat).becomes) == ((NAME,), "conv2d")
    assert only_site(flat).evidence.level == "exact"


def test_a_stride_along_the_axis_skips_slices(take):
    take(NAME)
    flat = folded(conv(stride=(2, 1, 1)), sample(3, 2, 5, 6, 7), verify=True)
    assert form(flat)[0] == ("slice.Tensor", "input", 2, 0, None, 2)
    assert form(flat)[4] == ("unflatten.int", "#3", 0, [3, 3])


def test_groups_and_strides_of_the_other_axes_stay(take):
    take(NAME)
    flat = folded(conv(stride=(1, 2, 1), groups=2), sample(2, 2, 5, 6, 7), verify=True)
    assert form(flat)[2][4:] == ([2, 1], [1, 1], [1, 1], 2)


def test_free_sizes_and_an_empty_batch(take):
    take(NAME)
    net = conv()
    flat = folded(net, sample(1, 2, 3, 6, 7), dynamic="auto", verify=True)
    for shape in ((4, 2, 3, 9, 5), (1, 2, 3, 12, 12)):
        torch.testing.assert_close(flat(sample(*shape)), net(sample(*shape)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (conv(kernel=(2, 3, 3)), (1, 2, 5, 6, 7)),
        (conv(padding=1), (1, 2, 5, 6, 7)),
        (filled(nn.ConvTranspose3d(2, 3, (1, 3, 3))), (1, 2, 5, 6, 7)),
        (conv(), (2, 5, 6, 7)),
    ],
    ids=["kernel", "padding", "transposed", "no batch"],
)
def test_left_alone(net, shape, take):
    take(NAME)
    assert NAME not in only_site(folded(net, sample(*shape))).rule
