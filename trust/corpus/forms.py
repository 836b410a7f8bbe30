"""Other exact forms of a convolution: where the order of taps, slices, channels and groups can be mixed up."""

from __future__ import annotations

from dataclasses import replace

import torch

from trust.trap import Trap, c3, flow, one

PATCHES, CHANNELS, POINTWISE = "patches to a matrix product", "axis into channels", "pointwise axes as one"
BATCH, SUM, UNFOLD, TOGETHER = "axis into batch", "sum of slices", "unfold along an axis", "computed together"

_ALONG = (
    Trap("along-causal", "field:causal", one(c3(2, 3, (3, 2, 3), padding=(2, 0, 1)), 2, 2, 4, 5, 7), exact=True),
    Trap(
        "along-strided",
        "field:strided-causal",
        one(c3(2, 3, (3, 3, 2), stride=(2, 1, 2), padding=(1, 1, 0)), 2, 2, 5, 6, 7),
        exact=True,
    ),
    Trap(
        "along-dilated",
        "same-dilation",
        one(c3(2, 3, (2, 3, 1), dilation=(3, 1, 1), padding=(2, 1, 0)), 2, 2, 5, 6, 7),
        exact=True,
    ),
    Trap("along-same-even", "same-even", one(c3(2, 3, (4, 3, 2), padding="same"), 2, 2, 5, 6, 7), exact=True),
    Trap("along-groups", "groups", one(c3(4, 6, (3, 2, 3), groups=2, padding=(1, 0, 1)), 2, 4, 4, 5, 7), exact=True),
    Trap("along-depthwise", "groups", one(c3(4, 8, (3, 2, 3), groups=4, bias=False), 2, 4, 4, 5, 7), exact=True),
    Trap("along-few", "few-slices", one(c3(2, 3, (5, 3, 2), padding=(2, 1, 0)), 2, 2, 2, 5, 7), exact=True),
)

