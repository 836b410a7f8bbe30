import dataclasses

import pytest
import torch
from torch import nn

import flatconv
from flatconv import forms
from flatconv.forms import together
from tests.expected import Net, agree, filled, form, sample


def branches(**options):
    parts = {n: nn.Conv3d(2, w, (1, 3, 3), padding=(0, 1, 1), **options) for n, w in (("a", 3), ("b", 4), ("c", 5))}
    return filled(Net(lambda self, x: torch.cat([self.a(x), self.b(x).relu(), self.c(x)], 1), **parts))


@pytest.fixture
def as_one(monkeypatch):
    """Every bundle that can be computed as one is."""

    def choose(sites, engine=""):
        made = {n: forms.take(s, "as it is") for n, s in sites.items()}
        for bundle in together.bundles(made):
            made = together.take(made, bundle)
        return made

    monkeypatch.setattr(forms, "choose", choose)


def test_three_branches_are_one_convolution(as_one):
    net, x = branches(), sample(2, 2, 4, 5, 6)
    flat = flatconv.fold(net, (x,), dynamic=False)
    assert form(flat) == [
        ("conv3d.default", "x", "a.weight__and_2_more", "a.bias__and_2_more", [1, 1, 1], [0, 1, 1], [1, 1, 1], 1),
        ("slice.Tensor", "#0", 1, 0, 3),
        ("slice.Tensor", "#0", 1, 3, 7),
        ("relu.default", "#2"),
        ("slice.Tensor", "#0", 1, 7, 12),
        ("cat.default", ["#1", "#3", "#4"], 1),
        ("return", "#5"),
    ]
    agree(flat(x), net(x))
    held = flat.state_dict()
    assert torch.equal(held["a.weight__and_2_more"], torch.cat([net.a.weight, net.b.weight, net.c.weight]))
    assert torch.equal(held["a.bias__and_2_more"], torch.cat([net.a.bias, net.b.bias, net.c.bias]))
    assert all(s.rule == (together.NAME,) for s in flat.report.sites)


def test_shared_weights_are_joined_on_every_call(as_one):
    net, x = branches(), sample(2, 2, 4, 5, 6)
    flat = flatconv.fold(net, (x,), weights="shared")
    with torch.no_grad():
        net.b.weight.mul_(2)
    agree(flat(x), net(x))
    flat(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())


def test_results_of_one_convolution_have_memory_of_their_own(as_one):
    parts = {n: nn.Conv3d(2, 3, (1, 3, 3)) for n in "ab"}
    net = filled(Net(lambda self, x: (self.a(x), self.b(x)), **parts))
    x = sample(1, 2, 4, 5, 6)
    a, b = flatconv.fold(net, (x,))(x)
    assert a.untyped_storage().data_ptr() != b.untyped_storage().data_ptr()
    before = b.clone()
    a.zero_()
    assert torch.equal(b, before)


def bundle_sizes(net, *shape):
    flat = flatconv.fold(net, (sample(*shape),), verify=False)
    return sorted(len(s.rule) for s in flat.report.sites if together.NAME in s.rule)


@pytest.mark.parametrize(
    "change",
    [
        {"kernel_size": (1, 3, 2)},
        {"stride": (1, 2, 2)},
        {"dilation": (1, 2, 1)},
        {"padding": (0, 1, 0)},
        {"bias": False},
    ],
    ids=lambda c: next(iter(c)),
)
def test_other_geometry_is_left_apart(as_one, change):
    options = {"kernel_size": (1, 3, 3)}
    parts = {"a": nn.Conv3d(2, 3, **options), "b": nn.Conv3d(2, 3, **(options | change))}
    net = filled(Net(lambda self, x: (self.a(x), self.b(x)), **parts))
    assert bundle_sizes(net, 1, 2, 4, 6, 6) == []


def test_another_input_is_left_apart(as_one):
    parts = {n: nn.Conv3d(2, 3, (1, 3, 3)) for n in "ab"}
    net = filled(Net(lambda self, x: (self.a(x), self.b(x + 1)), **parts))
    assert bundle_sizes(net, 1, 2, 4, 6, 6) == []


@pytest.mark.parametrize("made", [lambda: nn.Conv3d(4, 4, 1, groups=2), lambda: nn.ConvTranspose3d(4, 4, 2)])
def test_groups_and_transposed_are_left_apart(as_one, made):
    net = filled(Net(lambda self, x: (self.a(x), self.b(x)), a=made(), b=made()))
    assert bundle_sizes(net, 1, 4, 4, 6, 6) == []


def test_computed_weights_are_left_apart(as_one):
    parts = {n: nn.utils.parametrizations.weight_norm(nn.Conv3d(2, 3, (1, 3, 3))) for n in "ab"}
    net = filled(Net(lambda self, x: (self.a(x), self.b(x)), **parts))
    assert bundle_sizes(net, 1, 2, 4, 6, 6) == []


def test_different_forms_are_not_joined():
    from flatconv.analyse import analyse
    from flatconv.capture import capture

    captured = capture(branches(), (sample(2, 2, 4, 5, 6),))
    sites = dict(analyse(captured.program).sites)
    (bundle,) = together.bundles(sites)
    sites[bundle[0]] = dataclasses.replace(sites[bundle[0]], channels_last=True)
    with pytest.raises(ValueError, match="together"):
        together.take(sites, bundle)
