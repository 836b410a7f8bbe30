"""The two forms for a kernel along an axis: a sum over its taps, and its taps as channels."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import flatconv
from flatconv import forms
from flatconv.analyse import analyse
from flatconv.capture import capture
from flatconv.lower import lower
from tests.expected import filled, folded, form, only_site, sample

SUM, UNFOLD = "sum of slices", "unfold along an axis"


def conv(kernel=(2, 3, 3), padding=(0, 1, 1), **options):
    return filled(nn.Conv3d(2, 4, kernel, padding=padding, **options))


def test_a_sum_over_two_taps(take):
    take(SUM)
    net = conv()
    flat = folded(net, sample(3, 2, 5, 6, 7), verify=True)
    assert form(flat) == [
        ("transpose.int", "input", 1, 2),
        ("slice.Tensor", "#0", 1, 0, 4, 1),
        ("select.int", "weight", 0, 0),
        ("flatten.using_ints", "#1", 0, 1),
        ("conv2d.default", "#3", "#2", "bias", [1, 1], [1, 1], [1, 1], 1),
        ("slice.Tensor", "#0", 1, 1, 5, 1),
        ("select.int", "weight", 0, 1),
        ("flatten.using_ints", "#5", 0, 1),
        ("conv2d.default", "#7", "#6", None, [1, 1], [1, 1], [1, 1], 1),
        ("add.Tensor", "#4", "#8"),
        ("unflatten.int", "#9", 0, [3, 4]),
        ("transpose.int", "#10", 1, 2),
        ("contiguous.default", "#11"),
        ("return", "#12"),
    ]
    assert torch.equal(flat.weight, net.weight.movedim(2, 0))
    assert only_site(flat).evidence.level == "exact"


def test_taps_as_channels(take):
    take(UNFOLD)
    net = conv()
    flat = folded(net, sample(3, 2, 5, 6, 7), verify=True)
    assert form(flat) == [
        ("transpose.int", "input", 1, 2),
        ("slice.Tensor", "#0", 1, 0, 4, 1),
        ("slice.Tensor", "#0", 1, 1, 5, 1),
        ("stack.default", ["#1", "#2"], 3),
        ("flatten.using_ints", "#3", 0, 1),
        ("flatten.using_ints", "#4", 1, 2),
        ("conv2d.default", "#5", "weight", "bias", [1, 1], [1, 1], [1, 1], 1),
        ("unflatten.int", "#6", 0, [3, 4]),
        ("transpose.int", "#7", 1, 2),
        ("contiguous.default", "#8"),
        ("return", "#9"),
    ]
    assert torch.equal(flat.weight, net.weight.flatten(1, 2))
    assert only_site(flat).evidence.level == "exact"


@pytest.mark.parametrize("name", [SUM, UNFOLD])
def test_stored_in_channels_last(take, name):
    take(name, last=True)
    flat = folded(conv(), sample(3, 2, 5, 6, 7), verify=True)
    each = flat.weight[0] if name == SUM else flat.weight
    assert each.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", [SUM, UNFOLD])
@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (conv(kernel=(1, 3, 3)), (1, 2, 5, 6, 7)),
        (filled(nn.ConvTranspose3d(2, 3, 3)), (1, 2, 5, 6, 7)),
        (conv(), (2, 5, 6, 7)),
    ],
    ids=["one tap", "transposed", "no batch"],
)
def test_left_alone(net, shape, name, take):
    take(name)
    assert name not in only_site(folded(net, sample(*shape))).rule


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_form_of_any_convolution_is_the_convolution(data):
    """Stride, dilation, groups, padding, kernels and sizes as they come."""
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2]))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(3))
    stride = tuple(draw(st.sampled_from([1, 2, k])) for k in kernel)
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(3))
    padding = tuple(draw(st.integers(0, k)) for k in kernel)
    sizes = [
        draw(st.integers(max(1, (k - 1) * d + 1 - 2 * p), 7)) for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    net = filled(
        nn.Conv3d(2 * groups, 4, kernel, stride, padding, dilation, groups=groups, bias=draw(st.booleans())),
    )
    x = sample(draw(st.integers(1, 3)), 2 * groups, *sizes)
    last = draw(st.booleans())
    free = draw(st.sampled_from([False, "auto"]))
    original = forms.fixed
    try:
        for name in forms.FORMS:
            forms.fixed = lambda here, name=name: (
                forms.take(here, name, last and forms.has_format(here, name)) if name in forms.possible(here) else here
            )
            flat = flatconv.fold(net, (x,), verify=False, tune=False, dynamic=free)
            with torch.no_grad():
                torch.testing.assert_close(flat(x), net(x), rtol=1e-11, atol=1e-11)
    finally:
        forms.fixed = original


@pytest.mark.parametrize("name", list(forms.FORMS))
@pytest.mark.parametrize("last", [False, True])
def test_results_lie_in_memory_as_before(monkeypatch, name, last):
    def fixed(here):
        taken = name if name in forms.possible(here) else "as it is"
        return forms.take(here, taken, last and forms.has_format(here, taken))

    monkeypatch.setattr(forms, "fixed", fixed)
    for net, x in (
        (conv(kernel=(2, 3, 3), stride=(2, 3, 3), padding=0), sample(2, 2, 4, 6, 6)),
        (conv(kernel=(1, 3, 3)), sample(2, 2, 4, 6, 6)),
        (conv(kernel=(3, 1, 1), padding=0), sample(2, 2, 4, 6, 6)),
    ):
        flat = flatconv.fold(net, (x,), tune=False)
        with torch.no_grad():
            assert net(x).is_contiguous()
            assert flat(x).is_contiguous()


@pytest.mark.parametrize(("last", "engine", "copies"), [(True, "eager", 1), (False, "eager", 0), (True, "compile", 0)])
def test_group_norm_reads_memory_in_the_usual_order(last, engine, copies):
    """On a CPU torch's kernel for channels-last loses digits; Inductor has one of its own."""
    model = filled(nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Conv3d(4, 2, 1)))
    captured = capture(model, (sample(1, 2, 3, 6, 5),))
    analysis = analyse(captured.program, captured.given)
    sites = {n: forms.take(s, SUM, last) if SUM in forms.possible(s) else s for n, s in analysis.sites.items()}
    assert any(s.form == SUM for s in sites.values())
    graph = lower(captured.program, dataclasses.replace(analysis, sites=sites, engine=engine)).graph
    (norm,) = [n for n in graph.nodes if "group_norm" in str(n.target)]
    given = norm.all_input_nodes[0]
    plain = given.target == torch.ops.aten.contiguous.default and not given.kwargs
    assert plain == bool(copies)