ALL = (
    *(replace(t, name=f"{t.name}-sum", form=SUM) for t in _ALONG),
    *(replace(t, name=f"{t.name}-unfold", form=UNFOLD) for t in _ALONG),
    Trap(
        "patches-cut",
        "field:patches",
        one(c3(2, 5, (2, 3, 4), stride=(2, 3, 4)), 2, 2, 4, 6, 8),
        exact=True,
        form=PATCHES,
    ),
    Trap(
        "patches-left-over",
        "remainder",
        one(c3(2, 5, (2, 3, 4), stride=(2, 3, 4)), 2, 2, 5, 7, 11),
        exact=True,
        form=PATCHES,
    ),
    Trap("patches-one", "flatten", one(c3(2, 5, (2, 3, 4), stride=(2, 3, 4)), 3, 2, 2, 3, 4), exact=True, form=PATCHES),
    Trap(
        "patches-flat",
        "field:patches",
        flow(
            lambda m, t: m.conv(t.view(-1, 2, 2, 3, 4)).view(-1, 5), (3, 48), conv=c3(2, 5, (2, 3, 4), stride=(2, 3, 4))
        ),
        exact=True,
        operators=("linear",),
        form=PATCHES,
    ),
    Trap(
        "patches-flat-in-another-order",
        "flatten",
        flow(
            lambda m, t: m.conv(t.view(-1, 2, 2, 3, 4).transpose(1, 2)).view(-1, 5),
            (3, 48),
            conv=c3(2, 5, (2, 3, 4), stride=(2, 3, 4)),
        ),
        exact=True,
        form=PATCHES,
    ),
    Trap(
        "patches-overlap",
        "remainder",
        one(c3(2, 5, (2, 3, 4), stride=(2, 3, 3)), 2, 2, 4, 6, 8),
        exact=True,
        form=PATCHES,
    ),
    Trap(
        "patches-padded",
        "border",
        one(c3(2, 5, 2, stride=2, padding=(0, 1, 0)), 2, 2, 4, 6, 8),
        exact=True,
        form=PATCHES,
    ),
    Trap("patches-groups", "groups", one(c3(4, 6, 2, stride=2, groups=2), 2, 4, 4, 6, 8), exact=True, form=PATCHES),
    Trap(
        "frames-into-channels",
        "field:tiled",
        one(c3(2, 5, (2, 3, 3), stride=(2, 1, 1), padding=(0, 1, 1)), 2, 2, 2, 5, 7),
        exact=True,
        operators=("conv2d",),
        form=CHANNELS,
    ),
    Trap(
        "pairs-into-channels",
        "batch-order",
        one(c3(2, 5, (2, 3, 3), stride=(2, 1, 1)), 3, 2, 5, 5, 7),
        exact=True,
        form=CHANNELS,
    ),
    Trap(
        "channels-groups",
        "groups",
        one(c3(4, 6, (2, 3, 3), stride=(2, 1, 1), groups=2), 3, 4, 4, 5, 7),
        exact=True,
        form=CHANNELS,
    ),
    Trap(
        "time-alone",
        "height-width",
        one(c3(2, 5, (3, 1, 1), padding=(1, 0, 0)), 2, 2, 4, 5, 7),
        exact=True,
        operators=("conv2d",),
        form=POINTWISE,
    ),
    Trap(
        "width-alone",
        "height-width",
        one(c3(4, 6, (1, 1, 3), groups=2, stride=(1, 1, 2)), 2, 4, 4, 5, 7),
        exact=True,
        form=POINTWISE,
    ),
    Trap(
        "time-strided-rows",
        "skipped-slice",
        one(c3(2, 5, (3, 1, 1), stride=(1, 2, 1)), 2, 2, 4, 5, 7),
        exact=True,
        form=POINTWISE,
    ),
    Trap(
        "time-padded-columns",
        "zero-lost",
        one(c3(2, 5, (3, 1, 1), padding=(1, 0, 1)), 2, 2, 4, 5, 7),
        exact=True,
        form=POINTWISE,
    ),
    Trap(
        "space-alone",
        "batch-order",
        one(c3(2, 5, (1, 3, 2), padding=(0, 1, 0)), 3, 2, 4, 5, 7),
        exact=True,
        operators=("conv2d",),
        form=BATCH,
    ),
    Trap(
        "space-strided",
        "skipped-slice",
        one(c3(4, 6, (1, 3, 2), stride=(2, 1, 1), groups=2), 3, 4, 5, 5, 7),
        exact=True,
        form=BATCH,
    ),
    Trap(
        "space-padded-frames",
        "border",
        one(c3(2, 5, (1, 3, 2), padding=(1, 1, 0)), 3, 2, 4, 5, 7),
        exact=True,
        form=BATCH,
    ),
    Trap(
        "branches-as-one",
        "consumers",
        flow(
            lambda m, t: torch.cat([m.a(t), m.b(t).relu()], 1),
            (2, 2, 4, 5, 7),
            a=c3(2, 3, (1, 3, 3)),
            b=c3(2, 4, (1, 3, 3)),
        ),
        exact=True,
        operators=("conv3d", "relu", "cat"),
        form=TOGETHER,
    ),
    Trap(
        "branches-of-other-strides",
        "consumers",
        flow(
            lambda m, t: (m.a(t), m.b(t)),
            (2, 2, 4, 5, 7),
            a=c3(2, 3, (1, 3, 3)),
            b=c3(2, 3, (1, 3, 3), stride=(1, 1, 2)),
        ),
        exact=True,
        form=TOGETHER,
    ),
    Trap(
        "branches-that-are-outputs",
        "output",
        flow(lambda m, t: (m.a(t), m.b(t)), (2, 2, 4, 5, 7), a=c3(2, 3, (1, 3, 3)), b=c3(2, 3, (1, 3, 3))),
        exact=True,
        operators=("conv3d",),
        form=TOGETHER,
    ),
)
