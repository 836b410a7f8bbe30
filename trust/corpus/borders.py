"""What stands at the ends of the axis: causal and copying pads, repeats, crops."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from trust.corpus.parts import after, around, pads
from trust.trap import Trap, c3, flow, one

ALL = (
    Trap("causal", "field:causal", pads((1, 1, 1, 1, 2, 0), kernel_size=3), exact=True, operators=("conv2d",)),
    Trap(
        "causal-no-bias",
        "field:causal",
        pads((1, 1, 1, 1, 2, 0), kernel_size=3, bias=False),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "causal-two-frames",
        "field:causal",
        after(lambda t: around(t, 2, 0), (2, 2, 2, 5, 7), c3(2, 3, (3, 1, 1))),
        exact=True,
        operators=("constant_pad_nd", "conv2d"),
    ),
    Trap(
        "causal-cache",
        "field:causal",
        flow(lambda s, t, old: s.conv(torch.cat([old, t], 2)), (2, 2, 1, 5, 7), (2, 2, 2, 5, 7), conv=c3(2, 3, 3)),
        exact=True,
        operators=("cat", "conv3d"),
    ),
    Trap(
        "causal-cat-zeros",
        "field:causal",
        flow(
            lambda s, t: s.conv(torch.cat([torch.zeros_like(t), torch.zeros_like(t), t], 2)),
            (2, 2, 1, 5, 7),
            conv=c3(2, 3, 3),
        ),
        exact=True,
    ),
    Trap(
        "causal-dilated",
        "field:causal",
        pads((0, 0, 0, 0, 4, 0), kernel_size=(3, 2, 1), dilation=(2, 1, 1)),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "causal-twice",
        "field:causal",
        flow(
            lambda s, t: s.b(around(s.a(around(t, 2, 0)), 2, 0)),
            (2, 2, 1, 5, 7),
            a=c3(2, 3, (3, 2, 1)),
            b=c3(3, 2, (3, 1, 2)),
        ),
        exact=True,
        operators=("conv2d", "conv2d"),
    ),
    Trap(
        "anti-causal",
        "field:causal",
        pads((0, 0, 0, 0, 0, 2), kernel_size=(3, 2, 1)),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "reflect-and-zeros",
        "field:reflect",
        flow(
            lambda s, t: s.conv(around(F.pad(t, (1, 1, 2, 1, 0, 0), mode="reflect"), 2, 0)),
            (2, 2, 1, 5, 7),
            conv=c3(2, 3, 3),
        ),
        exact=True,
        operators=("pad", "conv2d"),
    ),
    Trap(
        "strided-causal",
        "field:strided-causal",
        pads((0, 1, 0, 1, 2, 0), kernel_size=3, stride=(2, 2, 2)),
        exact=True,
        operators=("constant_pad_nd", "conv2d"),
    ),
    Trap(
        "strided-causal-three",
        "field:strided-causal",
        after(lambda t: around(t, 2, 0), (2, 2, 3, 5, 7), c3(2, 3, (3, 1, 1), stride=(2, 1, 1))),
        exact=True,
    ),
    Trap(
        "replicate-front",
        "field:replicate",
        flow(
            lambda s, t: s.conv(F.pad(t, (0, 0, 0, 0, 2, 0), mode="replicate")),
            (2, 2, 1, 5, 7),
            conv=c3(2, 3, (3, 2, 1)),
        ),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "replicate-both",
        "field:replicate",
        one(c3(2, 3, 3, padding=1, padding_mode="replicate"), 2, 2, 1, 5, 7),
        exact=True,
    ),
    Trap(
        "replicate-two",
        "field:replicate",
        flow(
            lambda s, t: s.conv(F.pad(t, (0, 0, 0, 0, 2, 1), mode="replicate")),
            (2, 2, 2, 5, 7),
            conv=c3(2, 3, (4, 2, 1)),
        ),
        exact=True,
    ),
    Trap(
        "first-frame-in-front",
        "field:replicate",
        flow(
            lambda s, t: s.conv(torch.cat([t[:, :, :1], t[:, :, :1], t], 2)), (2, 2, 2, 5, 7), conv=c3(2, 3, (3, 2, 1))
        ),
        exact=True,
    ),
    Trap(
        "symmetric",
        "field:symmetric",
        one(c3(2, 3, (5, 2, 1), padding=(2, 0, 0)), 2, 2, 1, 5, 7),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "tiled",
        "field:tiled",
        after(lambda t: t.repeat(1, 1, 2, 1, 1), (3, 2, 1, 5, 7), c3(2, 3, (2, 3, 2), stride=(2, 3, 2))),
        exact=True,
        operators=("reshape", "permute", "linear", "permute"),
    ),
    Trap(
        "tiled-by-expand",
        "field:tiled",
        after(lambda t: t.unsqueeze(2).expand(-1, -1, 3, -1, -1), (2, 2, 5, 7), c3(2, 3, (3, 2, 1))),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "equal-slices-zero-border",
        "border",
        after(lambda t: t.expand(-1, -1, 3, -1, -1), (2, 2, 1, 5, 7), c3(2, 3, (3, 1, 2), padding=(1, 0, 0))),
        exact=True,
    ),
    Trap(
        "equal-slices-zero-border-long",
        "border",
        after(lambda t: t.expand(-1, -1, 5, -1, -1), (2, 2, 1, 5, 7), c3(2, 3, (5, 1, 2), padding=(2, 0, 0))),
        exact=True,
    ),
    Trap(
        "equal-slices-zero-front",
        "border",
        after(lambda t: around(t.expand(-1, -1, 2, -1, -1), 2, 0), (2, 2, 1, 5, 7), c3(2, 3, (3, 1, 2))),
        exact=True,
    ),
    Trap(
        "equal-slices-strided",
        "border",
        after(
            lambda t: t.expand(-1, -1, 4, -1, -1),
            (2, 2, 1, 5, 7),
            c3(2, 3, (3, 1, 2), stride=(2, 1, 1), padding=(1, 0, 0)),
        ),
        exact=True,
    ),
    Trap(
        "equal-slices-one-output",
        "border",
        after(lambda t: t.expand(-1, -1, 4, -1, -1), (2, 2, 1, 5, 7), c3(2, 3, (2, 1, 2))),
        exact=True,
    ),
    Trap(
        "circular-of-two",
        "border",
        flow(
            lambda s, t: s.conv(F.pad(t, (0, 0, 0, 0, 1, 1), mode="circular")),
            (2, 2, 2, 5, 7),
            conv=c3(2, 3, (4, 2, 1)),
        ),
        exact=True,
    ),
)
