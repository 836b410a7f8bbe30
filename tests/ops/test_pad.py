"""Pads of every spelling."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import flatconv
from tests.expected import agree, filled
from tests.ops import harness as h

aten = torch.ops.aten

SPELLINGS = h.cases(
    {
        "zeros in front": (lambda x: F.pad(x, (0, 0, 0, 0, 2, 0)), (2, 2, 3, 2, 2)),
        "zeros all round": (lambda x: F.pad(x, (1, 1, 2, 0, 0, 1)), (2, 2, 2, 3, 2)),
        "a value": (lambda x: F.pad(x, (0, 0, 0, 0, 1, 1), value=3.0), (1, 2, 2, 2, 2)),
        "batch and channels": (lambda x: F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0, 0, 2)), (2, 2, 2, 2, 2)),
        "crop": (lambda x: F.pad(x, (0, 0, -1, 0, -1, 1)), (1, 2, 3, 3, 2)),
        "crop only": (lambda x: F.pad(x, (0, 0, 0, 0, -1, -1)), (1, 2, 3, 2, 2)),
        "nothing": (lambda x: F.pad(x, (0, 0, 0, 0)), (2, 2, 3)),
        "replicate": (lambda x: F.pad(x, (0, 1, 1, 1, 2, 0), mode="replicate"), (2, 2, 3, 2, 2)),
        "replicate one": (lambda x: F.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate"), (2, 2, 1, 2, 2)),
        "replicate crop": (lambda x: F.pad(x, (0, 0, 0, 0, -1, 2), mode="replicate"), (2, 2, 3, 2, 2)),
        "reflect": (lambda x: F.pad(x, (1, 1, 0, 1, 2, 2), mode="reflect"), (2, 2, 3, 3, 2)),
        "circular": (lambda x: F.pad(x, (1, 0, 0, 1, 2, 1), mode="circular"), (2, 2, 3, 2, 2)),
        "circular crop": (lambda x: F.pad(x, (0, 0, 0, 0, -1, 1), mode="circular"), (1, 2, 3, 2, 2)),
        "unbatched": (lambda x: F.pad(x, (1, 1, 0, 0, 2, 0), mode="replicate"), (2, 3, 2, 2)),
        "1-D": (lambda x: F.pad(x, (2, 1), mode="reflect"), (2, 2, 4)),
        "2-D": (lambda x: F.pad(x, (1, 1, 2, 1), mode="reflect"), (2, 2, 4, 3)),
        "ZeroPad3d": (nn.ZeroPad3d((0, 0, 1, 1, 2, 0)), (1, 2, 3, 2, 2)),
        "ConstantPad3d": (nn.ConstantPad3d((0, 0, 1, 1, 2, 0), -1.0), (1, 2, 3, 2, 2)),
        "ReplicationPad3d": (nn.ReplicationPad3d((0, 0, 1, 1, 2, 0)), (1, 2, 3, 2, 2)),
        "ReflectionPad3d": (nn.ReflectionPad3d((0, 0, 1, 1, 1, 1)), (1, 2, 3, 2, 2)),
        "CircularPad3d": (nn.CircularPad3d((0, 0, 1, 1, 1, 1)), (1, 2, 3, 2, 2)),
        "ReplicationPad2d": (nn.ReplicationPad2d((0, 1, 2, 0)), (2, 2, 3, 2)),
        "ReflectionPad1d": (nn.ReflectionPad1d((1, 2)), (2, 2, 3)),
        "padded by its own result": (
            lambda x: F.pad(F.pad(x, (0, 0, 1, 0)), (0, 0, 0, 1), mode="replicate"),
            (1, 2, 3, 2),
        ),
    },
    exact=True,
)


@pytest.mark.parametrize("case", SPELLINGS, ids=repr)
@given(data=st.data())
@h.profile(10)
def test_spellings(case, data):
    h.check(case.program, data.draw(h.knowledge(case.program)), exact=True)


MODES = ("constant", "replicate", "reflect", "circular")


def _pad(draw, graph, x, padded):
    mode = draw(st.sampled_from(MODES))
    value = draw(st.sampled_from((None, 0.0, 0.0, 2.0))) if mode == "constant" else None
    sides = []
    for size in reversed(x.meta["val"].shape[-padded:]):
        most = {"reflect": size - 1, "circular": size}.get(mode, 2)
        sides += [draw(st.integers(0, min(most, 2))), draw(st.integers(0, min(most, 2)))]
    if mode == "constant" and draw(st.booleans()):
        return graph.call(aten.constant_pad_nd.default, x, sides, value or 0)
    if mode in ("replicate", "reflect") and draw(st.booleans()):
        kind = {"replicate": "replication", "reflect": "reflection"}[mode]
        return graph.call(getattr(aten, f"{kind}_pad{padded}d").default, x, sides)
    return graph.call(aten.pad.default, x, sides, mode, *([value] if value is not None else []))


@given(st.data())
@h.profile(80)
def test_sampled_amounts(data):
    padded = data.draw(st.integers(1, 3))
    shape = data.draw(st.lists(st.integers(1, 3), min_size=padded + 1, max_size=padded + 2))
    h.alone(data.draw, lambda graph, x: _pad(data.draw, graph, x, padded), *shape, exact=True)


@given(st.data())
@h.profile(80)
def test_between_convolutions(data):
    h.sandwich(data.draw, lambda graph, x: _pad(data.draw, graph, x, 3))


@pytest.mark.parametrize(
    ("pad", "mode", "given", "expected"),
    [
        ((2, 0), "constant", "a", "00a"),
        ((1, 1), "constant", "abc", "0abc0"),
        ((2, 0), "replicate", "a", "aaa"),
        ((1, 2), "replicate", "abc", "aabccc"),
        ((2, 2), "reflect", "abc", "abcbabc"),
        ((1, 1), "circular", "abc", "abcab"),
        ((0, 1), "constant", "0aa", "0aa0"),
        ((1, 0), "replicate", "0ab", "00ab"),
        ((0, 1), "circular", "0ab", "0ab0"),
        ((-1, 0), "constant", "aab", "ab"),
        ((-1, 1), "circular", "abc", "aba"),
    ],
)
def test_found_along_the_padded_axis(pad, mode, given, expected):
    assert h.found(lambda x: F.pad(x, (0, 0, 0, 0, *pad), mode=mode), given) == expected


@pytest.mark.parametrize(("given", "expected"), [("aab", "aab"), ("0ab", "0ab"), ("abc", "abc")])
@pytest.mark.parametrize("mode", MODES)
def test_found_along_another_axis(mode, given, expected):
    assert h.found(lambda x: F.pad(x, (1, 1, 1, 1, 0, 0), mode=mode), given) == expected


def test_padding_of_two_axes_keeps_both():
    assert h.found(lambda x: F.pad(x, (1, 1, 1, 1, 2, 0)), "a") == "00a"
    assert h.found(lambda x: F.pad(x, (1, 1, 0, 0, 1, 1), mode="replicate"), "ab") == "aabb"


def test_padding_with_a_value_is_not_zero():
    assert h.found(lambda x: F.pad(x, (0, 0, 0, 0, 2, 0), value=1.0), "0a") == "aa0b"
    assert h.found(lambda x: F.pad(x, (0, 0, 1, 0, 1, 0), value=1.0), "0a") == "abc"


def test_a_border_may_equal_nothing_inside():
    # The border is the constant alone; a slice of zeros inside gets the constant along W too.
    assert h.found(lambda x: F.pad(x, (1, 1, 0, 0, 1, 1), value=2.0), "00") == "abba"


def test_equality_across_two_pads():
    def twice(x):
        a, b = (F.pad(x, (1, 1, 0, 0, 0, 0), mode="reflect") for _ in range(2))
        return torch.cat([a, b], 2)

    assert h.found(twice, "ab") == "abab"


FLAT = [
    (lambda x: F.pad(x, (1, 1, 2, 0)), ["constant_pad_nd"]),
    (lambda x: F.pad(x, (1, 1, 2, 0), value=0.5), ["constant_pad_nd"]),
    (lambda x: F.pad(x, (1, 1, 2, 0, 0, 0), mode="reflect"), ["pad"]),
    (lambda x: F.pad(x, (1, 1, 2, 0, 0, 0), mode="replicate"), ["pad"]),
    (lambda x: F.pad(x, (1, 1, 2, 0, 0, 0), mode="circular"), ["pad"]),
]
THREE_SLICES = [
    (lambda x: F.pad(x, (1, 1, 2, 0, 1, 1), mode="replicate"), ["pad"]),
    (lambda x: F.pad(x, (0, 0, 0, 0, 2, 0), mode="replicate"), []),
    (lambda x: F.pad(F.pad(x, (1, 1, 1, 1, 0, 0), mode="reflect"), (0, 0, 0, 0, 2, 0)), ["pad"]),
    (lambda x: F.pad(x, (0, 0, 0, 0, 1, 1), mode="circular"), []),
    (lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)), []),
    (lambda x: F.relu(F.pad(x, (0, 0, 0, 0, 2, 0))), ["relu"]),
]


@pytest.mark.parametrize(("op", "inside"), FLAT)
def test_forms(op, inside):
    h.assert_flat(h.between(op), *inside)


@pytest.mark.parametrize(("op", "inside"), THREE_SLICES)
def test_forms_of_three_slices_that_one_convolution_reads(op, inside):
    h.assert_flat(h.between(op, after=(0, 1, 1)), *inside)


def test_a_zero_pad_of_height_and_width_is_absorbed():
    h.assert_flat(h.between(lambda x: F.pad(x, (1, 1, 1, 1, 2, 0)), after=0))


def test_a_pad_that_would_have_no_axis_before_it_gets_one_back():
    # Torch repeats edges only behind a batch or channel axis; dropping that too left a pad that cannot be spelled.
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv3d(3, 1, 1, bias=False)
            self.second = torch.nn.Conv3d(3, 3, (3, 1, 1), stride=(2, 1, 1), groups=3, bias=False)

        def forward(self, x):
            frames = F.adaptive_avg_pool3d(x, (3, 1, 1)).transpose(1, 2).flatten(0, 1)
            return frames, F.pad(frames, (0, 0, 0, 0, 0, 1), mode="replicate"), self.first(x), self.second(frames)

    model = Net().double().eval()
    x = torch.randn(1, 3, 1, 1, 1, dtype=torch.float64)
    flat = flatconv.fold(model, (x,))
    for made, wanted in zip(flat(x), model(x), strict=True):
        assert torch.allclose(made, wanted, rtol=0, atol=1e-12)


class Computed(nn.Module):
    """Pads that depend on the width, as strided convolutions with padding 'same' have in Keras and ONNX."""

    def __init__(self, value=0.0, depth=(1, 1)):
        super().__init__()
        self.conv = nn.Conv3d(2, 3, 3, stride=(1, 2, 2))
        self.value, self.depth = value, depth

    def forward(self, x):
        return self.conv(F.pad(x, (0, x.shape[-1] % 2 + 1, 0, 1, *self.depth), value=self.value))


@pytest.mark.parametrize("depth", [(1, 1), (2, 0), (0, 2)])
def test_amounts_that_depend_on_free_sizes(depth):
    model = filled(Computed(depth=depth))
    flat = flatconv.fold(model, (torch.randn(1, 2, 1, 8, 8, dtype=torch.float64),))
    assert flat.guards.inputs[0].shape[-1] is None
    (site,) = flat.report.sites
    assert (site.audit.live_taps, site.becomes) == ((depth[0],), "conv2d")
    assert any("free sizes" in r for r in site.refusal)  # the pad stays a pad
    for width in (6, 7, 8, 11):
        x = torch.randn(2, 2, 1, 9, width, dtype=torch.float64)
        agree(flat(x), model(x))


def test_computed_amounts_of_a_constant_that_is_not_zero():
    model = filled(Computed(value=2.0))
    flat = flatconv.fold(model, (torch.randn(1, 2, 1, 8, 8, dtype=torch.float64),))
    assert flat.report.sites[0].audit.live_taps == (0, 1, 2)
    for width in (7, 8):
        x = torch.randn(1, 2, 1, 8, width, dtype=torch.float64)
        agree(flat(x), model(x))


def test_computed_amounts_along_the_depth():
    """Nothing is known of an axis that is padded by who knows how much."""

    class Depth(Computed):
        def forward(self, x):
            return self.conv(F.pad(x, (0, 1, 0, 1, x.shape[-1] - 7, 1)))

    model = filled(Depth())
    x = torch.randn(1, 2, 1, 8, 8, dtype=torch.float64)
    flat = flatconv.fold(model, (x,))
    agree(flat(x), model(x))
    wide = torch.randn(1, 2, 1, 8, 10, dtype=torch.float64)
    try:
        found = flat(wide)
    except flatconv.GuardError:
        return
    agree(found, model(wide))
