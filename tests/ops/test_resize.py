"""Interpolation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.ops import harness as h

aten = torch.ops.aten
VOLUME, IMAGE, LINE = (2, 2, 3, 2, 2), (2, 2, 3, 2), (2, 2, 3)


def _up(**options):
    return lambda x: F.interpolate(x, **options)


SPELLINGS = h.cases({
    "nearest ×2": (_up(scale_factor=2), VOLUME),
    "nearest ×(2, 1, 1)": (_up(scale_factor=(2, 1, 1)), VOLUME),
    "nearest ×4": (_up(scale_factor=(4, 1, 2), mode="nearest"), VOLUME),
    "nearest ×3": (_up(scale_factor=3), VOLUME),
    "nearest ×1.5": (_up(scale_factor=1.5), VOLUME),
    "nearest ×0.5": (_up(scale_factor=(0.5, 1, 1)), (2, 2, 4, 2, 2)),
    "nearest ×2.4": (_up(scale_factor=(2.4, 1, 1)), (2, 2, 5, 2, 2)),
    "nearest to a size": (_up(size=(6, 2, 4)), VOLUME),
    "nearest to a smaller size": (_up(size=(2, 2, 2)), VOLUME),
    "nearest to an odd size": (_up(size=(7, 3, 2)), VOLUME),
    "nearest recomputed": (_up(scale_factor=2.1, recompute_scale_factor=True), VOLUME),
    "nearest-exact ×2": (_up(scale_factor=2, mode="nearest-exact"), VOLUME),
    "nearest-exact ×2.5": (_up(scale_factor=2.5, mode="nearest-exact"), VOLUME),
    "nearest-exact to a size": (_up(size=(6, 4, 2), mode="nearest-exact"), VOLUME),
    "trilinear": (_up(scale_factor=2, mode="trilinear"), VOLUME),
    "trilinear aligned": (_up(scale_factor=2, mode="trilinear", align_corners=True), VOLUME),
    "trilinear to a size": (_up(size=(5, 3, 2), mode="trilinear"), VOLUME),
    "trilinear of one": (_up(size=(3, 4, 4), mode="trilinear"), (2, 2, 1, 2, 2)),
    "bilinear": (_up(scale_factor=2, mode="bilinear"), IMAGE),
    "bilinear antialiased": (_up(size=(2, 2), mode="bilinear", antialias=True), IMAGE),
    "bicubic": (_up(scale_factor=2, mode="bicubic"), IMAGE),
    "bicubic aligned": (_up(size=(5, 3), mode="bicubic", align_corners=True), IMAGE),
    "linear": (_up(scale_factor=2, mode="linear"), LINE),
    "nearest 2-D": (_up(scale_factor=2), IMAGE),
    "nearest 1-D": (_up(scale_factor=2), LINE),
    "nearest-exact 2-D": (_up(scale_factor=2, mode="nearest-exact"), IMAGE),
    "nearest-exact 1-D": (_up(scale_factor=2, mode="nearest-exact"), LINE),
    "area": (_up(size=(2, 2, 1), mode="area"), VOLUME),
    "area 2-D": (_up(scale_factor=2, mode="area"), IMAGE),
    "Upsample": (nn.Upsample(scale_factor=(1, 2, 2)), VOLUME),
    "UpsamplingBilinear2d": (nn.UpsamplingBilinear2d(scale_factor=2), IMAGE),
    "first frame apart": (
        lambda x: torch.cat([F.interpolate(x[:, :, 0], scale_factor=2)[:, :, None], _up(scale_factor=2)(x[:, :, 1:])], 2),
        VOLUME,
    ),
})  # fmt: skip


@pytest.mark.parametrize("case", SPELLINGS, ids=repr)
@given(data=st.data())
@h.profile(10)
def test_spellings(case, data):
    h.check(case.program, data.draw(h.knowledge(case.program)))


NAMES = {
    "nearest": ("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    "exact": ("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
    "linear": ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
    "cubic": (None, "upsample_bicubic2d", None),
}


def _resized(draw, graph, x):
    n = x.meta["val"].dim() - 2
    kind = draw(st.sampled_from(tuple(NAMES)))
    name = NAMES[kind][n - 1]
    if name is None:
        return None
    align = [draw(st.booleans())] if kind in ("linear", "cubic") else []
    packet = getattr(aten, name)
    form = draw(st.sampled_from(("factors", "size", "both")))
    sizes = [draw(st.integers(1, 4)) if draw(st.booleans()) else 2 * s for s in x.meta["val"].shape[2:]]
    factors = [draw(st.sampled_from((1.0, 2.0, 2.0, 3.0, 0.5, 1.7))) for _ in range(n)]
    try:
        if form == "factors":
            return graph.call(packet.vec, x, None, *align, factors)
        if form == "size":
            return graph.call(packet.vec, x, sizes, *align, None)
        given = [draw(st.sampled_from((None, f))) for f in factors]
        sizes = [int(s * f) or 1 if f else t for s, f, t in zip(x.meta["val"].shape[2:], given, sizes, strict=True)]
        return graph.call(packet.default, x, sizes, *align, *given)
    except RuntimeError:  # a factor that leaves nothing
        return None


@given(st.data())
@h.profile(150)
def test_sampled_arguments(data):
    shape = data.draw(st.sampled_from(((1, 2, 3, 2, 1), (2, 2, 3, 4), (1, 1, 5), (2, 1, 2))))
    graph = h.Graph()
    made = _resized(data.draw, graph, graph.input(*shape))
    if made is not None:
        program = graph.program(made)
        h.check(program, data.draw(h.knowledge(program)))


@given(st.data())
@h.profile(150)
def test_between_convolutions(data):
    h.sandwich(data.draw, lambda graph, x: _resized(data.draw, graph, x))


@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        (_up(scale_factor=(2, 1, 1)), "0ab", "00aabb"),
        (_up(scale_factor=(2, 2, 2)), "aab", "aaaabb"),
        (_up(scale_factor=(4, 1, 1)), "a", "aaaa"),
        (_up(scale_factor=(3, 1, 1)), "a", "aaa"),
        (_up(scale_factor=(2, 1, 1), mode="nearest-exact"), "ab", "aabb"),
        (_up(size=(6, 2, 2)), "ab0", "aabb00"),
        (_up(scale_factor=(1, 2, 2)), "00ab", "00ab"),
        (_up(scale_factor=(2, 2, 2), mode="trilinear"), "aa", "aaaa"),
        (_up(scale_factor=(2, 2, 2), mode="trilinear"), "00", "0000"),
        (_up(scale_factor=(2, 2, 2), mode="trilinear", align_corners=True), "a", "aa"),
        (_up(scale_factor=(2, 2, 2), mode="trilinear"), "0a", "abcd"),
        (_up(scale_factor=(2, 1, 1), mode="trilinear"), "aab", "abcdef"),
    ],
)
def test_found(function, given, expected):
    assert h.found(function, given) == expected


@pytest.mark.parametrize("mode", ["nearest", "trilinear"])
def test_batch_and_channels_pass_through(mode):
    assert h.found(_up(scale_factor=2, mode=mode), "0aab", axis=1) == "0aab"


def test_found_of_depth_that_is_not_resized():
    # Only H and W grow: the slices along D are resized one by one.
    assert h.found(_up(scale_factor=(1, 2, 2), mode="trilinear"), "0aab") in ("0aab", "abcd")


@pytest.mark.parametrize(
    ("op", "inside"),
    [
        (nn.Upsample(scale_factor=(1, 2, 2)), ["upsample_nearest2d"]),
        (_up(scale_factor=(1, 2, 2), mode="nearest-exact"), ["_upsample_nearest_exact2d"]),
        (_up(scale_factor=(1, 2, 2), mode="trilinear"), ["upsample_bilinear2d"]),
        (_up(scale_factor=(1, 2, 2), mode="trilinear", align_corners=True), ["upsample_bilinear2d"]),
        (_up(size=(1, 5, 9), mode="trilinear"), ["upsample_bilinear2d"]),
        (_up(size=(1, 5, 9)), ["upsample_nearest2d"]),
        (_up(size=(1, 3, 2), mode="area"), ["adaptive_avg_pool2d"]),
    ],
)
def test_forms(op, inside):
    h.assert_flat(h.between(op), *inside)


@pytest.mark.parametrize(
    ("op", "inside"),
    [
        (_up(scale_factor=(3, 2, 2)), ["upsample_nearest2d"]),
        (_up(size=(3, 5, 5), mode="trilinear"), ["upsample_bilinear2d"]),
        (_up(scale_factor=(3, 1, 1)), ["upsample_nearest2d"]),
    ],
)
def test_forms_of_three_slices_that_one_convolution_reads(op, inside):
    h.assert_flat(h.between(op, after=(0, 1, 1)), *inside)
