"""Pads, joins, repeats and choices of slices."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from trust.corpus.parts import DEEP, around, between, onto
from trust.trap import Trap, c3, flow

ALL = (
    Trap(
        "slice-by-two-beside-the-first",
        "border",
        onto(lambda s, t: torch.cat([t[:, :, ::2], t[:, :, :2]], 2), c3(4, 3, (4, 1, 2)), (2, 4, 3, 5, 7)),
        exact=True,
    ),
    Trap(
        "circular-around-zero",
        "padding-mode",
        onto(lambda s, t: F.pad(around(t, 1, 0), (0, 0, 0, 0, 1, 1), mode="circular"), c3(4, 3, (4, 1, 2))),
        exact=True,
    ),
    Trap(
        "slice-between-negative-ends",
        "border",
        onto(lambda s, t: around(t, 1, 2)[:, :, -4:-2], c3(4, 3, (2, 1, 2))),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "pad-constant-on-two-axes",
        "zero-lost",
        onto(lambda s, t: F.pad(around(t, 1, 0), (1, 1, 0, 0, 0, 1), value=0.5), c3(4, 3, (3, 1, 2))),
        exact=True,
    ),
    Trap(
        "pad-on-the-side",
        "padding-mode",
        between(lambda s, t: F.pad(t, (1, 2, 0, 1, 0, 0), value=0.25), c3(4, 3, (1, 2, 3), padding=(0, 1, 0))),
        exact=True,
    ),
    Trap(
        "pad-constant-zero-slice",
        "zero-lost",
        onto(lambda s, t: F.pad(around(t, 1, 1), (1, 1), value=0.5), DEEP),
        exact=True,
    ),
    Trap(
        "pad-replicate-around-zero",
        "padding-mode",
        onto(lambda s, t: F.pad(around(t, 1, 0), (0, 0, 0, 0, 1, 2), mode="replicate"), c3(4, 3, (5, 1, 2))),
        exact=True,
    ),
    Trap(
        "pad-reflect-slices",
        "padding-mode",
        onto(lambda s, t: F.pad(t, (0, 0, 0, 0, 2, 2), mode="reflect"), c3(4, 3, (5, 1, 2)), (2, 4, 3, 5, 7)),
        exact=True,
    ),
    Trap(
        "pad-reflect-merged",
        "padding-mode",
        onto(lambda s, t: F.pad(t, (0, 0, 0, 0, 1, 1), mode="reflect"), c3(4, 3, (4, 1, 2)), (2, 4, 2, 5, 7)),
        exact=True,
    ),
    Trap(
        "shifted-copy",
        "border",
        onto(lambda s, t: torch.cat([t, F.pad(t, (1, -1, 0, 0, 1, 0))], 2), c3(4, 3, (3, 1, 2))),
        exact=True,
    ),
    Trap(
        "shifted-constant",
        "border",
        onto(lambda s, t: torch.cat([t, F.pad(t, (0, 0, 0, 0, 1, 1), value=1.0)], 2), c3(4, 3, (4, 1, 2))),
        exact=True,
    ),
    Trap(
        "cat-by-height",
        "height-width",
        between(lambda s, t: torch.cat([t, t * 2], 3), c3(4, 3, (1, 2, 3)), (2, 2, 1, 7, 7)),
        exact=True,
        operators=("conv2d", "mul", "cat", "conv2d"),
    ),
    Trap(
        "cat-channels-zero",
        "zero-lost",
        flow(
            lambda s, a, b: s.second(torch.cat([around(a, 1, 1), b], 1)), (2, 1, 1, 5, 7), (2, 3, 3, 5, 7), second=DEEP
        ),
        exact=True,
    ),
    Trap(
        "cat-order",
        "border",
        onto(
            lambda s, t: torch.cat([torch.zeros_like(t[:, :, :1]), t], 2)[:, :, :2],
            c3(4, 3, (2, 1, 2)),
            (2, 4, 2, 5, 7),
        ),
        exact=True,
    ),
    Trap(
        "stack-of-three",
        "consumers",
        flow(
            lambda s, a, b: s.second(torch.stack([a, a, b], 2)), (2, 4, 5, 7), (2, 4, 5, 7), second=c3(4, 3, (3, 1, 2))
        ),
        exact=True,
    ),
    Trap(
        "stack-of-one",
        "consumers",
        flow(lambda s, a: s.second(torch.stack([a, a], 2)), (2, 4, 5, 7), second=c3(4, 3, (2, 1, 2))),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "repeat-pattern",
        "border",
        onto(lambda s, t: t.repeat(1, 1, 2, 1, 1), c3(4, 3, (4, 1, 2)), (2, 4, 2, 5, 7)),
        exact=True,
    ),
    Trap(
        "repeat-zero-pattern",
        "border",
        onto(lambda s, t: around(t, 1, 0).repeat(1, 1, 2, 1, 1), c3(4, 3, (4, 1, 2))),
        exact=True,
    ),
    Trap(
        "slice-from-behind",
        "border",
        onto(lambda s, t: around(t, 2, 1)[:, :, -2:], c3(4, 3, (2, 1, 2))),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "slice-by-two",
        "border",
        onto(lambda s, t: around(t, 1, 1)[:, :, ::2], c3(4, 3, (2, 1, 2)), (2, 4, 2, 5, 7)),
        exact=True,
    ),
    Trap("slice-by-two-kept", "border", between(lambda s, t: t[:, :, :, ::2, 1::3]), exact=True),
    Trap(
        "select-of-zeros",
        "border",
        flow(
            lambda s, t: s.second(around(t, 1, 1).select(2, 1).unsqueeze(2)),
            (2, 4, 1, 5, 7),
            second=c3(4, 3, (1, 2, 2)),
        ),
        exact=True,
    ),
    Trap(
        "select-behind",
        "border",
        flow(
            lambda s, t: around(s.first(t), 2, 0)[:, :, -1],
            (2, 4, 1, 5, 7),
            first=c3(4, 3, (3, 1, 2), padding=(1, 0, 0)),
        ),
        exact=True,
    ),
    Trap(
        "select-zero-and-more",
        "border",
        flow(
            lambda s, t: s.second(torch.stack([around(t, 1, 1)[:, :, 0], t[:, :, 0]], 2)),
            (2, 4, 1, 5, 7),
            second=c3(4, 3, (2, 2, 2)),
        ),
        exact=True,
    ),
    Trap("flip", "border", onto(lambda s, t: around(t, 2, 0).flip(2), c3(4, 3, (2, 1, 2))), exact=True),
    Trap("roll", "border", onto(lambda s, t: around(t, 3, 0).roll(1, 2), c3(4, 3, (3, 1, 2))), exact=True),
    Trap(
        "split-unequal",
        "border",
        onto(lambda s, t: around(t, 3, 0).split([1, 2, 1], 2)[2], c3(4, 3, (1, 2, 2))),
        exact=True,
    ),
    Trap(
        "split-last",
        "border",
        onto(lambda s, t: around(t, 3, 1).tensor_split(3, 2)[1], c3(4, 3, (2, 2, 2))),
        exact=True,
    ),
    Trap(
        "unbind",
        "border",
        flow(
            lambda s, t: s.second(torch.stack(around(t, 1, 1).unbind(2)[::-1], 2)),
            (2, 4, 2, 5, 7),
            second=c3(4, 3, (3, 2, 2)),
        ),
        exact=True,
    ),
    Trap(
        "index-by-literal",
        "border",
        onto(lambda s, t: around(t, 1, 0)[:, :, torch.tensor([1, 0, -1])], c3(4, 3, (3, 2, 2))),
        exact=True,
    ),
    Trap(
        "zeros-come-back",
        "border",
        flow(lambda s, t: around(s.first(t), 2, 1), (2, 2, 1, 5, 7), first=c3(2, 4, (3, 2, 1), padding=(1, 0, 0))),
        exact=True,
    ),
    Trap(
        "copies-come-back",
        "border",
        flow(lambda s, t: s.first(t.expand(-1, -1, 5, -1, -1)), (2, 2, 1, 5, 7), first=c3(2, 4, (3, 2, 1))),
        exact=True,
    ),
)
