import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatconv
from tests.expected import Before, Padded, filled, folded, form, only_site, refused, sample

RULE = "merge taps"


def conv(kernel=(3, 1, 1), padding=0, **options):
    return nn.Conv3d(2, 3, kernel, padding=padding, **options)


def test_replicate_padding_of_one_slice_adds_all_taps():
    net = filled(conv(kernel=3, padding=1, padding_mode="replicate"))
    flat = folded(net, sample(2, 2, 1, 5, 6))
    assert form(flat) == [
        ("squeeze.dims", "input", [2]),
        ("pad.default", "#0", [1, 1, 1, 1], "replicate"),
        ("conv2d.default", "#1", "weight", "bias", [1, 1], [0, 0], [1, 1], 1),
        ("unsqueeze.default", "#2", 2),
        ("return", "#3"),
    ]
    assert torch.equal(flat.weight, net.weight.sum(2))
    assert only_site(flat).merged_taps == (0, 1, 2)
    assert only_site(flat).tap_groups == ((0, 1, 2),)


def test_one_slice_behind_two_copies_of_the_first():
    # Two frames behind two copies of the first one: a a a b. Taps 0 and 1 always meet the same frame.
    net = filled(Padded(conv(), (0, 0, 0, 0, 2, 0), "replicate"))
    flat = folded(net, sample(1, 2, 2, 3, 4))
    assert form(flat) == [
        ("pad.default", "x", [0, 0, 0, 0, 2, 0], "replicate"),
        ("constant_pad_nd.default", "#0", [0, 0, 0, 0, -1, 0]),
        ("conv3d.default", "#1", "conv.weight", "conv.bias", [1, 1, 1], [0, 0, 0], [1, 1, 1], 1),
        ("return", "#2"),
    ]
    weight = net.conv.weight
    assert torch.equal(flat.conv.weight, torch.stack([weight[:, :, 0] + weight[:, :, 1], weight[:, :, 2]], 2))
    assert only_site(flat).rule == (RULE,)


def test_reflected_slices_meet_the_outer_taps():
    # b a b a: the outer taps meet the same slice at both results, the middle tap the other one.
    net = filled(conv(padding=(1, 0, 0), padding_mode="reflect"))
    flat = folded(net, sample(1, 2, 2, 3, 4))
    weight = net.weight
    assert torch.equal(flat.weight, torch.stack([weight[:, :, 0] + weight[:, :, 2], weight[:, :, 1]], 2))
    assert only_site(flat).tap_groups == ((0, 2), (1,))
    assert only_site(flat).rule == (RULE,)
    *_, convolution, output = form(flat)
    assert convolution[2:] == ("weight", "bias", [1, 1, 1], [0, 0, 0], [1, 1, 1], 1)
    assert output[0] == "return"


def test_an_image_tiled_to_two_frames():
    net = filled(Before(lambda x: x.repeat(1, 1, 2, 1, 1), conv(kernel=2, stride=2, bias=False)))
    flat = folded(net, sample(2, 2, 1, 4, 6))
    assert form(flat) == [
        ("squeeze.dims", "x", [2]),
        ("conv2d.default", "#0", "conv.weight", None, [2, 2], [0, 0], [1, 1], 1),
        ("unsqueeze.default", "#1", 2),
        ("return", "#2"),
    ]
    assert torch.equal(flat.conv.weight, net.conv.weight.sum(2))


def test_grouped():
    net = filled(nn.Conv3d(4, 4, (3, 1, 1), groups=4, padding=(1, 0, 0), padding_mode="replicate"))
    flat = folded(net, sample(1, 4, 1, 3, 4))
    assert torch.equal(flat.weight, net.weight.sum(2))
    assert only_site(flat).becomes == "conv2d"


