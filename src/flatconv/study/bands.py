"""Images of many bands, made of real photographs of surfaces: their bands have an order, and neighbours are related.

Two kinds, and a task for each: tell which surface a patch shows (brick, grass or gravel).

* scale: band s holds what lies between two neighbouring scales of the patch, a difference of Gaussians (Burt and Adelson,
  1983) whose spreads grow by a constant factor. A patch that is nearer by this factor has the same bands, one place on.
* exposure: band e is the patch exposed 2^e times as long, cut off at white, with noise of its own. A scene with twice the
  light has the same bands, one place on.

The distance, and the light, are drawn anew for each patch, so what tells the surfaces apart has no fixed place among the bands.
Patches of training and of test come from different halves of each photograph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["scale", "exposure"]
KINDS: tuple[Kind, ...] = get_args(Kind)

FIRST = 0.7
"""Spread of the narrowest Gaussian, pixels."""

FACTOR = 2**0.5
"""Between the spreads of neighbouring Gaussians, and between neighbouring exposures it is its square."""

FLAT = 0.02
"""Added to the spread by which a patch is divided, so that an empty one is not all noise."""


@dataclass(frozen=True)
class Patches:
    """How examples are cut and made.

    Attributes:
        kind: of bands.
        bands: of an image.
        size: of a patch, both ways.
        noise: spread of the noise: of the patch before it is taken apart (scale), of each band by itself (exposure).
        seen: the range of the distance, or of the light, in octaves, in training and in one test.
        unseen: the range in the other test.
    """

    kind: Kind
    bands: int
    size: int
    noise: float
    seen: tuple[float, float]
    unseen: tuple[float, float]


@dataclass(frozen=True)
class Examples:
    """Images and what they show.

    Attributes:
        inputs: (N, 1, bands, size, size).
        labels: (N,), numbers of the photographs.
    """

    inputs: Tensor
    labels: Tensor


def examples(
    photographs: Sequence[Tensor], n: int, how: Patches, octaves: tuple[float, float], random: torch.Generator
) -> Examples:
    """Draw patches of photographs in turn, turned and mirrored at random, and make their bands.

    Args:
        photographs: each (H, W) in [0, 1], larger than ``size · 2^octaves``.
        n: examples.
        how: see ``Patches``.
        octaves: range of the distance (2 to this power is the part of the photograph that a patch shows) or of the light.
        random: what is drawn from.
    """
    labels = torch.arange(n) % len(photographs)
    drawn = torch.rand(n, generator=random) * (octaves[1] - octaves[0]) + octaves[0]
    zooms = drawn if how.kind == "scale" else torch.zeros(n)
    patches = torch.stack(
        [
            _patch(photographs[int(label)], round(how.size * 2 ** float(zoom)), how.size, random)
            for label, zoom in zip(labels, zooms, strict=True)
        ]
    )
    if how.kind == "scale":
        patches = patches - patches.mean((1, 2), keepdim=True)
        patches = patches / (patches.std((1, 2), keepdim=True) + FLAT)
        patches = patches + how.noise * torch.randn(patches.shape, generator=random)
        return Examples(scales(patches, how.bands)[:, None], labels)
    lit = patches * (2**drawn)[:, None, None]
    bands = exposures(lit, how.bands, how.noise, random)
    return Examples(bands[:, None], labels)


def scales(patches: Tensor, bands: int) -> Tensor:
    """Differences of Gaussians, narrow ones first: (N, size, size) to (N, bands, size, size)."""
    blurred = [_blur(patches, FIRST * FACTOR**s) for s in range(bands + 1)]
    return torch.stack([a - b for a, b in pairwise(blurred)], 1)


def exposures(light: Tensor, bands: int, noise: float, random: torch.Generator) -> Tensor:
    """Exposures that double, short ones first, cut off at white: (N, size, size) to (N, bands, size, size).

    The middle band is the light itself. Mean grey becomes 0.
    """
    steps = 2.0 ** (torch.arange(bands) - bands // 2)
    exposed = light[:, None] * steps[:, None, None]
    return (exposed + noise * torch.randn(exposed.shape, generator=random)).clamp(0, 1) - 0.5


def halves(photographs: Sequence[Tensor], gap: int) -> tuple[list[Tensor], list[Tensor]]:
    """The left and the right half of each photograph, with ``gap`` columns left out between them."""
    left = [p[:, : (p.shape[1] - gap) // 2] for p in photographs]
    right = [p[:, (p.shape[1] + gap) // 2 :] for p in photographs]
    return left, right


def apart(bands: int, random: torch.Generator) -> Tensor:
    """An order of at least five bands in which no two neighbours stay neighbours."""
    while True:
        order = torch.randperm(bands, generator=random)
        if int((order[1:] - order[:-1]).abs().min()) > 1:
            return order


def _patch(photograph: Tensor, side: int, size: int, random: torch.Generator) -> Tensor:
    """A square of the photograph, drawn in another size, turned and mirrored."""
    top = int(torch.randint(photograph.shape[0] - side + 1, (), generator=random))
    left = int(torch.randint(photograph.shape[1] - side + 1, (), generator=random))
    turn = int(torch.randint(8, (), generator=random))
    cut = photograph[None, None, top : top + side, left : left + side]
    drawn = F.interpolate(cut, size=(size, size), mode="bilinear", antialias=True, align_corners=False)[0, 0]
    drawn = torch.rot90(drawn, turn % 4)
    return drawn.flip(0) if turn >= 4 else drawn


def _blur(patches: Tensor, spread: float) -> Tensor:
    """A Gaussian along both axes; what lies outside is the mirror image."""
    reach = min(int(3 * spread) + 1, patches.shape[-1] - 1)
    taps = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * spread**2))
    taps = taps / taps.sum()
    x = F.pad(patches[:, None], (reach,) * 4, mode="reflect")
    x = F.conv2d(x, taps[None, None, :, None])
    return F.conv2d(x, taps[None, None, None, :])[:, 0]
