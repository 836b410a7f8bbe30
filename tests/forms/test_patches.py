import pytest
import torch
from torch import nn

from tests.expected import Before, Net, filled, folded, form, only_site, sample

NAME = "patches to a matrix product"


def patches(kernel=(2, 3, 4), channels=2, width=5, **options):
    return filled(nn.Conv3d(channels, width, kernel, **({"stride": kernel} | options)))


def test_one_patch_is_a_matrix_product_of_views():
    net = patches()
    flat = folded(net, sample(7, 2, 2, 3, 4))
    assert form(flat) == [
        ("flatten.using_ints", "input", 1, -1),
        ("linear.default", "#0", "weight", "bias"),
        ("unsqueeze.default", "#1", 2),
        ("unsqueeze.default", "#2", 3),
        ("unsqueeze.default", "#3", 4),
        ("return", "#4"),
    ]
    assert torch.equal(flat.weight, net.weight.flatten(1))
    assert only_site(flat).rule == (NAME,)
    assert only_site(flat).becomes == "linear"


def test_patches_that_come_flat_stay_flat():
    net = Net(
        lambda self, x: self.conv(x.view(-1, 2, 2, 3, 4)).view(-1, 5), conv=nn.Conv3d(2, 5, (2, 3, 4), stride=(2, 3, 4))
    )
    flat = folded(filled(net), sample(7, 48), dynamic="auto", verify=True)
    assert form(flat) == [("linear.default", "x", "conv.weight", "conv.bias"), ("return", "#0")]
    assert flat.report.free == ("x.shape[0]",)
    assert only_site(flat).evidence.level == "exact"
    assert flat(sample(3, 48)).shape == (3, 5)


def test_another_order_of_the_flat_patch_is_no_view_of_it():
    # (frames, channels, …) is not (channels, frames, …): the matrix must be put in order first.
    net = Net(
        lambda self, x: self.conv(x.view(-1, 2, 3, 3, 4).transpose(1, 2)).view(-1, 5),
        conv=nn.Conv3d(3, 5, (2, 3, 4), stride=(2, 3, 4)),
    )
    flat = folded(filled(net), sample(7, 72))
    assert [row[0] for row in form(flat)] == [
        "reshape.default", "permute.default", "flatten.using_ints", "linear.default", "return",
    ] or [row[0] for row in form(flat)][-3:] == ["flatten.using_ints", "linear.default", "return"]  # fmt: skip


def test_many_patches_are_cut_out_first():
    net = patches(kernel=(2, 2, 3))
    flat = folded(net, sample(2, 2, 4, 2, 9))
    assert form(flat) == [
        ("reshape.default", "input", [2, 2, 2, 2, 2, 3, 3]),
        ("permute.default", "#0", [0, 2, 5, 1, 3, 4, 6]),
        ("flatten.using_ints", "#1", 3, -1),
        ("linear.default", "#2", "weight", "bias"),
        ("permute.default", "#3", [0, 3, 1, 2]),
        ("unsqueeze.default", "#4", 3),
        ("contiguous.default", "#5"),
        ("return", "#6"),
    ]


def test_what_is_left_over_is_cut_off():
    net = patches(kernel=(2, 2, 2))
    x = sample(1, 2, 5, 4, 7)
    flat = folded(net, x)
    called = [row[0] for row in form(flat)]
    assert called.count("slice.Tensor") == 2
    with torch.no_grad():
        changed = x.clone()
        changed[:, :, 4:] = 1e6
        changed[..., 6:] = -1e6
        assert torch.equal(flat(x), flat(changed))


def test_free_sizes():
    net = patches(kernel=(2, 4, 4))
    flat = folded(net, sample(1, 2, 4, 8, 12), dynamic="auto", verify=True)
    assert only_site(flat).rule == (NAME,)
    assert set(flat.report.free) == {f"input.shape[{a}]" for a in (0, 3, 4)}
    for shape in ((1, 2, 4, 8, 12), (3, 2, 4, 11, 9), (2, 2, 4, 4, 21)):
        x = sample(*shape)
        torch.testing.assert_close(flat(x), net(x), rtol=1e-12, atol=1e-12)


def test_an_axis_that_is_dropped_first():
    # Replicate padding in front: both taps meet the one slice, and their weights are added.
    net = filled(
        Before(lambda x: torch.cat([x, x], 2), nn.Conv3d(2, 5, (2, 3, 4), stride=(2, 3, 4), bias=False)),
    )
    flat = folded(net, sample(3, 2, 1, 3, 4), verify=True)
    assert "linear.default" in [row[0] for row in form(flat)]
    assert only_site(flat).rule[-1] == NAME
    assert flat.state_dict()["conv.weight"].shape == (5, 2 * 3 * 4)


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (patches(stride=(2, 3, 3)), (1, 2, 4, 6, 8)),
        (patches(padding=(0, 0, 2)), (1, 2, 4, 6, 8)),
        (patches(kernel=(2, 2, 2), dilation=(1, 1, 3)), (1, 2, 4, 6, 8)),
        (filled(nn.Conv3d(4, 6, 2, stride=2, groups=2)), (1, 4, 4, 6, 8)),
        (filled(nn.ConvTranspose3d(2, 3, 2, stride=2)), (1, 2, 2, 3, 4)),
        (patches(), (2, 4, 6, 8)),
        (filled(nn.Conv3d(2, 5, 1)), (1, 2, 2, 3, 4)),
    ],
    ids=["stride", "padding", "dilation", "groups", "transposed", "no batch", "kernel of one"],
)
def test_left_alone(net, shape):
    flat = folded(net, sample(*shape))
    assert NAME not in only_site(flat).rule


@pytest.mark.parametrize("weights", ["folded", "shared"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_types_and_weights(weights, dtype):
    net = patches().to(dtype)
    x = sample(6, 2, 4, 3, 8, dtype=dtype)
    flat = folded_in(net, x, weights)
    assert flat(x).dtype == dtype
    assert flat(x).shape == net(x).shape


def folded_in(net, x, weights):
    import flatconv

    flat = flatconv.fold(net, (x,), weights=weights)
    assert only_site(flat).rule == (NAME,)
    return flat