def test_transposed_with_equal_slices_and_one_out():
    net = filled(Before(lambda x: x.expand(-1, -1, 3, -1, -1), nn.ConvTranspose3d(2, 3, (3, 1, 1), padding=(2, 0, 0))))
    flat = folded(net, sample(1, 2, 1, 3, 4))
    assert form(flat) == [
        ("squeeze.dims", "x", [2]),
        ("conv_transpose2d.input", "#0", "conv.weight", "conv.bias", [1, 1], [0, 0], [0, 0], 1, [1, 1]),
        ("unsqueeze.default", "#1", 2),
        ("return", "#2"),
    ]
    assert torch.equal(flat.conv.weight, net.conv.weight.sum(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_sum_is_rounded_once(dtype):
    net = filled(conv(padding=(1, 0, 0), padding_mode="replicate"), dtype=dtype)
    x = sample(1, 2, 1, 3, 4, dtype=dtype)
    flat = flatconv.fold(net, (x,), dynamic=False)
    assert torch.equal(flat.weight, net.weight.double().sum(2).to(dtype))
    assert flat.weight.dtype == dtype
    with torch.no_grad():
        given, wanted = flat(x), net(x)
    assert float((given - wanted).abs().max()) <= 4 * torch.finfo(dtype).eps * float(wanted.abs().max())


def test_a_sum_too_large_for_the_type_is_refused():
    net = filled(conv(padding=(1, 0, 0), padding_mode="replicate"), dtype=torch.float16)
    with torch.no_grad():
        net.weight.fill_(4e4)
    x = torch.full((1, 2, 1, 3, 4), 1e-3, dtype=torch.float16)
    with pytest.raises(
        flatconv.RefusedError, match=r"'weight' add up to more than torch\.float16 can hold: fold the model in"
    ):
        flatconv.fold(net, (x,), dynamic=False)


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        pytest.param(
            Padded(conv(), (0, 0, 0, 0, 1, 0), "replicate"), (1, 2, 3, 3, 4), id="one copy in front of three slices"
        ),
        pytest.param(Padded(conv(), (0, 0, 0, 0, 1, 1), "circular"), (1, 2, 3, 3, 4), id="circular"),
        pytest.param(
            Before(lambda x: x.expand(-1, -1, 3, -1, -1), conv(padding=(1, 0, 0))),
            (1, 2, 1, 3, 4),
            id="equal slices are not equal at a border of zeros",
        ),
        pytest.param(conv(padding=(1, 0, 0)), (1, 2, 2, 3, 4), id="two slices under three taps"),
        pytest.param(Padded(conv(), (0, 0, 0, 0, 2, 2)), (1, 2, 2, 3, 4), id="zeros"),
    ],
)
def test_left_alone(net, shape):
    flat = folded(filled(net), sample(*shape))
    assert RULE not in only_site(flat).rule
    assert not refused(flat, RULE)
    assert only_site(flat).merged_taps == ()
    (weight,) = (t for t in flat.parameters() if t.dim() > 1)
    assert torch.equal(weight, next(net.parameters()))
    assert form(flat)[-2][0] in ("conv3d.default", "conv3d.padding")


def test_groups_that_are_not_evenly_spaced():
    # a b b c under four taps: the two in the middle would merge, but a kernel of the other three has a gap.
    def doubled(x):
        return x[:, :, [0, 1, 1, 2]]

    net = filled(Before(doubled, conv(kernel=(4, 1, 1))))
    flat = folded(net, sample(1, 2, 3, 3, 4))
    assert "the merged taps ((0,), (1, 2), (3,)) along axis 2 are not evenly spaced" in refused(flat, RULE)
    assert only_site(flat).rule == ()
    assert form(flat)[-2][2:] == ("conv.weight", "conv.bias")
    assert torch.equal(flat.conv.weight, net.conv.weight)


def test_transposed_with_two_slices():
    # a b a b: at both results the outer taps meet the same slice, but another one at each.
    net = filled(Before(lambda x: x.repeat(1, 1, 2, 1, 1), nn.ConvTranspose3d(2, 3, (3, 1, 1), padding=(2, 0, 0))))
    flat = folded(net, sample(1, 2, 2, 3, 4))
    assert "the taps of a transposed convolution make several result slices" in refused(flat, RULE)
    assert only_site(flat).rule == ()
    assert form(flat) == [
        ("repeat.default", "x", [1, 1, 2, 1, 1]),
        ("conv_transpose3d.input", "#0", "conv.weight", "conv.bias", [1, 1, 1], [2, 0, 0]),
        ("return", "#1"),
    ]


def test_slices_equal_in_the_example_alone():
    x = sample(1, 2, 1, 3, 4).expand(-1, -1, 3, -1, -1)
    flat = folded(filled(conv()), x)
    assert only_site(flat).rule == ()
    assert only_site(flat).merged_taps == ()


def test_a_weight_read_with_two_paddings_is_reduced_for_each():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(3, 2, 3, 1, 1))

        def forward(self, x):
            zeros = F.conv3d(x, self.weight, padding=(1, 0, 0))
            return zeros + F.conv3d(F.pad(x, (0, 0, 0, 0, 1, 1), "replicate"), self.weight)

    net = filled(Twice())
    flat = folded(net, sample(1, 2, 1, 3, 4))
    assert {n: tuple(t.shape) for n, t in flat.state_dict().items()} == {
        "weight": (3, 2, 1, 1),
        "weight__2": (3, 2, 1, 1),
    }
    assert torch.equal(flat.weight, net.weight[:, :, 1])
    assert torch.equal(flat.weight__2, net.weight.sum(2))
