"""Pools."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from trust.corpus.parts import around, between, onto, zeros
from trust.trap import Trap, c3

ALL = (
    Trap(
        "adaptive-zero-slice",
        "pool-arguments",
        onto(lambda s, t: F.adaptive_avg_pool3d(around(t, 1, 0), (2, 5, 7)), c3(4, 3, (2, 1, 2)), (2, 4, 2, 5, 7)),
        exact=True,
    ),
    Trap(
        "pool-ceil-cut-zeros",
        "pool-arguments",
        onto(
            lambda s, t: F.avg_pool3d(around(t, 5, 0), (3, 1, 1), stride=(3, 1, 1), padding=(1, 0, 0), ceil_mode=True),
            c3(4, 3, (3, 1, 2)),
        ),
    ),
    Trap(
        "pool-default-stride-depth",
        "pool-arguments",
        onto(
            lambda s, t: F.avg_pool3d(torch.cat([t[:, :, :1], zeros(t), zeros(t), t[:, :, 1:]], 2), (2, 1, 1)),
            c3(4, 3, (2, 2, 2)),
            (2, 4, 2, 5, 7),
        ),
        exact=True,
    ),
    Trap(
        "max-pool-dilated-depth",
        "max-pool",
        onto(
            lambda s, t: F.max_pool3d(
                torch.cat([t[:, :, :2], t[:, :, :1], t[:, :, 2:]], 2), (2, 1, 1), stride=1, dilation=(2, 1, 1)
            ),
            c3(4, 3, (2, 2, 2)),
            (2, 4, 3, 5, 7),
        ),
        exact=True,
    ),
    Trap(
        "pool-with-padding-counted",
        "pool-arguments",
        onto(
            lambda s, t: F.avg_pool3d(t.expand(-1, -1, 3, -1, -1), (3, 2, 2), stride=(4, 1, 1), padding=(1, 0, 1)),
            c3(4, 3, (1, 2, 2)),
        ),
    ),
    Trap(
        "pool-without-padding-counted",
        "pool-arguments",
        onto(
            lambda s, t: F.avg_pool3d(
                t.expand(-1, -1, 3, -1, -1), (3, 2, 2), stride=(4, 1, 1), padding=(1, 0, 1), count_include_pad=False
            ),
            c3(4, 3, (1, 2, 2)),
        ),
    ),
    Trap(
        "pool-divisor",
        "pool-arguments",
        between(lambda s, t: F.avg_pool3d(t, (1, 2, 3), stride=(1, 2, 1), divisor_override=5)),
    ),
    Trap(
        "pool-divisor-over-padding",
        "pool-arguments",
        onto(
            lambda s, t: F.avg_pool3d(
                t.expand(-1, -1, 3, -1, -1), (3, 2, 2), stride=(4, 1, 1), padding=(1, 0, 0), divisor_override=7
            ),
            c3(4, 3, (1, 2, 2)),
        ),
    ),
    Trap(
        "pool-ceil",
        "pool-arguments",
        between(lambda s, t: F.avg_pool3d(t, (1, 3, 4), stride=(1, 2, 3), ceil_mode=True)),
    ),
    Trap(
        "pool-ceil-depth",
        "pool-arguments",
        onto(
            lambda s, t: F.avg_pool3d(
                t.expand(-1, -1, 4, -1, -1), (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0), ceil_mode=True
            ),
            c3(4, 3, (2, 1, 2)),
        ),
    ),
    Trap(
        "pool-ceil-cut",
        "pool-arguments",
        onto(
            lambda s, t: F.avg_pool3d(
                t.expand(-1, -1, 3, -1, -1), (3, 1, 1), stride=(3, 1, 1), padding=(1, 0, 0), ceil_mode=True
            ),
            c3(4, 3, (2, 1, 2)),
        ),
    ),
    Trap(
        "pool-equal-slices-padded",
        "pool-arguments",
        onto(
            lambda s, t: F.avg_pool3d(t.expand(-1, -1, 3, -1, -1), (3, 1, 1), stride=1, padding=(1, 0, 0)),
            c3(4, 3, (3, 1, 2)),
        ),
    ),
    Trap(
        "pool-equal-slices-divisor",
        "pool-arguments",
        onto(
            lambda s, t: F.avg_pool3d(
                t.expand(-1, -1, 3, -1, -1), (3, 2, 2), stride=1, padding=(1, 0, 0), divisor_override=4
            ),
            c3(4, 3, (3, 1, 2)),
        ),
    ),
    Trap("pool-default-stride", "pool-arguments", between(lambda s, t: F.avg_pool3d(t, (1, 2, 3)))),
    Trap(
        "max-pool-by-axis",
        "height-width",
        between(lambda s, t: F.max_pool3d(t, (1, 2, 3), stride=(1, 1, 2), padding=(0, 1, 0))),
        exact=True,
        operators=("conv2d", "max_pool2d"),
    ),
    Trap(
        "max-pool-dilated",
        "max-pool",
        between(lambda s, t: F.max_pool3d(t, (3, 2, 2), stride=1, padding=(1, 0, 1), dilation=(1, 2, 1))),
        exact=True,
    ),
    Trap(
        "max-pool-ceil",
        "max-pool",
        between(lambda s, t: F.max_pool3d(t, (1, 2, 3), stride=(1, 3, 3), ceil_mode=True)),
        exact=True,
    ),
    Trap(
        "max-pool-zero-slice",
        "max-pool",
        onto(lambda s, t: F.max_pool3d(around(t, 1, 0), (2, 1, 1)), c3(4, 3, (1, 2, 2))),
        exact=True,
    ),
    Trap(
        "max-pool-zero-slice-kept",
        "max-pool",
        onto(lambda s, t: F.max_pool3d(around(t, 1, 1), (2, 1, 1), stride=1), c3(4, 3, (2, 2, 2))),
        exact=True,
    ),
    Trap(
        "max-pool-only-padding",
        "max-pool",
        onto(lambda s, t: F.max_pool3d(around(t, 2, 2), (3, 1, 1), stride=2, padding=(1, 0, 0)), c3(4, 3, (3, 1, 2))),
        exact=True,
    ),
    Trap(
        "avg-pool-zero-slice",
        "max-pool",
        onto(lambda s, t: F.avg_pool3d(around(t, 1, 0), (2, 1, 1)), c3(4, 3, (1, 2, 2))),
        exact=True,
    ),
    Trap("adaptive", "pool-arguments", between(lambda s, t: F.adaptive_avg_pool3d(t, (1, 3, 2)))),
    Trap(
        "adaptive-depth",
        "pool-arguments",
        onto(
            lambda s, t: F.adaptive_avg_pool3d(torch.cat([t, t, t[:, :, 1:]], 2), (3, 2, 2)),
            c3(4, 3, (3, 1, 2)),
            (2, 4, 2, 5, 7),
        ),
    ),
)
