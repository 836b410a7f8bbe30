"""Tasks on the slices of one CT volume, and the networks that read neighbours as nothing, as channels, or as depth.

The volume is split along the axis of the body. A slice of the test is in a block of neighbours, and no slice that a network
reads or is asked for in the test was read or asked for in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flatconv.study import data
from flatconv.study.networks import Cost, counted, nearest

Name = Literal["denoise", "missing"]
Reading = Literal["2-D", "2.5-D", "3-D"]
READINGS: tuple[Reading, ...] = get_args(Reading)

REACH = 2
"""Slices that are read on either side."""

RANGE = (-1000.0, 1000.0)
"""Hounsfield units that are kept: air to dense bone. PSNR refers to their span."""

UNIT = 500.0
"""Hounsfield units that a network sees as 1."""

BODY = -950.0
"""Mean around a pixel above which it counts: lungs are near -850, the air around the patient is at -1000."""

LAYERS = 4


@dataclass(frozen=True)
class Split:
    """Positions of the slices to restore.

    Attributes:
        train: in training.
        test: a block of neighbours.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Stacks:
    """Slices with their neighbours.

    Attributes:
        inputs: (N, D, H, W), in units of ``UNIT``: 5 noisy slices, or the 4 around a missing one.
        targets: (N, 1, H, W).
        counts: (N, 1, H, W), where a pixel lies in the body.
    """

    inputs: Tensor
    targets: Tensor
    counts: Tensor


def split(slices: int, blocks: int, block: int) -> Split:
    """Hold out one of some equal blocks, with a gap of twice the reach on both sides."""
    positions = range(REACH, slices - REACH)
    first, last = (REACH + len(positions) * i // blocks for i in (block, block + 1))
    test = tuple(range(first, last))
    return Split(tuple(z for z in positions if z < first - 2 * REACH or z >= last + 2 * REACH), test)


@cache
def volume(size: int) -> Tensor:
    """The chest CT (D, size, size) in units of ``UNIT``, cut to ``RANGE``."""
    return data.chest_ct(size).clamp(*RANGE) / UNIT


def whole(task: Name, ct: Tensor, positions: tuple[int, ...], noise: float, random: torch.Generator) -> Stacks:
    """Whole slices to restore. The noise is that of one scan: a slice has the same in all stacks in which it is seen.

    Args:
        task: which.
        ct: (D, H, W).
        positions: of the slices to restore.
        noise: spread in Hounsfield units; for denoising only.
        random: what is drawn from.

    Returns:
        One stack for each position.
    """
    noisy = ct + noise / UNIT * torch.randn(ct.shape, generator=random) if task == "denoise" else ct
    body = F.avg_pool2d(ct[:, None], 9, 1, 4, count_include_pad=False) > BODY / UNIT
    at = torch.tensor(positions)
    return Stacks(noisy[at[:, None] + torch.tensor(_offsets(task))], ct[at][:, None], body[at])


def patches(
    task: Name, ct: Tensor, positions: tuple[int, ...], n: int, size: int, noise: float, random: torch.Generator
) -> Stacks:
    """Square patches for training, from random positions around the body, each with noise of its own.

    Args:
        task: which.
        ct: (D, H, W).
        positions: of the slices to restore.
        n: patches, or a few less: those without a pixel of the body are left out.
        size: of a patch, both ways.
        noise: spread in Hounsfield units; for denoising only.
        random: what is drawn from.

    Returns:
        The patches.
    """
    clean = whole(task, ct, positions, 0.0, random)
    which = torch.randint(len(positions), (n,), generator=random)
    rows = torch.randint(ct.shape[1] - size + 1, (n, 1), generator=random) + torch.arange(size)
    columns = torch.randint(ct.shape[2] - size + 1, (n, 1), generator=random) + torch.arange(size)

    def cut(held: Tensor) -> Tensor:
        depth = torch.arange(held.shape[1])[None, :, None, None]
        return held[which[:, None, None, None], depth, rows[:, None, :, None], columns[:, None, None, :]]

    inputs, targets, counts = cut(clean.inputs), cut(clean.targets), cut(clean.counts)
    if task == "denoise":
        inputs = inputs + noise / UNIT * torch.randn(inputs.shape, generator=random)
    seen = counts.flatten(1).any(1)
    return Stacks(inputs[seen], targets[seen], counts[seen])


def first_guess(task: Name, reading: Reading, stacks: Tensor) -> Tensor:
    """What a network starts from, (N, 1, H, W): the noisy slice; or one neighbour, or the mean of the two next ones."""
    if task == "denoise":
        return stacks[:, REACH : REACH + 1]
    if reading == "2-D":
        return stacks[:, REACH - 1 : REACH]
    return stacks[:, REACH - 1 : REACH + 1].mean(1, keepdim=True)


class Restorer(nn.Module):
    """What to add to the first guess, by four convolutions of 3×3 in the plane, for stacks (N, D, H, W)."""

    def __init__(self, task: Name, reading: Reading, width: float) -> None:
        super().__init__()
        self.task, self.reading = task, reading
        depth = len(_offsets(task)) if reading == "3-D" else 1
        last = len(_offsets(task)) if reading == "2.5-D" else 1
        layers: list[nn.Module] = []
        for i in range(LAYERS):
            # The widths of the three hidden layers are rounded apart, so that the cost changes in small steps.
            channels = 1 if i == LAYERS - 1 else max(1, int(width + i / (LAYERS - 1)))
            taps = min(3, depth)
            depth -= taps - 1
            layers.append(
                nn.Conv3d(last, channels, (taps, 3, 3), padding=(0, 1, 1))
                if reading == "3-D"
                else _plane(last, channels)
            )
            layers.append(nn.LeakyReLU(0.1))  # without a norm a ReLU may die, and a run with it
            last = channels
        self.layers = nn.Sequential(*layers[:-1])
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)  # training starts from the first guess itself
        layout = torch.channels_last_3d if reading == "3-D" else torch.channels_last  # up to twice as fast
        self.to(memory_format=layout)  # type: ignore[call-overload]

    def forward(self, stacks: Tensor) -> Tensor:
        guess = first_guess(self.task, self.reading, stacks)
        if self.reading == "3-D":
            return guess + self.layers(stacks[:, None])[:, :, 0]  # type: ignore[no-any-return]
        return guess + self.layers(guess if self.reading == "2-D" else stacks)  # type: ignore[no-any-return]


def cost(task: Name, reading: Reading, width: float, size: int) -> Cost:
    """What a network costs for one slice."""
    return counted(lambda: Restorer(task, reading, width), 1, len(_offsets(task)), size, size)


def width_for(task: Name, reading: Reading, parameters: int) -> float:
    """The width at which a network has about so many parameters."""
    return nearest(parameters, lambda width: cost(task, reading, width, 8).parameters)


def _plane(inside: int, outside: int) -> nn.Module:
    return nn.Conv2d(inside, outside, 3, padding=1)


def _offsets(task: Name) -> tuple[int, ...]:
    """Where the slices of a stack lie, from the one to restore."""
    return tuple(z for z in range(-REACH, REACH + 1) if task == "denoise" or z != 0)
