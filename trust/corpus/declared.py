"""What is declared of the inputs: slices that are equal, axes laid out flat, calls of which it is not true."""

from __future__ import annotations

from collections.abc import Callable

import torch

from trust.trap import Args, Declared, Flow, Make, Trap, c3, flow, x

SIZES = (3, 2, 4, 3)
PATCHES = Declared(1, within=SIZES, axis=1)
KERNEL = c3(3, 5, SIZES[1:], stride=SIZES[1:], bias=False)


def _embed(s: Flow, t: torch.Tensor) -> torch.Tensor:
    return s.proj(t.view(-1, *SIZES)).view(-1, 5)


def _still(count: int = 6) -> torch.Tensor:
    """Patches of two equal frames each, laid out flat."""
    return x(count, 3, 1, 4, 3).expand(-1, *SIZES).reshape(count, -1)


def _patches(function: Callable[..., torch.Tensor] = _embed) -> Make:
    return lambda: (flow(function, proj=KERNEL)()[0], (_still(),))


def _moving() -> list[Args]:
    """Frames that differ: all of them, those of some patches, and one number of one patch."""
    mixed, little = torch.cat([_still(4), x(2, 72)]), _still()
    little[5, -1] += 0.125
    return [(x(6, 72),), (mixed,), (mixed.flip(0),), (little,)]


def _clip(frames: int = 4) -> torch.Tensor:
    return x(2, 4, 1, 5, 7).repeat(1, 1, frames, 1, 1)


ALL = (
    Trap(
        "patches-declared-equal",
        "field:patches",
        _patches(),
        options={"assume": {"args": PATCHES}},
        guarded=_moving,
        exact=True,
        operators=("reshape", "select", "linear"),
    ),
    Trap(
        "patches-declared-equal-or-not",
        "field:patches",
        _patches(),
        options={"assume": {"args": Declared(1, within=SIZES, axis=1, otherwise="full")}},
        others=_moving,
        exact=True,
    ),
    Trap(
        "patches-multiplied-before-the-view",
        "field:patches",
        _patches(lambda s, t: _embed(s, t * torch.arange(72, dtype=t.dtype))),
        options={"assume": {"args": PATCHES}},
        exact=True,
    ),
    Trap(
        "patches-taken-apart-otherwise",
        "field:patches",
        lambda: (
            flow(lambda s, t: s.proj(t.view(-1, 6, 2, 2, 3)), proj=c3(6, 5, (2, 2, 3)))()[0],
            (_still(),),
        ),
        options={"assume": {"args": PATCHES}},
        exact=True,
    ),
    Trap(
        "patches-laid-out-by-the-model",
        "field:patches",
        flow(
            lambda s, t: _embed(s, t.unsqueeze(2).expand(-1, *SIZES).flatten(1)),
            (6, 3, 4, 3),
            proj=KERNEL,
        ),
        exact=True,
    ),
    Trap(
        "first-of-each-run-equal",
        "batch-order",
        flow(
            # a, a, b, c in pairs: the second of each pair differs.
            lambda s, t: s.conv(torch.cat([t[:, :, :1], t], 2).unflatten(2, (2, 2)).flatten(1, 2)),
            (2, 3, 3, 5, 7),
            conv=c3(6, 3, (2, 1, 2)),
        ),
        exact=True,
    ),
    Trap(
        "rows-and-columns-of-the-same",
        "height-width",
        flow(
            # The same four slices as columns of one tensor and as rows of another, taken apart by the same view.
            lambda s, p, q: s.conv(
                torch.cat(
                    [
                        torch.stack([p, q, p, q], 1).view(2, 2, 2),
                        torch.stack([p, p, q, q], 0).view(2, 2, 2),
                    ],
                    1,
                )[:, None]
            ),
            (2,),
            (2,),
            conv=torch.nn.Conv2d(1, 3, (4, 1)),
        ),
        exact=True,
    ),
    Trap(
        "still-replicate",
        "field:replicate",
        lambda: (
            flow(
                lambda s, t: s.b(s.a(t).relu()) + t,
                a=c3(4, 4, 3, padding=1, padding_mode="replicate"),
                b=c3(4, 4, 3, padding=1, padding_mode="replicate"),
            )()[0],
            (_clip(),),
        ),
        options={"assume": {"args": Declared(2, otherwise="full")}},
        others=lambda: [(x(2, 4, 4, 5, 7),), (torch.cat([_clip()[:1], x(1, 4, 4, 5, 7)]),)],
        exact=True,
    ),
    Trap(
        "still-zero-border",
        "border",
        lambda: (
            flow(lambda s, t: s.b(s.a(t).relu()) + t, a=c3(4, 4, 3, padding=1), b=c3(4, 4, 3, padding=1))()[0],
            (_clip(6),),
        ),
        options={"assume": {"args": Declared(2)}},
        guarded=lambda: [(x(2, 4, 6, 5, 7),)],
        exact=True,
    ),
)
