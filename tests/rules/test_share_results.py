import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import flatconv
from flatconv import forms
from tests.expected import Before, Net, agree, filled, folded, form, only_site, sample

RULE = "share equal results"


def still(frames, conv):
    """An image repeated to a clip, then a convolution."""
    return filled(Before(lambda x: x.expand(-1, -1, frames, -1, -1), conv))


def test_a_still_clip_between_zeros():
    net = still(9, nn.Conv3d(2, 3, 3, padding=1))
    flat = folded(net, sample(2, 2, 1, 4, 5), verify=True)
    assert form(flat) == [
        ("expand.default", "x", [2, 2, 9, 4, 5]),
        ("slice.Tensor", "#0", 2, 6),
        ("conv3d.default", "#1", "conv.weight", "conv.bias", [1, 1, 1], [1, 1, 1], [1, 1, 1], 1),
        ("slice.Tensor", "#2", 2, 1, 2),
        ("expand.default", "#3", [-1, -1, 7, -1, -1]),
        ("slice.Tensor", "#2", 2, 0, 1),
        ("slice.Tensor", "#2", 2, 2),
        ("cat.default", ["#5", "#4", "#6"], 2),
        ("return", "#7"),
    ]
    site = only_site(flat)
    assert RULE in site.rule
    assert site.evidence.level == "exact"


def test_layer_after_layer():
    """Three, five and seven results are different; the rest is repeated."""
    parts = {n: nn.Conv3d(2, 2, 3, padding=1) for n in "abc"}
    net = filled(Net(lambda self, x: self.c(self.b(self.a(x.expand(-1, -1, 12, -1, -1)).relu()).relu()), **parts))
    x = sample(1, 2, 1, 4, 5)
    flat = flatconv.fold(net, (x,))
    agree(flat(x), net(x))
    assert all(RULE in s.rule for s in flat.report.sites)
    sizes = [tuple(s.audit.output_shape)[2] for s in flat.report.sites]
    assert sizes == [12, 12, 12]
    frames = []

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func == torch.ops.aten.convolution.default:
                frames.append(args[0].shape[2])
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Seen():
        flat(x)
    assert frames == [3, 5, 7]


def test_with_stride():
    net = still(11, nn.Conv3d(2, 3, 3, padding=1, stride=(2, 1, 1)))
    flat = folded(net, sample(2, 2, 1, 4, 5), verify=True)
    assert RULE in only_site(flat).rule


def test_distinct_results_are_left_alone():
    flat = folded(filled(nn.Conv3d(2, 3, 3, padding=1)), sample(1, 2, 5, 4, 5))
    assert RULE not in only_site(flat).rule


def test_equal_results_that_are_no_neighbours_are_left_alone():
    conv = nn.Conv3d(2, 3, (1, 3, 3))
    net = filled(Before(lambda x: torch.cat([x, x], 2), conv))
    flat = folded(net, sample(1, 2, 3, 4, 5))
    assert RULE not in only_site(flat).rule


def test_transposed_is_left_alone():
    flat = folded(still(6, nn.ConvTranspose3d(2, 3, 3)), sample(1, 2, 1, 4, 5))
    assert RULE not in only_site(flat).rule


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_clip_with_equal_frames(data):
    draw = data.draw
    which = draw(st.lists(st.integers(0, 2), min_size=2, max_size=9))
    kernel, stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    lo, hi = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    if len(which) + lo + hi < (kernel - 1) * dilation + 1:
        return
    conv = nn.Conv3d(2, 2, (kernel, 1, 2), stride=(stride, 1, 1), dilation=(dilation, 1, 1), bias=draw(st.booleans()))

    def clip(x):
        frames = torch.cat([x[:, :, i : i + 1] for i in which], 2)
        return nn.functional.pad(frames, (0, 0, 0, 0, lo, hi))

    net, x = filled(Before(clip, conv)), sample(2, 2, 3, 3, 4)
    original = forms.fixed
    name = draw(st.sampled_from(list(forms.FORMS)))
    forms.fixed = lambda here: forms.take(here, name) if forms.FORMS[name].why_not(here) is None else here
    try:
        flat = flatconv.fold(net, (x,), tune=False, dynamic=draw(st.sampled_from([False, "auto"])))
    finally:
        forms.fixed = original
    agree(flat(x), net(x))
