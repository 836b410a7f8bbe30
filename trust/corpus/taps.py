"""Which taps meet data: fewer slices than taps, strides and dilations that skip, bias where nothing is read."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from trust.corpus.parts import after, around, pads
from trust.trap import Trap, c3, flow, one

ALL = (
    Trap(
        "two-under-three", "few-slices", one(c3(2, 3, 3, padding=1), 2, 2, 2, 5, 7), exact=True, operators=("conv3d",)
    ),
    Trap("two-under-five", "few-slices", one(c3(2, 3, (5, 1, 1), padding=(2, 0, 0)), 2, 2, 2, 5, 7), exact=True),
    Trap("three-under-seven", "few-slices", one(c3(2, 3, (7, 1, 1), padding=(3, 0, 0)), 2, 2, 3, 5, 7), exact=True),
    Trap(
        "two-under-five-strided",
        "few-slices",
        one(c3(2, 3, (5, 1, 1), padding=(2, 0, 0), stride=(2, 1, 1)), 2, 2, 2, 5, 7),
        exact=True,
    ),
    Trap(
        "two-under-five-dilated",
        "few-slices",
        one(c3(2, 3, (5, 1, 1), padding=(4, 0, 0), dilation=(2, 1, 1)), 2, 2, 2, 5, 7),
        exact=True,
    ),
    Trap(
        "two-one-sided",
        "few-slices",
        after(lambda t: around(t, 3, 1), (2, 2, 2, 5, 7), c3(2, 3, (4, 1, 1))),
        exact=True,
    ),
    Trap(
        "stride-skips",
        "skipped-slice",
        after(lambda t: around(t, 1, 3), (2, 2, 1, 5, 7), c3(2, 3, (1, 2, 2), stride=(2, 1, 1), bias=False)),
        exact=True,
    ),
    Trap(
        "stride-skips-bias",
        "skipped-slice",
        after(lambda t: around(t, 1, 3), (2, 2, 1, 5, 7), c3(2, 3, (1, 2, 2), stride=(2, 1, 1))),
        exact=True,
    ),
    Trap(
        "stride-picks-behind",
        "skipped-slice",
        one(c3(2, 3, (1, 2, 2), stride=(3, 1, 1), padding=(1, 0, 0), bias=False), 2, 2, 4, 5, 7),
        exact=True,
    ),
    Trap(
        "stride-picks-third",
        "skipped-slice",
        after(lambda t: t[:, :, 1:], (2, 2, 4, 5, 7), c3(2, 3, (2, 2, 2), stride=(3, 1, 1), padding=(1, 0, 0))),
        exact=True,
    ),
    Trap(
        "dilation-skips",
        "skipped-slice",
        one(c3(2, 3, (2, 2, 2), dilation=(2, 1, 1), padding=(1, 0, 0)), 2, 2, 1, 5, 7),
        exact=True,
    ),
    Trap(
        "dilation-one-meets",
        "skipped-slice",
        one(c3(2, 3, (3, 2, 2), dilation=(3, 1, 1), padding=(3, 0, 0)), 2, 2, 1, 5, 7),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "dilation-meets-late",
        "skipped-slice",
        after(lambda t: around(t, 5, 0), (2, 2, 1, 5, 7), c3(2, 3, (3, 2, 2), dilation=(2, 1, 1))),
        exact=True,
    ),
    Trap(
        "bias-where-nothing-is-read",
        "zero-lost",
        one(c3(2, 3, (1, 2, 1), padding=(1, 0, 0)), 2, 2, 1, 5, 7),
        exact=True,
    ),
    Trap(
        "bias-then-conv",
        "zero-lost",
        flow(
            lambda s, t: s.b(s.a(t)), (2, 2, 1, 5, 7), a=c3(2, 3, (1, 2, 1), padding=(1, 0, 0)), b=c3(3, 2, (3, 1, 2))
        ),
        exact=True,
    ),
    Trap(
        "no-bias-then-conv",
        "zero-lost",
        flow(
            lambda s, t: s.b(s.a(t)),
            (2, 2, 1, 5, 7),
            a=c3(2, 3, (1, 2, 1), padding=(1, 0, 0), bias=False),
            b=c3(3, 2, (3, 1, 2)),
        ),
        exact=True,
        operators=("conv2d", "conv2d"),
    ),
    Trap(
        "uneven-live-taps",
        "skipped-slice",
        after(
            lambda t: torch.cat([t[:, :, :2], torch.zeros_like(t[:, :, :1]), t[:, :, 2:]], 2),
            (2, 2, 3, 5, 7),
            c3(2, 3, (4, 1, 2)),
        ),
        exact=True,
    ),
    Trap(
        "even-live-taps",
        "skipped-slice",
        after(
            lambda t: torch.cat([t[:, :, :1], torch.zeros_like(t[:, :, :1]), t[:, :, 1:]], 2),
            (2, 2, 2, 5, 7),
            c3(2, 3, (3, 1, 2)),
        ),
        exact=True,
    ),
    Trap(
        "crop-under-padding",
        "border",
        after(lambda t: F.pad(t, (-1, 0, 0, -1, 0, 0)), (2, 2, 1, 6, 8), c3(2, 3, (3, 3, 3), padding=1)),
        exact=True,
    ),
    Trap(
        "crop-and-pad-depth",
        "border",
        after(lambda t: F.pad(t, (0, 0, 0, 0, -1, 2)), (2, 2, 3, 4, 5), c3(2, 3, (3, 1, 2), padding=(1, 0, 0))),
        exact=True,
    ),
    Trap("asymmetric-pads", "border", pads((2, 0, 0, 1, 0, 0), kernel_size=(1, 3, 3), padding=(0, 1, 0)), exact=True),
    Trap("front-heavy", "border", after(lambda t: around(t, 3, 1), (2, 2, 3, 4, 5), c3(2, 3, (3, 1, 2))), exact=True),
)
