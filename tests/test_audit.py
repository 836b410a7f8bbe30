"""The numbers of an audit, counted by hand."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatconv
from flatconv.examples import image_vae
from tests.expected import Before, Net, Padded, filled, sample


def clip(*shape):
    return sample(*(shape or (1, 2, 1, 5, 6)))


def site(model, *tensors):
    (found,) = flatconv.audit(filled(model), tensors).sites
    return found


# --- one site


def test_a_cubic_kernel_on_one_slice():
    found = site(nn.Conv3d(2, 3, 3, padding=1), clip(4, 2, 1, 5, 6))
    assert found.name == "conv3d"
    assert found.op == "conv3d"
    assert found.kernel == (3, 3, 3)
    assert found.input_shape == (4, 2, 1, 5, 6)
    assert found.output_shape == (4, 3, 1, 5, 6)
    assert (found.live_taps, found.dead_taps, found.merged_taps) == ((1,), (0, 2), ())
    assert found.tap_groups == ((1,),)
    assert found.macs == 4 * (1 * 5 * 6) * (3 * 2 * 27)
    assert found.useful_macs == 4 * (1 * 5 * 6) * (3 * 2 * 9)
    assert found.parameters == 3 * 2 * 27 + 3
    assert found.useful_parameters == 3 * 2 * 9 + 3
    # Input, weight, bias and result, eight bytes each.
    assert found.bytes == 8 * (4 * 2 * 30 + 3 * 2 * 27 + 3 + 4 * 3 * 30)
    assert found.useful_bytes == 8 * (4 * 2 * 30 + 3 * 2 * 9 + 3 + 4 * 3 * 30)


def test_causal_padding_counts_as_input():
    found = site(Padded(nn.Conv3d(2, 3, 3, bias=False), (1, 1, 1, 1, 2, 0)), clip())
    assert found.name == "conv"
    assert found.input_shape == (1, 2, 3, 7, 8)
    assert found.output_shape == (1, 3, 1, 5, 6)
    assert (found.live_taps, found.dead_taps) == ((2,), (0, 1))
    assert found.reason.startswith("taps 0, 1 meet only zeros: 2 slices of zeros")
    assert found.macs == 30 * 3 * 2 * 27
    assert found.useful_macs * 3 == found.macs
    assert found.parameters == 3 * 2 * 27


def test_merged_taps():
    found = site(nn.Conv3d(2, 3, (3, 1, 1), padding=(1, 0, 0), padding_mode="replicate"), clip())
    assert found.live_taps == (0, 1, 2)
    assert found.dead_taps == ()
    assert found.merged_taps == (0, 1, 2)
    assert found.tap_groups == ((0, 1, 2),)
    assert found.reason.startswith("taps 0, 1, 2 meet the same slice: ")
    assert found.useful_macs * 3 == found.macs
    assert found.useful_parameters == 3 * 2 + 3


def test_taps_are_listed_in_order_where_some_merge():
    found = site(nn.Conv3d(2, 3, (3, 1, 1), padding=(1, 0, 0), padding_mode="reflect"), clip(1, 2, 2, 5, 6))
    assert found.live_taps == (0, 1, 2)
    assert found.merged_taps == (0, 2)
    assert found.tap_groups == ((0, 2), (1,))


def test_fewer_slices_than_taps():
    found = site(nn.Conv3d(2, 3, (3, 1, 1), padding=(1, 0, 0)), clip(1, 2, 2, 5, 6))
    assert found.dead_taps == ()
    assert found.reason == "2 slices under 3 taps: each output position has its own subset"
    # No tap is dead, so none can be left out: the border counts as it does along height and width.
    assert found.macs == 2 * 30 * 3 * 2 * 3
    assert found.useful_macs == found.macs


def test_every_tap_meets_data():
    found = site(nn.Conv3d(2, 3, (1, 3, 3), padding="same"), clip())
    assert found.reason == "every tap meets data"
    assert found.macs == found.useful_macs
    assert found.parameters == found.useful_parameters


def test_all_taps_dead():
    found = site(nn.Conv3d(2, 3, (2, 1, 1), padding=(1, 0, 0), dilation=(2, 1, 1)), clip())
    assert found.live_taps == ()
    assert found.dead_taps == (0, 1)
    assert found.useful_macs == 0
    assert found.reason.startswith("no tap meets data: ")


def test_grouped():
    found = site(nn.Conv3d(4, 8, 3, padding=1, groups=4), clip(1, 4, 1, 5, 6))
    assert found.macs == 30 * 8 * 1 * 27
    assert found.parameters == 8 * 1 * 27 + 8


def test_transposed():
    found = site(nn.ConvTranspose3d(2, 3, (3, 2, 2), stride=(1, 2, 2), padding=(1, 0, 0)), clip())
    assert found.op == "conv_transpose3d"
    assert found.output_shape == (1, 3, 1, 10, 12)
    assert found.dead_taps == (0, 2)
    # A weight is used once for every position of the input.
    assert found.macs == 30 * 2 * 3 * 12
    assert found.parameters == 2 * 3 * 12 + 3


def test_transposed_and_grouped():
    found = site(nn.ConvTranspose3d(4, 6, 1, groups=2), clip(1, 4, 1, 5, 6))
    assert found.parameters == 4 * 3 + 6
    assert found.macs == 30 * 4 * 3


def test_unbatched():
    found = site(nn.Conv3d(2, 3, 3, padding=1), clip(2, 1, 5, 6))
    assert found.input_shape == (2, 1, 5, 6)
    assert found.macs == 30 * 3 * 2 * 27


def test_an_expanded_image_is_moved_once():
    found = site(Before(lambda x: x.expand(-1, -1, 3, -1, -1), nn.Conv3d(2, 3, (3, 1, 1), bias=False)), clip())
    assert found.input_shape == (1, 2, 3, 5, 6)
    assert found.bytes == 8 * (3 * 60 + 18 + 90)
    assert found.useful_bytes == 8 * (60 + 6 + 90)


# --- a whole model


def test_names_and_totals():
    def forward(self, x):
        return self.blocks[1](self.blocks[0](self.blocks[0](x)))

    net = Net(forward, blocks=nn.ModuleList([nn.Conv3d(2, 2, 3, padding=1), nn.Conv3d(2, 2, 1)]), rest=nn.Linear(2, 2))
    audit = flatconv.audit(filled(net), (clip(),))
    assert [s.name for s in audit.sites] == ["blocks.0", "blocks.0#2", "blocks.1"]
    assert audit.totals.sites == 3
    for name in ("macs", "useful_macs", "bytes", "useful_bytes"):
        assert getattr(audit.totals, name) == sum(getattr(s, name) for s in audit.sites)
    # The parameters of a module that is called twice count once.
    assert audit.totals.parameters == audit.sites[0].parameters + audit.sites[2].parameters
    assert audit.unused_parameters == ("rest.weight", "rest.bias")
    assert audit.model == "Net"
    assert audit.method == "forward"
    assert audit.inputs == (("x", (1, 2, 1, 5, 6)),)


def test_sites_are_convolutions_in_3d_and_whatever_loses_something():
    def forward(self, x):
        y = self.conv3d(x)[:, :, 0]
        return self.plain(y) + self.tall(y[:, :, :1]).mean()

    parts = {
        "conv3d": nn.Conv3d(2, 2, (1, 3, 3), padding=(0, 1, 1)),
        "plain": nn.Conv2d(2, 2, 3, padding=1),
        "tall": nn.Conv2d(2, 2, 3, padding=1),
    }
    audit = flatconv.audit(filled(Net(forward, **parts)), (clip(),))
    assert [s.name for s in audit.sites] == ["conv3d", "tall"]


def test_a_model_without_convolutions():
    audit = flatconv.audit(filled(nn.Sequential(nn.Flatten(), nn.Linear(60, 2))), (clip(),))
    assert audit.sites == ()
    assert audit.totals.macs == 0
    assert str(audit)


def test_unknown_operators_are_listed_with_their_places():
    class Odd(nn.Module):
        def forward(self, x):
            return x.tril()

    net = nn.Sequential(nn.Conv3d(2, 2, 1), Odd())
    audit = flatconv.audit(filled(net), (clip(),))
    assert dict(audit.unknown) == {"aten.tril.default": ("1",)}


def test_tied_parameters_are_used():
    first, second = nn.Conv3d(2, 2, 1), nn.Conv3d(2, 2, 1)
    second.weight = first.weight
    audit = flatconv.audit(filled(nn.Sequential(first, second)), (clip(),))
    assert audit.unused_parameters == ()
    assert audit.totals.parameters == sum(s.parameters for s in audit.sites) - 4


def test_another_method():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv3d(2, 2, 3, padding=1), nn.Conv3d(2, 2, 1)

        def encode(self, x, scale=1.0):
            return self.a(x) * scale

    audit = flatconv.audit(filled(Two()), (clip(),), {"scale": 2.0}, method="encode")
    assert [s.name for s in audit.sites] == ["a"]
    assert audit.method == "encode"


def test_a_model_is_audited_at_the_sizes_of_the_example():
    net = filled(nn.Conv3d(2, 2, 3, padding=1))
    small, large = (flatconv.audit(net, (clip(n, 2, 1, 5, 6),)).totals for n in (1, 3))
    assert 3 * small.macs == large.macs


def test_the_audit_changes_nothing():
    net = filled(nn.Sequential(nn.Conv3d(2, 2, 3, padding=1), nn.BatchNorm3d(2)))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    flatconv.audit(net, (clip(),))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_table_and_json():
    audit = flatconv.audit(filled(nn.Conv3d(2, 3, 3, padding=1)), (clip(),))
    assert "conv3d" in str(audit)
    read = json.loads(audit.to_json())
    assert read["sites"][0]["dead_taps"] == [0, 2]
    assert read["totals"]["macs"] == audit.totals.macs
    assert audit.to_dict()["sites"][0]["kernel"] == (3, 3, 3)


@pytest.mark.parametrize("front", [0, 1, 2])
def test_the_reason_names_both_sources_of_zeros(front):
    net = Padded(nn.Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0)), (0, 0, 0, 0, front, 0))
    found = site(net, clip())
    assert "zero padding of the convolution itself, 1 on each side" in found.reason
    assert ("from the" in found.reason) == bool(front)


def test_an_audit_agrees_with_the_fold():
    def forward(self, x):
        return self.b(F.relu(self.a(x)))

    net = filled(Net(forward, a=nn.Conv3d(2, 3, 3, padding=1), b=nn.Conv3d(3, 2, (3, 1, 1), padding=(1, 0, 0))))
    audit = flatconv.audit(net, (clip(),))
    report = flatconv.fold(net, (clip(),), verify=False).report
    assert report.audit.sites == audit.sites
    assert [s.audit for s in report.sites] == list(audit.sites)
    assert report.audit.totals == audit.totals


# --- initial scale


def started(model, *tensors):
    """Notes on the initial scale, with PyTorch's own initialisation."""
    return [n for n in flatconv.audit(model, tensors).notes if "freshly initialised" in n]


