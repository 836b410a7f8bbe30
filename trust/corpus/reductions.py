"""Reductions, softmax, scans, upsampling, matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trust.corpus.parts import DEEP, around, between, onto
from trust.trap import Trap, c3, flow

ALL = (
    Trap(
        "matmul-over-padded-columns",
        "flatten",
        onto(
            lambda s, t: torch.matmul(F.pad(t, (1, 1)), s.m),
            c3(4, 3, (1, 3, 2)),
            (2, 4, 1, 3, 1),
            m=nn.Parameter(torch.ones(3, 3)),
        ),
        exact=True,
    ),
    Trap("sum-over-height", "height-width", between(lambda s, t: t.sum(3)), exact=True),
    Trap(
        "sum-then-conv",
        "height-width",
        onto(lambda s, t: around(t, 1, 1).sum(1).unsqueeze(1), c3(1, 3, (3, 2, 2))),
        exact=True,
    ),
    Trap("mean-keepdim", "height-width", between(lambda s, t: t - t.mean((2, 3), keepdim=True))),
    Trap("amax-over-width", "height-width", between(lambda s, t: t.amax(-1, keepdim=True)), exact=True),
    Trap(
        "logsumexp-of-zeros",
        "zero-lost",
        onto(lambda s, t: around(t, 1, 1).logsumexp(1, keepdim=True), c3(1, 3, (3, 2, 2))),
    ),
    Trap("softmax-over-channels", "zero-lost", onto(lambda s, t: around(t, 1, 1).softmax(1), DEEP)),
    Trap("softmax-over-height", "height-width", between(lambda s, t: t.softmax(3), shape=(2, 2, 1, 6, 6))),
    Trap("cumsum-over-depth", "statistics", onto(lambda s, t: t.expand(-1, -1, 3, -1, -1).cumsum(2), DEEP), exact=True),
    Trap("cumsum-over-height", "height-width", between(lambda s, t: t.cumsum(-2), shape=(2, 2, 1, 6, 6)), exact=True),
    Trap(
        "upsample-nearest",
        "align-corners",
        onto(lambda s, t: F.interpolate(t, scale_factor=(2, 1, 1)), c3(4, 3, (4, 1, 2)), (2, 4, 2, 5, 7)),
        exact=True,
    ),
    Trap(
        "upsample-nearest-zero",
        "align-corners",
        onto(lambda s, t: F.interpolate(around(t, 1, 0), scale_factor=(2, 1, 1)), c3(4, 3, (4, 1, 2))),
        exact=True,
    ),
    Trap(
        "upsample-by-axis",
        "height-width",
        between(lambda s, t: F.interpolate(t, scale_factor=(1, 2, 3))),
        exact=True,
        operators=("conv2d", "upsample_nearest2d"),
    ),
    Trap(
        "trilinear-corners",
        "align-corners",
        between(lambda s, t: F.interpolate(t, size=(1, 6, 9), mode="trilinear", align_corners=True)),
        operators=("conv2d", "upsample_bilinear2d"),
    ),
    Trap(
        "trilinear-edges",
        "align-corners",
        between(lambda s, t: F.interpolate(t, size=(1, 6, 9), mode="trilinear", align_corners=False)),
        operators=("conv2d", "upsample_bilinear2d"),
    ),
    Trap(
        "trilinear-depth",
        "align-corners",
        onto(
            lambda s, t: F.interpolate(t, scale_factor=(2, 1, 1), mode="trilinear"),
            c3(4, 3, (4, 1, 2)),
            (2, 4, 2, 5, 7),
        ),
    ),
    Trap(
        "trilinear-depth-corners",
        "align-corners",
        onto(
            lambda s, t: F.interpolate(around(t, 1, 1), size=(5, 4, 6), mode="trilinear", align_corners=True),
            c3(4, 3, (5, 1, 2)),
        ),
    ),
    Trap(
        "trilinear-equal-slices",
        "align-corners",
        onto(lambda s, t: F.interpolate(t, size=(3, 4, 6), mode="trilinear", align_corners=True), c3(4, 3, (3, 1, 2))),
    ),
    Trap(
        "matmul-rows",
        "flatten",
        flow(
            lambda s, t: torch.matmul(around(t, 1, 1).transpose(2, 3), s.m),
            (2, 4, 3, 5, 5),
            m=nn.Parameter(torch.ones(5, 5)),
        ),
        exact=True,
    ),
    Trap(
        "matmul-padded",
        "flatten",
        flow(
            lambda s, t: s.second(torch.matmul(F.pad(t, (0, 0, 1, 1)), s.m)),
            (2, 4, 1, 1, 3),
            m=nn.Parameter(torch.ones(3, 3)),
            second=c3(4, 3, (1, 3, 2)),
        ),
        exact=True,
    ),
    Trap(
        "attention-over-pixels",
        "flatten",
        between(lambda s, t: F.scaled_dot_product_attention(*(t.flatten(2).transpose(1, 2),) * 3)),
    ),
)
