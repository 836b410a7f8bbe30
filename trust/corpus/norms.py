"""Norms and dropout."""

from __future__ import annotations

import torch
from torch import nn

from trust.corpus.parts import DEEP, SAME, around, between, onto
from trust.trap import Trap, c3, flow

ALL = (
    Trap(
        "group-norm-of-clips-that-share-a-frame",
        "statistics",
        flow(
            lambda s, a, b, c: s.second(
                torch.cat([s.norm(torch.cat([a, b], 2))[:, :, :1], s.norm(torch.cat([a, c], 2))[:, :, :1]], 2)
            ),
            (2, 4, 1, 5, 7),
            (2, 4, 1, 5, 7),
            (2, 4, 1, 5, 7),
            second=c3(4, 3, (2, 1, 2)),
            norm=nn.GroupNorm(2, 4, affine=False),
        ),
    ),
    Trap(
        "batch-norm-of-clips-that-share-a-frame",
        "train-mode",
        flow(
            lambda s, a, b, c: s.second(
                torch.cat([s.norm(torch.cat([a, b], 2))[:, :, :1], s.norm(torch.cat([a, c], 2))[:, :, :1]], 2)
            ),
            (2, 4, 1, 5, 7),
            (2, 4, 1, 5, 7),
            (2, 4, 1, 5, 7),
            second=c3(4, 3, (2, 1, 2)),
            norm=nn.BatchNorm3d(4, affine=False, track_running_stats=False),
        ),
    ),
    Trap("batch-norm", "zero-lost", between(lambda s, t: s.norm(t), norm=nn.BatchNorm3d(4, eps=0.125))),
    Trap("batch-norm-shift", "zero-lost", onto(lambda s, t: s.norm(around(t, 1, 1)), DEEP, norm=nn.BatchNorm3d(4))),
    Trap(
        "batch-norm-shift-kept",
        "zero-lost",
        onto(lambda s, t: s.norm(around(t, 1, 1)), SAME, norm=nn.BatchNorm3d(4, affine=False)),
    ),
    Trap(
        "batch-norm-in-place",
        "in-place",
        between(lambda s, t: s.norm(t).relu_(), norm=nn.BatchNorm3d(4, eps=0.125)),
        operators=("conv2d", "batch_norm", "relu"),
    ),
    Trap(
        "batch-norm-of-the-batch",
        "train-mode",
        onto(lambda s, t: s.norm(around(t, 1, 1)), DEEP, norm=nn.BatchNorm3d(4, track_running_stats=False)),
    ),
    Trap(
        "batch-norm-train",
        "train-mode",
        between(lambda s, t: s.norm(t), norm=nn.BatchNorm3d(4)),
        expect="refused",
        says="in place",
        train=True,
    ),
    Trap(
        "batch-norm-train-shared",
        "train-mode",
        between(lambda s, t: s.norm(t), norm=nn.BatchNorm3d(4)),
        train=True,
        options={"weights": "shared"},
    ),
    Trap(
        "dropout-of-everything",
        "train-mode",
        between(lambda s, t: s.drop(t), drop=nn.Dropout3d(1.0)),
        expect="refused",
        says="random numbers",
        train=True,
    ),
    Trap(
        "dropout-eval",
        "train-mode",
        between(lambda s, t: s.drop(t), drop=nn.Dropout3d(0.5)),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "group-norm",
        "statistics",
        between(lambda s, t: s.norm(t), norm=nn.GroupNorm(2, 4)),
        operators=("conv2d", "group_norm"),
    ),
    Trap(
        "group-norm-zero-slices",
        "statistics",
        onto(lambda s, t: s.norm(around(t, 1, 1)), DEEP, norm=nn.GroupNorm(2, 4)),
    ),
    Trap(
        "group-norm-causal",
        "statistics",
        onto(
            lambda s, t: s.norm(around(s.first(t), 2, 0)),
            DEEP,
            (2, 2, 1, 5, 7),
            first=c3(2, 4, (3, 2, 1), padding=(1, 0, 0)),
            norm=nn.GroupNorm(2, 4),
        ),
    ),
    Trap(
        "group-norm-equal-slices",
        "statistics",
        onto(lambda s, t: s.norm(t.expand(-1, -1, 3, -1, -1)), DEEP, norm=nn.GroupNorm(2, 4)),
        operators=("group_norm", "conv2d"),
    ),
    Trap(
        "group-norm-of-two-clips",
        "statistics",
        flow(
            lambda s, a, b: s.second(torch.cat([s.norm(a), s.norm(torch.cat([a[:, :, :1], b], 2))], 2)),
            (2, 4, 2, 5, 7),
            (2, 4, 1, 5, 7),
            second=c3(4, 3, (4, 1, 2)),
            norm=nn.GroupNorm(2, 4, affine=False),
        ),
    ),
    Trap(
        "instance-norm",
        "statistics",
        onto(lambda s, t: s.norm(around(t, 1, 0)), c3(4, 3, (2, 1, 2)), norm=nn.InstanceNorm3d(4, affine=True)),
    ),
    Trap("instance-norm-flat", "statistics", between(lambda s, t: s.norm(t), norm=nn.InstanceNorm3d(4))),
    Trap(
        "layer-norm-depth",
        "statistics",
        onto(lambda s, t: s.norm(t.expand(-1, -1, 3, -1, -1)), DEEP, norm=nn.LayerNorm((3, 5, 7))),
    ),
    Trap("layer-norm-last", "statistics", between(lambda s, t: s.norm(t), norm=nn.LayerNorm(6))),
    Trap(
        "layer-norm-channels",
        "statistics",
        between(lambda s, t: s.norm(t.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3), SAME, norm=nn.LayerNorm(4)),
    ),
)
