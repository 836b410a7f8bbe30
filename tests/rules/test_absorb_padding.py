import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.expected import Net, Padded, filled, folded, form, only_site, refused, sample

RULE = "absorb padding"


def conv(padding=0, kernel=3, **options):
    return nn.Conv3d(2, 3, kernel, padding=padding, **options)


def test_the_pad_becomes_the_convolutions_own():
    net = filled(Padded(conv(padding=(0, 1, 1)), (0, 0, 0, 0, 1, 1)))
    flat = folded(net, sample(2, 2, 4, 5, 6))
    assert form(flat) == [
        ("conv3d.default", "x", "conv.weight", "conv.bias", [1, 1, 1], [1, 1, 1], [1, 1, 1], 1),
        ("return", "#0"),
    ]
    assert only_site(flat).rule == (RULE,)


def test_paddings_add_along_every_axis():
    net = filled(Padded(conv(padding=(1, 0, 2), kernel=(3, 2, 3), stride=2, dilation=(1, 2, 1)), (1, 1, 3, 3, 2, 2)))
    flat = folded(net, sample(1, 2, 3, 4, 5))
    assert form(flat) == [
        ("conv3d.default", "x", "conv.weight", "conv.bias", [2, 2, 2], [3, 3, 3], [1, 2, 1], 1),
        ("return", "#0"),
    ]


def test_what_is_not_symmetric_stays_a_pad():
    net = filled(Padded(conv(padding=(1, 1, 1)), (0, 1, 0, 0, 2, 0)))
    flat = folded(net, sample(1, 2, 3, 4, 5))
    # In front of depth 2 more than behind, behind width 1 more than in front.
    assert form(flat) == [
        ("constant_pad_nd.default", "x", [0, 1, 0, 0, 2, 0]),
        ("conv3d.default", "#0", "conv.weight", "conv.bias", [1, 1, 1], [1, 1, 1], [1, 1, 1], 1),
        ("return", "#1"),
    ]
    assert only_site(flat).rule == (RULE,)


def test_same_with_an_even_kernel_pads_behind():
    net = filled(Padded(conv(padding="same", kernel=(2, 3, 3)), (0, 0, 0, 0, 1, 0)))
    flat = folded(net, sample(1, 2, 3, 4, 5))
    # The pad's one slice in front, and the one that 'same' puts behind.
    assert form(flat) == [
        ("conv3d.default", "x", "conv.weight", "conv.bias", [1, 1, 1], [1, 1, 1], [1, 1, 1], 1),
        ("return", "#0"),
    ]


def test_unbatched():
    flat = folded(filled(Padded(conv(), (1, 1, 1, 1, 1, 1))), sample(2, 4, 5, 6))
    assert form(flat) == [
        ("conv3d.default", "x", "conv.weight", "conv.bias", [1, 1, 1], [1, 1, 1], [1, 1, 1], 1),
        ("return", "#0"),
    ]


def test_conv2d():
    flat = folded(filled(Padded(nn.Conv2d(2, 3, 3, bias=False), (2, 2, 1, 1))), sample(1, 2, 4, 5))
    assert form(flat) == [
        ("conv2d.default", "x", "conv.weight", None, [1, 1], [1, 2], [1, 1], 1),
        ("return", "#0"),
    ]


def test_a_pad_read_elsewhere_stays_for_that_reader():
    def forward(self, x):
        padded = F.pad(x, (1, 1, 1, 1, 1, 1))
        return self.conv(padded), padded

    flat = folded(filled(Net(forward, conv=conv())), sample(1, 2, 3, 4, 5))
    rows = form(flat)
    assert [row for row in rows if row[0].startswith("conv3d")] == [
        ("conv3d.default", "x", "conv.weight", "conv.bias", [1, 1, 1], [1, 1, 1], [1, 1, 1], 1)
    ]
    assert [row[:3] for row in rows if "pad" in row[0]] == [("pad.default", "x", [1, 1, 1, 1, 1, 1])]


@pytest.mark.parametrize(
    ("net", "shape", "why"),
    [
        pytest.param(
            Padded(conv(), (1, 1, 1, 1, 1, 1), "replicate"), (1, 2, 4, 4, 5), "'replicate', not zeros", id="replicate"
        ),
        pytest.param(
            Padded(conv(), (1, 1, 1, 1, 1, 1), "reflect"), (1, 2, 4, 4, 5), "'reflect', not zeros", id="reflect"
        ),
        pytest.param(
            Padded(conv(), (1, 1, 1, 1, 1, 1), "circular"), (1, 2, 4, 4, 5), "'circular', not zeros", id="circular"
        ),
        pytest.param(
            Padded(conv(), (0, 0, 0, 0, 1, 1), value=0.5),
            (1, 2, 4, 4, 5),
            "not zeros",
            id="a constant that is not zero",
        ),
        pytest.param(
            Padded(conv(), (0, 0, -1, 0, 1, 1)),
            (1, 2, 4, 5, 5),
            "crops, or pads batch or channels",
            id="one side crops",
        ),
        pytest.param(
            Padded(nn.Conv3d(3, 2, 3), (0, 0, 0, 0, 1, 1, 1, 0)),
            (1, 2, 4, 4, 5),
            "pads batch or channels",
            id="channels",
        ),
        pytest.param(
            Padded(conv(), (0, 0, 0, 0, 1, 1, 0, 0, 0, 1)), (1, 2, 4, 4, 5), "pads batch or channels", id="batch"
        ),
        pytest.param(
            Padded(nn.ConvTranspose3d(2, 3, 3), (0, 0, 0, 0, 1, 1)),
            (1, 2, 4, 4, 5),
            "a transposed convolution does not read its padding as zeros",
            id="transposed",
        ),
    ],
)
def test_left_alone(net, shape, why):
    flat = folded(filled(net), sample(*shape))
    assert only_site(flat).rule == ()
    assert why in refused(flat, RULE)
    assert only_site(flat).becomes == only_site(flat).op
    # The graph is the captured one: the pad, then the convolution with the arguments it had.
    pad, convolution, output = form(flat)
    assert "pad" in pad[0]
    assert pad[1] == "x"
    assert convolution[:4] == (convolution[0], "#0", "conv.weight", "conv.bias")
    assert convolution[4:] == ()
    assert output == ("return", "#1")


def test_nothing_is_said_where_there_is_no_pad():
    flat = folded(filled(conv(padding=1)), sample(1, 2, 4, 4, 5))
    assert only_site(flat).rule == ()
    assert not refused(flat, RULE)
    assert form(flat) == [
        ("conv3d.default", "input", "weight", "bias", [1, 1, 1], [1, 1, 1]),
        ("return", "#0"),
    ]


def test_the_models_own_weights_are_untouched():
    net = filled(Padded(conv(padding=(0, 1, 1)), (0, 0, 0, 0, 1, 1)))
    before = {n: t.clone() for n, t in net.state_dict().items()}
    flat = folded(net, sample(1, 2, 4, 5, 6))
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert torch.equal(flat.state_dict()[name], before[name])