def test_fresh_sites_that_start_too_small_are_noted():
    x = sample(1, 4, 1, 6, 7, dtype=torch.float32)
    net = nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 8, (5, 1, 1), padding=(2, 0, 0)))
    (note,) = started(net, x)
    assert note.startswith("2 sites look freshly initialised and start 1.73 to 2.24 times too small")
    assert "(0, 2)" in note
    assert "flatconv.reinit" in note
    assert "normalisation" not in note
    assert "2 sites look" in " ".join(str(flatconv.audit(net, (x,))).split())
    flatconv.reinit(net, (x,))
    assert started(net, x) == []


def test_a_normalisation_behind_is_noted_too():
    x = sample(2, 4, 1, 6, 7, dtype=torch.float32)
    first = nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.BatchNorm3d(8)).eval()
    (note,) = started(first, x)
    assert note.startswith("1 site looks freshly initialised and starts 1.73 times too small")
    assert "a normalisation follows, which" in note
    (note,) = started(nn.Sequential(*first, nn.Conv3d(8, 8, 3, padding=1)).eval(), x)
    assert "a normalisation follows 1 of them" in note


@pytest.mark.parametrize("model", [
    filled(nn.Conv3d(4, 8, 3, padding=1), dtype=torch.float32),
    nn.Conv3d(4, 8, (1, 3, 3), padding=(0, 1, 1)),
    nn.Conv3d(4, 8, 3, padding=1, padding_mode="replicate"),
    nn.utils.parametrizations.weight_norm(nn.Conv3d(4, 8, 3, padding=1)),
], ids=["other weights", "unit depth", "merged taps", "computed weights"])  # fmt: skip
def test_other_sites_get_no_such_note(model):
    assert started(model, sample(1, 4, 1, 6, 7, dtype=torch.float32)) == []


def test_a_trained_model_gets_no_such_note():
    assert started(image_vae(), sample(1, 3, 1, 32, 32, dtype=torch.float32)) == []
