"""Calls after the fold: other sizes, other types, another branch, changed weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from trust.corpus.parts import around
from trust.trap import Args, Flow, Make, Trap, c3, flow, one, x


class _Flagged(nn.Module):
    """Takes an argument that is no tensor, and another branch for it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = c3(2, 3, (3, 2, 2), padding=(1, 0, 0))

    def forward(self, t: torch.Tensor, double: bool = False) -> torch.Tensor:
        """One way or the other."""
        return self.conv(t) * 2 if double else self.conv(t)


def _flagged() -> tuple[nn.Module, Args]:
    return _Flagged(), (x(2, 2, 1, 5, 7), False)


class _Branch(nn.Module):
    """Another path for high images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = c3(2, 3, (3, 2, 2), padding=(1, 0, 0))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """Relu only above eight rows."""
        made = self.conv(t)
        return made.relu() if t.shape[3] > 8 else made


class _Upright(_Branch):
    """Another path for images that are higher than wide."""

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """Relu only for those."""
        made = self.conv(t)
        return made.relu() if t.shape[3] > t.shape[4] else made


class _BatchBranch(_Branch):
    """Another path for a batch of one."""

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """Relu only for a batch of one."""
        made = self.conv(t)
        return made.relu() if t.shape[0] == 1 else made


class _Squeezed(_Branch):
    """Squeezes whatever has size one."""

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """As it says."""
        return self.conv(t).squeeze()


class _Coder(nn.Module):
    """Two methods."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = c3(2, 3, 3, padding=1), c3(2, 3, 3, padding=1)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """One of them."""
        return self.encoder(t)

    def decode(self, t: torch.Tensor) -> torch.Tensor:
        """The other."""
        return self.decoder(t)


def _example_of(value: float) -> Make:
    def make() -> tuple[nn.Module, Args]:
        return Flow(lambda s, t: s.conv(t), conv=c3(2, 3, (3, 2, 1), padding=(1, 0, 0))), (
            torch.full((2, 2, 2, 5, 7), value),
        )

    return make


def _many(*shapes: tuple[int, ...]) -> Callable[[], Sequence[Args]]:
    return lambda: [tuple(x(*s) for s in shape) if isinstance(shape[0], tuple) else (x(*shape),) for shape in shapes]


FREE = {"dynamic": "auto"}
SHARED = {"weights": "shared"}

ALL = (
    Trap(
        "tensors-around-a-number",
        "output",
        lambda: (
            Flow(lambda m, t, k, u: m.a(t) * k - m.b(u), a=c3(2, 3, 3, padding=1), b=c3(2, 3, 3, padding=1)),
            (x(2, 2, 1, 5, 7), 2.0, x(2, 2, 1, 5, 7)),
        ),
        exact=True,
    ),
    Trap(
        "branch-on-height-and-width",
        "control-flow",
        lambda: (_Upright(), (x(2, 2, 1, 6, 7),)),
        others=_many((2, 2, 1, 7, 9), (2, 2, 1, 12, 7)),
        options=FREE,
        exact=True,
    ),
    Trap(
        "another-depth",
        "example-only",
        one(c3(2, 3, 3, padding=1), 2, 2, 1, 5, 7),
        guarded=_many((2, 2, 2, 5, 7), (2, 2, 3, 5, 7)),
        exact=True,
    ),
    Trap(
        "another-depth-free",
        "example-only",
        one(c3(2, 3, 3, padding=1), 2, 2, 1, 5, 7),
        guarded=_many((2, 2, 2, 5, 7), (3, 2, 4, 6, 7)),
        others=_many((3, 2, 1, 6, 9), (1, 2, 1, 8, 5)),
        options=FREE,
        exact=True,
    ),
    Trap(
        "another-type",
        "example-only",
        one(c3(2, 3, 3, padding=1), 2, 2, 1, 5, 7),
        guarded=lambda: [(x(2, 2, 1, 5, 7).float(),)],
        exact=True,
    ),
    Trap("another-flag", "example-only", _flagged, guarded=lambda: [(x(2, 2, 1, 5, 7), True)], exact=True),
    Trap("equal-example", "example-only", _example_of(1.5), others=_many((2, 2, 2, 5, 7), (2, 2, 2, 5, 7)), exact=True),
    Trap(
        "zero-example",
        "example-only",
        _example_of(0.0),
        others=_many(
            (2, 2, 2, 5, 7),
        ),
        exact=True,
    ),
    Trap(
        "branch-on-height",
        "example-only",
        lambda: (_Branch(), (x(2, 2, 1, 6, 7),)),
        others=_many((2, 2, 1, 7, 9), (2, 2, 1, 12, 7)),
        options=FREE,
        exact=True,
    ),
    Trap(
        "branch-on-batch",
        "example-only",
        lambda: (_BatchBranch(), (x(1, 2, 1, 6, 7),)),
        others=_many((1, 2, 1, 7, 9), (3, 2, 1, 12, 7)),
        options=FREE,
        exact=True,
    ),
    Trap(
        "branch-on-batch-two",
        "example-only",
        lambda: (_BatchBranch(), (x(2, 2, 1, 6, 7),)),
        others=_many((1, 2, 1, 7, 9), (3, 2, 1, 12, 7)),
        options=FREE,
        exact=True,
    ),
    Trap(
        "squeezed",
        "example-only",
        lambda: (_Squeezed(), (x(2, 2, 1, 6, 7),)),
        others=_many((1, 2, 1, 6, 7), (3, 2, 1, 5, 8), (3, 2, 1, 6, 2), (2, 2, 1, 2, 7)),
        options=FREE,
        exact=True,
    ),
    Trap(
        "height-of-one",
        "height-width",
        flow(
            lambda s, t: s.conv(t) * t[:, :1].sum(3, keepdim=True)[..., 1:],
            (2, 2, 1, 4, 7),
            conv=c3(2, 3, (3, 1, 2), padding=(1, 0, 0)),
        ),
        others=_many((2, 2, 1, 1, 7), (2, 2, 1, 5, 4)),
        options=FREE,
        exact=True,
    ),
    Trap(
        "slice-of-free-axis",
        "height-width",
        flow(lambda s, t: s.conv(t)[:, :, :, ::2, 1:], (2, 2, 1, 6, 7), conv=c3(2, 3, (3, 1, 2), padding=(1, 0, 0))),
        others=_many((2, 2, 1, 8, 9)),
        options=FREE,
        exact=True,
    ),
    Trap(
        "free-batch-order",
        "batch-order",
        flow(
            lambda s, t: s.flat(s.conv(t).transpose(1, 2).flatten(0, 1)),
            (2, 2, 1, 6, 7),
            conv=c3(2, 3, (3, 1, 2), padding=(1, 0, 0)),
            flat=nn.Conv2d(3, 2, (2, 3)),
        ),
        others=_many((3, 2, 1, 8, 9)),
        options=FREE,
        exact=True,
    ),
    Trap(
        "upsampled-free",
        "height-width",
        flow(
            lambda s, t: F.interpolate(s.conv(t), scale_factor=(1, 2, 3)),
            (2, 2, 1, 6, 7),
            conv=c3(2, 3, (3, 1, 2), padding=(1, 0, 0)),
        ),
        others=_many((3, 2, 1, 8, 9)),
        options=FREE,
        exact=True,
    ),
    Trap("empty-batch", "empty-batch", one(c3(2, 3, 3, padding=1), 0, 2, 1, 5, 7), exact=True),
    Trap(
        "empty-batch-free",
        "empty-batch",
        one(c3(2, 3, 3, padding=1), 2, 2, 1, 5, 7),
        others=_many((0, 2, 1, 5, 7)),
        options=FREE,
        exact=True,
    ),
    Trap(
        "empty-batch-mean",
        "empty-batch",
        flow(lambda s, t: s.conv(around(t, 1, 1).mean(0, keepdim=True)), (0, 2, 1, 5, 7), conv=c3(2, 3, (3, 1, 2))),
    ),
    Trap(
        "stale-folded",
        "stale-weights",
        one(nn.Sequential(c3(2, 3, (1, 2, 2)), nn.BatchNorm3d(3), c3(3, 2, 3, padding=1)), 2, 2, 1, 5, 7),
    ),
    Trap(
        "stale-shared",
        "stale-weights",
        one(nn.Sequential(c3(2, 3, (1, 2, 2)), nn.BatchNorm3d(3), c3(3, 2, 3, padding=1)), 2, 2, 1, 5, 7),
        options=SHARED,
    ),
    Trap(
        "stale-shared-merged",
        "stale-weights",
        one(c3(2, 3, 3, padding=1, padding_mode="replicate"), 2, 2, 1, 5, 7),
        options=SHARED,
        exact=True,
    ),
    Trap(
        "another-method",
        "stale-weights",
        lambda: (_Coder(), (x(2, 2, 1, 5, 7),)),
        options={"method": "decode"},
        exact=True,
        unused=("encoder.weight", "encoder.bias"),
    ),
)
