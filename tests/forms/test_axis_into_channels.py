import pytest
import torch
from torch import nn

from flatconv import forms
from flatconv.analyse import analyse
from flatconv.capture import capture
from tests.expected import filled, folded, form, only_site, sample

NAME = "axis into channels"


def conv(kernel=(2, 3, 3), stride=(2, 1, 1), padding=(0, 1, 1), **options):
    return filled(nn.Conv3d(2, 5, kernel, stride=stride, padding=padding, **options))


def test_all_frames_join_the_channels_by_views():
    net = conv()
    flat = folded(net, sample(3, 2, 2, 6, 7))
    assert form(flat) == [
        ("flatten.using_ints", "input", 1, 2),
        ("conv2d.default", "#0", "weight", "bias", [1, 1], [1, 1], [1, 1], 1),
        ("unsqueeze.default", "#1", 2),
        ("return", "#2"),
    ]
    assert torch.equal(flat.weight, net.weight.flatten(1, 2))
    assert (only_site(flat).rule, only_site(flat).becomes) == ((NAME,), "conv2d")


def test_several_groups_of_frames_join_the_batch(take):
    take(NAME)
    flat = folded(conv(), sample(3, 2, 6, 6, 7), verify=True)
    assert form(flat) == [
        ("unflatten.int", "input", 2, [3, 2]),
        ("transpose.int", "#0", 1, 2),
        ("flatten.using_ints", "#1", 0, 1),
        ("flatten.using_ints", "#2", 1, 2),
        ("conv2d.default", "#3", "weight", "bias", [1, 1], [1, 1], [1, 1], 1),
        ("unflatten.int", "#4", 0, [3, 3]),
        ("transpose.int", "#5", 1, 2),
        ("contiguous.default", "#6"),
        ("return", "#7"),
    ]
    assert only_site(flat).evidence.level == "exact"


def test_a_frame_left_over_is_cut_off(take):
    take(NAME)
    flat = folded(conv(), sample(3, 2, 5, 6, 7), verify=True)
    assert form(flat)[0] == ("slice.Tensor", "input", 2, 0, 4)
    assert only_site(flat).rule == (NAME,)


def test_in_channels_last(take):
    take(NAME, last=True)
    flat = folded(conv(), sample(3, 2, 4, 6, 7), verify=True)
    assert flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert only_site(flat).rule == (NAME, "channels-last")


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (conv(stride=(1, 1, 1)), (1, 2, 2, 5, 5)),
        (conv(padding=(1, 1, 1)), (1, 2, 2, 5, 5)),
        (conv(kernel=(2, 3, 3), dilation=(2, 1, 1)), (1, 2, 4, 5, 5)),
        (filled(nn.Conv3d(4, 6, (2, 3, 3), stride=(2, 1, 1), groups=2)), (1, 4, 4, 5, 5)),
        (filled(nn.ConvTranspose3d(2, 3, (2, 3, 3), stride=(2, 1, 1))), (1, 2, 4, 5, 5)),
        (conv(), (2, 4, 5, 5)),
    ],
    ids=["stride", "padding", "dilation", "groups", "transposed", "no batch"],
)
def test_left_alone(net, shape, take):
    take(NAME)
    flat = folded(net, sample(*shape))
    assert NAME not in only_site(flat).rule


def test_no_channels_last_without_a_batch_or_with_one_axis():
    for net, shape in (
        (filled(nn.Conv3d(2, 3, 3)), (2, 4, 5, 6)),
        (filled(nn.Conv3d(2, 3, (1, 1, 3))), (1, 2, 1, 1, 6)),
    ):
        (here,) = analyse(capture(net, (sample(*shape),)).program).sites.values()
        assert not forms.has_format(here, "as it is")
        with pytest.raises(ValueError, match="no channels-last format"):
            forms.take(here, "as it is", last=True)
