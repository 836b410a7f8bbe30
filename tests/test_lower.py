"""The new graph: where axes are dropped, where they come back, and what its constants are called."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatconv
from flatconv.analyse import analyse
from flatconv.capture import capture
from flatconv.lower import dropped_axes, lower
from tests.expected import Before, Net, agree, filled, folded, form, operators, sample


def conv(inputs=2, outputs=2, kernel=3, **options):
    return nn.Conv3d(inputs, outputs, kernel, **{"padding": 1} | options)


def clip(*shape):
    return sample(*(shape or (1, 2, 1, 5, 6)))


def through(forward, *shape, **parts):
    return folded(filled(Net(forward, conv=conv(), last=conv(), **parts)), clip(*shape))


def views(flat):
    return [
        o for o in operators(flat) if o in ("squeeze", "unsqueeze", "select", "expand", "cat", "zeros_like", "clone")
    ]


# --- regions


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(F.silu, id="pointwise"),
        pytest.param(lambda y: y + y.mean(1, keepdim=True), id="residual and mean over channels"),
        pytest.param(lambda y: torch.cat([y[:, :1], y[:, 1:]], 1), id="slices and cat"),
        pytest.param(lambda y: F.avg_pool3d(y, (1, 2, 2), (1, 1, 1)), id="average pool"),
        pytest.param(lambda y: F.max_pool3d(y, (1, 3, 3), 1, (0, 1, 1)), id="max pool"),
        pytest.param(lambda y: F.interpolate(y, scale_factor=(1, 2, 2)), id="nearest"),
        pytest.param(lambda y: F.interpolate(y, size=(1, 7, 4), mode="trilinear", align_corners=True), id="linear"),
        pytest.param(lambda y: F.pad(y, (1, 1, 1, 1, 0, 0), mode="reflect"), id="reflect"),
        pytest.param(lambda y: F.normalize(y, dim=1), id="normalise"),
        pytest.param(lambda y: y.permute(0, 2, 3, 4, 1).softmax(-1).permute(0, 4, 1, 2, 3), id="permute"),
        pytest.param(lambda y: y.flip(3)[..., ::2], id="flip and step"),
        pytest.param(lambda y: F.group_norm(y, 2), id="group norm"),
        pytest.param(lambda y: F.instance_norm(y), id="instance norm"),
        pytest.param(lambda y: y.roll(1, 4).clamp(min=0).contiguous(), id="roll"),
        pytest.param(lambda y: y.repeat(1, 1, 1, 2, 1), id="repeat of height"),
        pytest.param(lambda y: y * y.amax((2, 3, 4), keepdim=True), id="maximum over depth too"),
        pytest.param(lambda y: y.to(torch.float32).to(torch.float64) * 2, id="casts"),
    ],
)
def test_no_view_inside_a_region(between):
    net = filled(Net(lambda self, x: self.last(between(self.conv(x))), conv=conv(), last=conv()))
    x = clip()
    flat = flatconv.fold(net, (x,), dynamic=False, verify=False)
    with torch.no_grad():
        # The detour through float32 rounds differently where its input differs by the last bit.
        agree(flat(x), net(x), 1e-6)
    # cat and expand are the operator's own here.
    assert [v for v in views(flat) if v not in ("cat", "expand")] == ["squeeze", "unsqueeze"]
    assert operators(flat).count("conv2d") == 2


def test_an_operator_without_a_twin_gets_its_axis_for_one_step():
    flat = through(lambda self, x: self.last(self.conv(x).tril()))
    assert operators(flat) == ["squeeze", "conv2d", "unsqueeze", "tril", "squeeze", "conv2d", "unsqueeze"]


def test_a_flatten_needs_no_axis_back():
    flat = through(lambda self, x: self.conv(x).flatten(2).mean(2))
    assert "unsqueeze" not in operators(flat)


def test_a_reshape_that_takes_the_axis_out_and_puts_it_in():
    flat = through(lambda self, x: self.last(F.relu(self.conv(x).squeeze(2)).unsqueeze(2)))
    assert operators(flat) == ["squeeze", "conv2d", "relu", "conv2d", "unsqueeze"]


def test_depth_through_the_batch():
    def forward(self, x):
        y = self.conv(x).permute(0, 2, 1, 3, 4).flatten(0, 1)
        y = self.plane(y)
        return self.last(y.unflatten(0, (-1, 1)).permute(0, 2, 1, 3, 4))

    flat = through(forward, 2, 2, 1, 5, 6, plane=nn.Conv2d(2, 2, 3, padding=1))
    assert operators(flat) == ["squeeze", "conv2d", "conv2d", "conv2d", "unsqueeze"]


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batch_and_depth_are_not_confused(batch):
    def forward(self, x):
        y = self.conv(x)
        return self.last(y.transpose(0, 2)), y.flatten(0, 1), y.permute(2, 0, 1, 4, 3), self.norm(y.transpose(0, 2))

    norm = nn.BatchNorm3d(2)
    norm.running_mean.copy_(torch.tensor([1.0, -2.0]))
    through(forward, batch, 2, 1, 4, 4, norm=norm)


def test_a_branch_that_stays_in_3d():
    def forward(self, x, clip):
        return self.conv(x) + self.last(clip)

    net = filled(Net(forward, conv=conv(), last=conv()))
    flat = folded(net, clip(), clip(1, 2, 4, 5, 6))
    assert operators(flat) == ["squeeze", "conv2d", "conv3d", "unsqueeze", "add"]


def test_several_readers_share_one_view():
    def forward(self, x):
        return self.conv(x), self.last(x), x.mean((2, 3, 4))

    flat = through(forward)
    assert operators(flat).count("squeeze") == 1


def test_one_slice_of_many_is_selected_once():
    flat = folded(filled(Before(lambda x: x.expand(-1, -1, 3, -1, -1), conv(padding=(0, 1, 1)))), clip())
    assert operators(flat) == ["squeeze", "conv2d", "unsqueeze"]


def test_zeros_come_back_around_the_slice():
    def forward(self, x):
        return F.pad(F.relu(self.conv(x)), (0, 0, 0, 0, 1, 2))

    flat = through(forward)
    rows = form(flat)
    assert operators(flat)[:3] == ["squeeze", "conv2d", "relu"]
    assert flat(clip()).shape == (1, 2, 4, 5, 6)
    assert not flat(clip())[:, :, [0, 2, 3]].any()
    assert rows[-1][0] == "return"


def test_equal_slices_are_computed_once_and_come_back_as_copies():
    def forward(self, x):
        return F.gelu(self.conv(x)).repeat(1, 1, 3, 1, 1) + 1

    flat = through(forward)
    assert operators(flat)[:4] == ["squeeze", "conv2d", "gelu", "add"]
    y = flat(clip())
    assert torch.equal(y[:, :, 0], y[:, :, 2])
    assert y.is_contiguous()


def test_views_of_restored_values():
    # view() asks for contiguous memory, and an expanded slice has none.
    flat = through(lambda self, x: F.pad(self.conv(x), (0, 0, 0, 0, 1, 1), mode="replicate").view(1, 2, -1))
    assert flat(clip()).shape == (1, 2, 90)


def test_an_operator_that_reads_memory_is_refused():
    def forward(self, x):
        return torch.as_strided(self.conv(x), (1, 2, 30), (60, 30, 1))

    with pytest.raises(
        flatconv.RefusedError, match=r"as_strided.*memory layout.*write that step with slices or reshapes"
    ):
        through(forward)


# --- dropped axes


def program(net, *tensors):
    return capture(filled(net), tensors, dynamic=False).program


def dropped(net, *tensors):
    found = program(net, *tensors)
    analysis = analyse(found)
    drop = dropped_axes(found, analysis)
    return {n.op.removeprefix("aten.").partition(".")[0]: set(drop.get(n, ())) for n in found.nodes}


def test_nothing_is_dropped_without_a_convolution_that_drops():
    assert not any(dropped(nn.Sequential(nn.ReLU(), nn.AvgPool3d(1)), clip()).values())
    assert not any(dropped(conv(), clip(1, 2, 3, 5, 6)).values())


def test_what_is_connected_is_dropped_together():
    found = dropped(nn.Sequential(nn.Tanh(), conv(), nn.SiLU(), nn.AvgPool3d((1, 2, 2))), clip())
    assert found["input"] == found["tanh"] == found["conv3d"] == found["silu"] == found["avg_pool3d"] == {2}


def test_the_axis_is_followed_through_a_permutation():
    found = dropped(Net(lambda self, x: self.conv(x).permute(4, 2, 0, 1, 3).tanh(), conv=conv()), clip())
    assert found["conv3d"] == {2}
    assert found["permute"] == found["tanh"] == {1}


def test_every_convolution_is_emitted_or_left():
    found = program(nn.Sequential(conv(), conv(kernel=(3, 1, 1), padding=0)), clip(1, 2, 3, 5, 6))
    made = lower(found, analyse(found))
    made.graph.lint()
    assert len([n for n in made.graph.nodes if "conv" in str(n.target) and n.op == "call_function"]) == 2


# --- constants


def test_names_that_are_taken_are_numbered():
    net = Net(lambda self, x: self.conv(x) + self.conv.weight.mean(), conv=conv())
    flat = folded(filled(net), clip())
    assert sorted(flat.state_dict()) == ["conv.bias", "conv.weight", "conv.weight__2"]


def test_the_same_reduction_is_one_constant():
    flat = through(lambda self, x: self.conv(self.conv(self.conv(x))))
    assert sorted(flat.state_dict()) == ["conv.bias", "conv.weight"]


def test_a_scale_of_depth_one_loses_the_axis():
    net = Net(lambda self, x: self.conv(x) * self.scale, conv=conv(), scale=nn.Parameter(torch.empty(1, 2, 1, 1, 1)))
    flat = folded(filled(net), clip())
    assert flat.scale.shape == (1, 2, 1, 1)
    assert views(flat) == ["squeeze", "unsqueeze"]
    shared = folded(net, clip(), weights="shared")
    assert shared.scale is net.scale


def test_weights_of_every_layout_are_contiguous():
    net = filled(conv().to(memory_format=torch.channels_last_3d))
    flat = folded(net, clip())
    assert flat.weight.is_contiguous()


def test_literals_are_kept_in_both_forms():
    def forward(self, x):
        return self.conv(x) * torch.tensor([[[[[2.0]]], [[[3.0]]]]], dtype=x.dtype)

    for weights in ("folded", "shared"):
        net = filled(Net(forward, conv=conv()))
        folded(net, clip(), weights=weights)


def test_where_calls_come_from():
    net = filled(nn.Sequential(conv(), nn.Sequential(nn.SiLU(), conv())))
    flat = folded(net, clip())
    paths = {
        str(n.target).partition(".")[2].partition(".")[0]: n.meta.get("path")
        for n in flat.graph.nodes
        if n.op == "call_function"
    }
    assert paths["silu"] == "1.0"
    assert paths["conv2d"] == "1.1"
