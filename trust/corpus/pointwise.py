"""Elementwise operators, and what becomes of zero in them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trust.corpus.parts import DEEP, SAME, around, onto
from trust.trap import Trap, c3, flow

ALL = (
    Trap(
        "shift-by-depth",
        "statistics",
        onto(lambda s, t: t.expand(-1, -1, 3, -1, -1) + s.shift, DEEP, shift=nn.Parameter(torch.ones(3, 1, 1))),
        exact=True,
    ),
    Trap("sigmoid", "zero-lost", onto(lambda s, t: torch.sigmoid(around(t, 1, 1)), DEEP)),
    Trap("sigmoid-kept", "zero-lost", onto(lambda s, t: torch.cos(around(t, 1, 0)), SAME)),
    Trap("silu", "zero-lost", onto(lambda s, t: F.silu(around(t, 1, 1)), DEEP), operators=("silu", "conv2d")),
    Trap("plus-constant", "zero-lost", onto(lambda s, t: around(t, 1, 1) + 0.5, DEEP), exact=True),
    Trap(
        "plus-other",
        "zero-lost",
        flow(lambda s, a, b: s.second(around(a, 1, 1) + b), (2, 4, 1, 5, 7), (2, 4, 3, 5, 7), second=DEEP),
        exact=True,
    ),
    Trap(
        "minus-scale",
        "zero-lost",
        onto(lambda s, t: around(t, 1, 1) - s.shift.view(1, -1, 1, 1, 1), DEEP, shift=nn.Parameter(torch.ones(4))),
        exact=True,
    ),
    Trap(
        "times-scale",
        "zero-lost",
        onto(lambda s, t: around(t, 1, 1) * s.scale.view(1, -1, 1, 1, 1), DEEP, scale=nn.Parameter(torch.ones(4))),
        exact=True,
    ),
    Trap(
        "linear-bias", "zero-lost", onto(lambda s, t: s.line(around(t, 1, 1)), DEEP, line=nn.Linear(7, 6)), exact=True
    ),
    Trap(
        "nearly-zero-slices",
        "small-and-large",
        flow(
            lambda s, t: s.second(torch.cat([torch.full_like(t, 2.0**-23), t], 2)),
            (2, 4, 1, 5, 7),
            second=c3(4, 3, (2, 1, 2)),
        ),
        exact=True,
    ),
    Trap("prelu", "zero-lost", onto(lambda s, t: s.act(around(t, 1, 1)), DEEP, act=nn.PReLU(4)), exact=True),
    Trap(
        "masked-fill",
        "zero-lost",
        onto(lambda s, t: around(t, 1, 1).masked_fill(around(t, 1, 1) < 1, 2.0), DEEP),
        exact=True,
    ),
    Trap(
        "maximum-of-shifted",
        "zero-lost",
        onto(lambda s, t: torch.maximum(around(t, 1, 0), around(t, 0, 1)), c3(4, 3, (2, 1, 2))),
        exact=True,
    ),
)
