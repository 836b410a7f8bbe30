"""Weights and values that are read in several places."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import nn

from trust.corpus.parts import around
from trust.trap import Args, Flow, Trap, c3, fill, flow, one, x


def _tied() -> tuple[nn.Module, Args]:
    model = Flow(
        lambda s, t: (s.a(t), s.b(t)), a=c3(2, 3, 3, padding=1), b=c3(2, 3, 3, padding=(2, 1, 1), dilation=(2, 1, 1))
    )
    model.b.weight = model.a.weight
    return model, (x(2, 2, 1, 5, 7),)


def _weight_norm() -> tuple[nn.Module, Args]:
    conv = torch.nn.utils.parametrizations.weight_norm(c3(2, 3, 3, padding=1))
    model = nn.Sequential(conv)
    fill(model)
    return model.double(), (x(2, 2, 1, 5, 7),)


def _old_weight_norm() -> tuple[nn.Module, Args]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        conv = torch.nn.utils.weight_norm(c3(2, 3, (3, 2, 1), padding=(1, 0, 0)))
    return conv.double().eval(), (x(2, 2, 1, 5, 7),)


def _in_place(s: Flow, t: torch.Tensor) -> torch.Tensor:
    padded = around(t, 1, 1)
    padded[:, :, 0] += 1.5
    return s.conv(padded)


def _filled_view(s: Flow, t: torch.Tensor) -> torch.Tensor:
    blank = torch.zeros(2, 2, 3, 5, 7, dtype=t.dtype)
    blank[:, :, 2:] = t
    blank.select(2, 0).add_(t[:, :, 0])
    return s.conv(blank)


def _view_written_later(s: Flow, t: torch.Tensor) -> torch.Tensor:
    made = s.conv(t)
    view = made[:, :, 0]
    view.mul_(2)
    return made + view.unsqueeze(2)


def _beside(s: Flow, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    y = s.conv(t)
    return torch.relu(y), y + 1


def _view_beside(s: Flow, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    y = s.conv(t)
    return torch.sigmoid(y.flatten(3, 4)), y * 2


def _residual(s: Flow, t: torch.Tensor) -> torch.Tensor:
    made = s.a(t)
    return s.b(made.relu()) + made


def _different(s: Flow, t: torch.Tensor) -> torch.Tensor:
    return s.c(torch.cat([s.a(t), s.b(t)], 2))


def _norms(s: Flow, t: torch.Tensor) -> torch.Tensor:
    return s.c(torch.cat([s.a(t), s.b(t)], 2))


def _rounded(s: Flow, t: torch.Tensor) -> torch.Tensor:
    return s.b(s.a(t).to(torch.bfloat16).to(torch.float32))


def _truncated(s: Flow, t: torch.Tensor) -> torch.Tensor:
    return s.b(s.a(t).to(torch.int64).to(torch.float64))


def _huge() -> tuple[nn.Module, Args]:
    # Every slice of a, then of the long one, then of b has a number: 2^31 apart, a's and b's would meet in 32 bits.
    a, b = x(1, 1, 1, 4, 5), x(1, 1, 1, 4, 5)
    long = torch.ones(1, dtype=torch.float64).expand(2**31 - 12)
    model = Flow(lambda s, a, long, b: s.conv(torch.cat([a, b], 2)) + long[:1], conv=c3(1, 1, (2, 1, 1)))
    return model, (a, long, b)


def _huge_image() -> tuple[nn.Module, Args]:
    # One number in memory; only its shape is read.
    return c3(1, 2, (3, 1, 1), padding=(1, 0, 0)), (torch.zeros(1).expand(1, 1, 1, 2**16, 2**15 + 1),)


SHARED = {"weights": "shared"}

ALL = (
    Trap(
        "one-conv-two-depths",
        "shared-weights",
        flow(lambda s, t: (s.conv(t[:, :, :1]), s.conv(t)), (2, 2, 3, 5, 7), conv=c3(2, 3, 3, padding=1)),
        exact=True,
        operators=("select", "conv2d", "conv3d"),
    ),
    Trap(
        "one-conv-two-depths-shared",
        "shared-weights",
        flow(lambda s, t: (s.conv(t[:, :, :1]), s.conv(t)), (2, 2, 3, 5, 7), conv=c3(2, 3, 3, padding=1)),
        exact=True,
        options=SHARED,
    ),
    Trap(
        "one-conv-two-taps",
        "shared-weights",
        flow(
            lambda s, t: (s.conv(around(t, 2, 0)), s.conv(around(t, 0, 2))), (2, 2, 1, 5, 7), conv=c3(2, 3, (3, 2, 1))
        ),
        exact=True,
    ),
    Trap("tied", "shared-weights", _tied, exact=True),
    Trap(
        "two-convs-cat",
        "consumers",
        flow(_different, (2, 2, 1, 5, 7), a=c3(2, 3, (1, 2, 1)), b=c3(2, 3, (1, 2, 1)), c=c3(3, 2, (2, 1, 2))),
        exact=True,
    ),
    Trap(
        "two-padded-convs-cat",
        "consumers",
        flow(
            _different,
            (2, 2, 1, 5, 7),
            a=c3(2, 3, (3, 2, 1), padding=(1, 0, 0)),
            b=c3(2, 3, (3, 2, 1), padding=(1, 0, 0)),
            c=c3(3, 2, (2, 1, 2)),
        ),
        exact=True,
    ),
    Trap(
        "two-equal-slice-convs-cat",
        "consumers",
        flow(
            lambda s, t: s.c(torch.cat([s.a(t.expand(-1, -1, 2, -1, -1)), s.b(t.expand(-1, -1, 2, -1, -1))], 2)),
            (2, 2, 1, 5, 7),
            a=c3(2, 3, (1, 2, 1)),
            b=c3(2, 3, (1, 2, 1)),
            c=c3(3, 2, (4, 1, 2)),
        ),
        exact=True,
    ),
    Trap(
        "two-batch-norms-cat",
        "consumers",
        flow(_norms, (2, 2, 1, 5, 7), a=nn.BatchNorm3d(2), b=nn.BatchNorm3d(2), c=c3(2, 3, (2, 1, 2))),
    ),
    Trap(
        "residual",
        "consumers",
        flow(_residual, (2, 2, 1, 5, 7), a=c3(2, 3, 3, padding=1), b=c3(3, 3, 3, padding=1)),
        exact=True,
        operators=("conv2d", "relu", "conv2d", "add"),
    ),
    Trap(
        "relu-beside-what-it-reads",
        "in-place",
        flow(_beside, (2, 2, 1, 5, 7), conv=c3(2, 3, 3, padding=1)),
    ),
    Trap(
        "sigmoid-of-a-view-beside-it",
        "in-place",
        flow(_view_beside, (2, 2, 1, 5, 7), conv=c3(2, 3, 3, padding=1)),
    ),
    Trap(
        "tanh-of-an-input",
        "in-place",
        flow(lambda s, t: s.conv(t.tanh()), (2, 2, 1, 5, 7), conv=c3(2, 3, 3, padding=1)),
    ),
    Trap(
        "three-readers",
        "consumers",
        flow(
            lambda s, t: (s.b(around(s.a(t), 2, 0)), s.c(s.a(t)), s.a(t).amax(2)),
            (2, 2, 1, 5, 7),
            a=c3(2, 3, (3, 1, 1), padding=(1, 0, 0)),
            b=c3(3, 2, (3, 2, 1)),
            c=c3(3, 2, (1, 1, 2)),
        ),
        exact=True,
    ),
    Trap(
        "weight-read-elsewhere",
        "read-elsewhere",
        flow(lambda s, t: s.conv(t) + s.conv.weight.sum(), (2, 2, 1, 5, 7), conv=c3(2, 3, 3, padding=1)),
        exact=True,
    ),
    Trap(
        "weight-scaled-elsewhere",
        "read-elsewhere",
        flow(
            lambda s, t: F.conv3d(t, s.conv.weight * 2, s.conv.bias, padding=1) + s.conv(t),
            (2, 2, 1, 5, 7),
            conv=c3(2, 3, 3, padding=1),
        ),
        exact=True,
    ),
    Trap(
        "output-read-elsewhere",
        "read-elsewhere",
        flow(lambda s, t: (s.a(t), s.b(s.a(t))), (2, 2, 1, 5, 7), a=c3(2, 3, 3, padding=1), b=c3(3, 2, 3, padding=1)),
        exact=True,
    ),
    Trap(
        "weight-from-input",
        "read-elsewhere",
        flow(lambda s, t, w: F.conv3d(t, w, padding=1), (2, 2, 1, 5, 7), (3, 2, 3, 3, 3)),
        exact=True,
    ),
    Trap(
        "demodulated",
        "read-elsewhere",
        flow(
            lambda s, t, m: F.conv3d(t, s.conv.weight * m.view(1, -1, 1, 1, 1), padding=1),
            (2, 2, 1, 5, 7),
            (2,),
            conv=c3(2, 3, 3, padding=1),
        ),
        exact=True,
    ),
    Trap("conv-is-output", "output", one(c3(2, 3, 3, padding=1), 2, 2, 1, 5, 7), exact=True),
    Trap(
        "many-outputs",
        "output",
        flow(
            lambda s, t: {"a": s.a(t), "b": [s.b(t), s.a(t).sum((2, 3))]},
            (2, 2, 1, 5, 7),
            a=c3(2, 3, 3, padding=1),
            b=c3(2, 3, 3, padding=1),
        ),
        exact=True,
    ),
    Trap(
        "weight-is-output",
        "output",
        flow(lambda s, t: (s.a(t), s.a.bias * 1, s.a.weight.flatten()), (2, 2, 1, 5, 7), a=c3(2, 3, 3, padding=1)),
        exact=True,
    ),
    Trap(
        "two-inputs",
        "output",
        flow(lambda s, a, b: s.conv(a) - s.conv(b), (2, 2, 1, 5, 7), (2, 2, 1, 5, 7), conv=c3(2, 3, 3, padding=1)),
        exact=True,
    ),
    Trap("in-place", "in-place", flow(_in_place, (2, 2, 1, 5, 7), conv=c3(2, 3, (3, 1, 2))), exact=True),
    Trap("filled-view", "in-place", flow(_filled_view, (2, 2, 1, 5, 7), conv=c3(2, 3, (3, 1, 2))), exact=True),
    Trap(
        "view-written-later",
        "in-place",
        flow(_view_written_later, (2, 2, 1, 5, 7), conv=c3(2, 3, (3, 1, 2), padding=(1, 0, 0))),
        exact=True,
    ),
    Trap(
        "time-only-unused",
        "field:time-only",
        flow(
            lambda s, t: s.b(t) if t.shape[2] == 1 else s.time(s.b(t)),
            (2, 2, 1, 5, 7),
            b=c3(2, 3, 3, padding=1),
            time=c3(3, 3, (3, 1, 1), padding=(1, 0, 0)),
        ),
        exact=True,
        unused=("time.weight", "time.bias"),
    ),
    Trap("weight-norm", "weight-norm", _weight_norm, fill=False),
    Trap("weight-norm-shared", "weight-norm", _weight_norm, fill=False, options=SHARED),
    Trap("weight-norm-old", "weight-norm", _old_weight_norm, fill=False),
    Trap(
        "rounded-between",
        "small-and-large",
        flow(_rounded, (2, 2, 1, 5, 7), a=c3(2, 3, 3, padding=1), b=c3(3, 3, 3, padding=1)),
        dtype=torch.float32,
    ),
    Trap(
        "truncated-between",
        "small-and-large",
        flow(_truncated, (2, 2, 1, 5, 7), a=c3(2, 3, 3, padding=1), b=c3(3, 3, 3, padding=1)),
        exact=True,
    ),
    Trap(
        "deep-single",
        "small-and-large",
        one(
            nn.Sequential(*(m for _ in range(4) for m in (c3(4, 4, 3, padding=1), nn.BatchNorm3d(4), nn.SiLU()))),
            2,
            4,
            1,
            6,
            7,
        ),
        dtype=torch.float32,
    ),
    Trap("huge-numbers", "huge", _huge, verify=False),
    Trap(
        "huge-image",
        "huge",
        _huge_image,
        verify=False,
        runs=False,
        dtype=torch.float32,
        operators=("squeeze", "conv2d", "unsqueeze"),
    ),
)
