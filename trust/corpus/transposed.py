"""Transposed convolutions."""

from __future__ import annotations

from trust.corpus.parts import after, around
from trust.trap import Trap, c3, flow, one, t3

ALL = (
    Trap("transposed-cut-taps", "transposed", one(t3(2, 3, (4, 2, 1), padding=(1, 0, 0)), 2, 2, 1, 4, 5), exact=True),
    Trap(
        "transposed",
        "transposed",
        one(t3(2, 3, (1, 3, 2), stride=(1, 2, 3)), 2, 2, 1, 4, 5),
        exact=True,
        operators=("conv_transpose2d",),
    ),
    Trap(
        "transposed-centre",
        "transposed",
        one(t3(2, 3, (3, 3, 2), padding=(1, 1, 0)), 2, 2, 1, 4, 5),
        exact=True,
        operators=("conv_transpose2d",),
    ),
    Trap(
        "transposed-one-sided",
        "transposed",
        one(t3(2, 3, (3, 2, 1), stride=(3, 1, 1), padding=(2, 0, 0), output_padding=(2, 0, 0)), 2, 2, 1, 4, 5),
        exact=True,
    ),
    Trap(
        "transposed-output-padding",
        "transposed",
        one(t3(2, 3, (1, 3, 2), stride=(1, 3, 2), output_padding=(0, 2, 1), padding=(0, 1, 0)), 2, 2, 1, 4, 5),
        exact=True,
        operators=("conv_transpose2d",),
    ),
    Trap("transposed-depth-grows", "transposed", one(t3(2, 3, (2, 2, 2), stride=2), 2, 2, 1, 4, 5), exact=True),
    Trap(
        "transposed-two-frames",
        "transposed",
        one(t3(2, 3, (4, 2, 2), stride=2, padding=(1, 0, 0)), 2, 2, 2, 4, 5),
        exact=True,
    ),
    Trap(
        "transposed-interleaved-zeros",
        "transposed",
        flow(
            lambda s, t: s.b(s.a(t)),
            (2, 2, 2, 4, 5),
            a=t3(2, 3, (1, 2, 2), stride=(2, 1, 1), bias=False),
            b=c3(3, 2, (3, 1, 2)),
        ),
        exact=True,
    ),
    Trap(
        "transposed-zeros-around",
        "transposed",
        after(lambda t: around(t, 1, 1), (2, 2, 1, 4, 5), t3(2, 3, (2, 2, 1), stride=(2, 1, 1), padding=(2, 0, 0))),
        exact=True,
    ),
    Trap(
        "transposed-padded-zeros-in-front",
        "transposed",
        after(lambda t: around(t, 1, 0), (2, 2, 2, 4, 5), t3(2, 3, (3, 2, 1), padding=(1, 0, 0))),
        exact=True,
    ),
    Trap(
        "transposed-groups",
        "groups",
        one(t3(4, 6, (3, 2, 3), padding=(1, 0, 1), groups=2), 2, 4, 1, 4, 5),
        exact=True,
        operators=("conv_transpose2d",),
    ),
    Trap("transposed-matrix", "transposed", one(t3(4, 4, 1), 2, 4, 1, 1, 1), exact=True),
    Trap(
        "transposed-dilated",
        "transposed",
        one(t3(2, 3, (3, 3, 2), dilation=(2, 1, 3), padding=(2, 0, 1)), 2, 2, 1, 4, 5),
        exact=True,
        operators=("conv_transpose2d",),
    ),
    Trap(
        "transposed-equal-slices",
        "transposed",
        after(lambda t: t.expand(-1, -1, 3, -1, -1), (2, 2, 1, 4, 5), t3(2, 3, (3, 2, 1), padding=(1, 0, 0))),
        exact=True,
    ),
)
