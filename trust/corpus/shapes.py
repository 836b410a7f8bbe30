"""Views, permutations, the order of batch and depth, what is flattened in front of a linear layer."""

from __future__ import annotations

import torch
from torch import nn

from trust.corpus.parts import around, between, onto
from trust.trap import Trap, c3, flow

ALL = (
    Trap(
        "split-alternating-frames",
        "batch-order",
        flow(
            lambda s, t: s.second(
                torch.cat([torch.zeros_like(t[:, :, :1]), t[:, :, :1], torch.zeros_like(t[:, :, :1]), t[:, :, 1:]], 2)
                .unflatten(2, (2, 2))
                .sum(3)
            ),
            (2, 4, 2, 5, 7),
            second=c3(4, 3, (2, 1, 2)),
        ),
        exact=True,
    ),
    Trap(
        "depth-into-batch",
        "batch-order",
        flow(
            lambda s, t: s.second(around(t, 1, 0).transpose(1, 2).reshape(4, 4, 1, 5, 7)),
            (2, 4, 1, 5, 7),
            second=c3(4, 3, (1, 2, 3)),
        ),
        exact=True,
    ),
    Trap(
        "depth-into-batch-and-back",
        "batch-order",
        between(
            lambda s, t: s.flat(t.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 1)).transpose(1, 2),
            flat=nn.Conv2d(4, 3, (2, 3)),
        ),
        exact=True,
    ),
    Trap(
        "batch-slices-known",
        "batch-order",
        flow(
            lambda s, t: s.second(
                around(t.expand(3, -1, -1, -1, -1), 1, 0)
                .transpose(1, 2)
                .flatten(0, 1)
                .unflatten(0, (3, 2))
                .transpose(1, 2)
            ),
            (1, 4, 1, 5, 7),
            second=c3(4, 3, (2, 1, 2)),
        ),
        exact=True,
    ),
    Trap(
        "zero-frames-in-the-batch",
        "batch-order",
        flow(
            lambda s, t: s.second(around(t, 1, 0).transpose(1, 2).reshape(1, 6, 4, 5, 7).transpose(1, 2)),
            (3, 4, 1, 5, 7),
            second=c3(4, 3, (6, 1, 2)),
        ),
        exact=True,
    ),
    Trap(
        "merged-equal-frames",
        "batch-order",
        flow(
            lambda s, t: s.second(
                t.transpose(1, 2).unsqueeze(2).expand(-1, -1, 2, -1, -1, -1).reshape(2, 6, 4, 5, 7).transpose(1, 2)
            ),
            (2, 4, 3, 5, 7),
            second=c3(4, 3, (6, 1, 2)),
        ),
        exact=True,
    ),
    Trap(
        "merged-frames-in-order",
        "batch-order",
        flow(
            lambda s, t: s.second(torch.stack([t, torch.zeros_like(t)], 3).reshape(2, 4, 6, 5, 7)),
            (2, 4, 3, 5, 7),
            second=c3(4, 3, (5, 1, 2)),
        ),
        exact=True,
    ),
    Trap(
        "split-frames",
        "batch-order",
        flow(
            lambda s, t: s.second(around(t, 2, 0).unflatten(2, (2, 2)).sum(3)),
            (2, 4, 2, 5, 7),
            second=c3(4, 3, (2, 1, 2)),
        ),
        exact=True,
    ),
    Trap(
        "flatten-linear",
        "flatten",
        between(lambda s, t: s.head(t.flatten(1)), head=nn.Linear(4 * 4 * 6, 5)),
        exact=True,
        operators=("conv2d", "reshape", "linear"),
    ),
    Trap(
        "flatten-channels-last",
        "flatten",
        between(lambda s, t: s.head(t.permute(0, 3, 4, 2, 1).flatten(1)), head=nn.Linear(4 * 4 * 6, 5)),
        exact=True,
    ),
    Trap(
        "flatten-equal-slices",
        "flatten",
        flow(
            lambda s, t: s.head(s.first(t.expand(-1, -1, 4, -1, -1)).flatten(1)),
            (2, 2, 1, 5, 7),
            first=c3(2, 3, (3, 2, 2)),
            head=nn.Linear(3 * 2 * 4 * 6, 5),
        ),
        exact=True,
    ),
    Trap("permute-cycle", "height-width", between(lambda s, t: t.permute(0, 3, 4, 2, 1)), exact=True),
    Trap(
        "permute-cycle-around",
        "height-width",
        onto(lambda s, t: around(t, 1, 1).permute(0, 4, 1, 2, 3), c3(7, 3, (2, 3, 2))),
        exact=True,
    ),
    Trap(
        "transpose-square",
        "height-width",
        between(lambda s, t: t.transpose(3, 4), c3(4, 3, (3, 3, 1), padding=(1, 0, 0)), (2, 2, 1, 6, 6)),
        exact=True,
    ),
    Trap("movedim", "height-width", between(lambda s, t: t.movedim(1, -1)), exact=True),
)
