"""How one convolution may be spelled: overloads, padding modes, groups, strides, patches."""

from __future__ import annotations

from trust.corpus.parts import pads
from trust.trap import Trap, c3, flow, one

ALL = (
    Trap(
        "same", "padding-overload", one(c3(2, 3, 3, padding="same"), 2, 2, 1, 5, 7), exact=True, operators=("conv2d",)
    ),
    Trap(
        "valid-word",
        "padding-overload",
        one(c3(2, 3, (1, 3, 2), padding="valid"), 2, 2, 1, 5, 7),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "same-even",
        "same-even",
        one(c3(2, 3, (2, 3, 3), padding="same"), 2, 2, 1, 5, 7),
        exact=True,
        operators=("conv2d",),
    ),
    Trap("same-even-wide", "same-even", one(c3(2, 3, (4, 2, 4), padding="same"), 2, 2, 1, 5, 7), exact=True),
    Trap("same-even-two", "same-even", one(c3(2, 3, (4, 3, 1), padding="same"), 2, 2, 2, 5, 7), exact=True),
    Trap(
        "same-dilated",
        "same-dilation",
        one(c3(2, 3, 3, padding="same", dilation=(2, 2, 1)), 2, 2, 1, 6, 7),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "same-dilated-five",
        "same-dilation",
        one(c3(2, 3, (5, 1, 1), padding="same", dilation=(2, 1, 1)), 2, 2, 3, 6, 7),
        exact=True,
    ),
    Trap(
        "same-even-dilated",
        "same-dilation",
        one(c3(2, 3, (4, 1, 3), padding="same", dilation=(3, 1, 2)), 2, 2, 1, 6, 7),
        exact=True,
    ),
    Trap("unbatched", "unbatched", one(c3(2, 3, 3, padding=1), 2, 1, 5, 7), exact=True, operators=("conv2d",)),
    Trap("unbatched-same", "unbatched", one(c3(3, 2, (3, 2, 1), padding="same"), 3, 1, 5, 7), exact=True),
    Trap("unbatched-matrix", "unbatched", one(c3(3, 2, (1, 4, 5)), 3, 1, 4, 5), exact=True),
    Trap(
        "unbatched-equal-channels",
        "unbatched",
        flow(
            lambda s, t: s.b(s.a(t.expand(2, -1, -1, -1)).transpose(0, 1)),
            (1, 1, 5, 7),
            a=c3(2, 3, (1, 2, 2)),
            b=c3(1, 2, (3, 1, 2)),
        ),
        exact=True,
    ),
    Trap("circular", "padding-mode", one(c3(2, 3, 3, padding=1, padding_mode="circular"), 2, 2, 1, 5, 7), exact=True),
    Trap(
        "reflect",
        "padding-mode",
        one(c3(2, 3, (1, 3, 3), padding=(0, 1, 2), padding_mode="reflect"), 2, 2, 1, 5, 7),
        exact=True,
        operators=("pad", "conv2d"),
    ),
    Trap(
        "reflect-depth",
        "padding-mode",
        one(c3(2, 3, (3, 1, 1), padding=(2, 0, 0), padding_mode="reflect"), 2, 2, 3, 5, 7),
        exact=True,
    ),
    Trap(
        "circular-depth",
        "padding-mode",
        one(c3(2, 3, (3, 1, 1), padding=(1, 0, 0), padding_mode="circular"), 2, 2, 2, 5, 7),
        exact=True,
    ),
    Trap("constant-one", "padding-mode", pads((0, 0, 0, 0, 1, 1), value=1.0, kernel_size=(3, 3, 3)), exact=True),
    Trap(
        "constant-sides",
        "padding-mode",
        pads((1, 2, 0, 1, 0, 0), value=0.5, kernel_size=(1, 3, 3)),
        exact=True,
        operators=("constant_pad_nd", "conv2d"),
    ),
    Trap("groups", "groups", one(c3(4, 6, 3, padding=1, groups=2), 2, 4, 1, 5, 7), exact=True, operators=("conv2d",)),
    Trap(
        "depthwise",
        "groups",
        one(c3(4, 8, (3, 3, 1), padding=(1, 1, 0), groups=4), 2, 4, 1, 5, 7),
        exact=True,
        operators=("conv2d",),
    ),
    Trap("groups-whole-input", "groups", one(c3(4, 4, (1, 5, 7), groups=2), 2, 4, 1, 5, 7), exact=True),
    Trap("depthwise-point", "groups", one(c3(4, 4, (3, 1, 1), padding=(1, 0, 0), groups=4), 2, 4, 1, 1, 1), exact=True),
    Trap(
        "anisotropic",
        "height-width",
        one(c3(2, 3, (3, 1, 3), padding=(1, 0, 1), stride=(1, 2, 1)), 2, 2, 1, 6, 7),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "stride-pad-by-axis",
        "height-width",
        one(c3(2, 3, (1, 2, 3), padding=(0, 1, 2), stride=(1, 3, 2), dilation=(1, 2, 1)), 2, 2, 1, 9, 8),
        exact=True,
        operators=("conv2d",),
    ),
    Trap(
        "square",
        "height-width",
        one(c3(2, 3, (3, 3, 3), padding=(1, 1, 1)), 2, 2, 1, 6, 6),
        exact=True,
        operators=("conv2d",),
    ),
    Trap("flat-height", "height-width", one(c3(2, 3, (3, 3, 2), padding=(1, 1, 0)), 2, 2, 1, 1, 7), exact=True),
    Trap("small-height", "height-width", one(c3(2, 3, (3, 7, 2), padding=(1, 3, 0)), 2, 2, 1, 2, 7), exact=True),
    Trap(
        "stride-remainder",
        "remainder",
        one(c3(2, 3, 3, stride=3, padding=1), 2, 2, 1, 7, 8),
        exact=True,
        operators=("conv2d",),
    ),
    Trap("patches-remainder", "remainder", one(c3(2, 3, (2, 4, 4), stride=(2, 4, 4)), 2, 2, 3, 9, 6), exact=True),
    Trap("patches", "field:patches", one(c3(3, 5, (2, 4, 3), stride=(2, 4, 3)), 4, 3, 2, 4, 3), exact=True),
    Trap(
        "patches-flattened",
        "field:patches",
        flow(
            lambda s, t: s.proj(t.view(-1, 3, 2, 4, 3)).view(-1, 5), (6, 72), proj=c3(3, 5, (2, 4, 3), stride=(2, 4, 3))
        ),
        exact=True,
    ),
    Trap(
        "patches-of-one",
        "field:patches",
        flow(lambda s, t: s.proj(t.view(-1, 3, 1, 1, 1)).view(-1, 5), (6, 3), proj=c3(3, 5, 1)),
        exact=True,
        operators=("linear",),
    ),
)
