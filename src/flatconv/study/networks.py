"""Networks for clips, one for each way to read the frames, and the widths at which they cost the same.

All have three blocks of convolution, batch normalisation and ReLU that halve the plane, an average over what is left, and a
linear layer. They differ in what becomes of the frames, and in nothing else:

* one frame: the middle one, in 2-D;
* averaged: each frame by itself in 2-D, then the mean of the features. The order of the frames is lost;
* channels: the frames are the channels of the first 2-D convolution;
* 3-D: kernels of (3, 3, 3), which halve the plane and keep all frames, so that a motion looks the same whenever it comes;
* (2+1)-D: (1, 3, 3) and then (3, 1, 1), with as many channels between them as a 3-D kernel has parameters for
  (Tran et al., 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Reading = Literal["one frame", "averaged", "channels", "3-D", "(2+1)-D"]
READINGS: tuple[Reading, ...] = get_args(Reading)
Budget = Literal["parameters", "multiply-adds"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)

BLOCKS = (1, 2, 4)
"""Channels of the three blocks, in units of the width."""

STEP = 1 / 16
"""Widths are tried in steps of this; each block's channels are rounded by itself, so the cost changes in small steps."""


@dataclass(frozen=True)
class Shape:
    """What a network is given and asked.

    Attributes:
        frames: of a clip.
        size: of the plane, both ways.
        classes: to tell apart.
    """

    frames: int
    size: int
    classes: int


@dataclass(frozen=True)
class Cost:
    """Of a network for one clip.

    Attributes:
        parameters: all of them.
        macs: multiply-adds of its convolutions and its linear layer.
    """

    parameters: int
    macs: int

    def of(self, budget: Budget) -> int:
        """The number that a budget is about."""
        return self.parameters if budget == "parameters" else self.macs


class Network(nn.Module):
    """A classifier of clips (N, 1, T, H, W) that returns (N, classes)."""

    def __init__(self, reading: Reading, width: float, shape: Shape) -> None:
        super().__init__()
        self.reading = reading
        blocks: list[nn.Module] = []
        last = shape.frames if reading == "channels" else 1
        for share in BLOCKS:
            channels = max(1, round(share * width))
            blocks.append(_block(reading, last, channels))
            last = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(last, shape.classes)

    def forward(self, clips: Tensor) -> Tensor:
        n, _, frames = clips.shape[:3]
        match self.reading:
            case "one frame":
                x = clips[:, :, frames // 2]
            case "averaged":
                x = clips.transpose(1, 2).flatten(0, 1)
            case "channels":
                x = clips[:, 0]
            case _:
                x = clips
        features = self.blocks(x).flatten(2).mean(2)
        if self.reading == "averaged":
            features = features.reshape(n, frames, -1).mean(1)
        return self.head(features)  # type: ignore[no-any-return]


def _block(reading: Reading, inside: int, outside: int) -> nn.Module:
    """A convolution that halves the plane and keeps the frames where it sees them, a norm and a ReLU."""
    if reading == "3-D":
        conv: nn.Module = nn.Conv3d(inside, outside, 3, (1, 2, 2), 1, bias=False)
    elif reading == "(2+1)-D":
        between = max(1, (27 * inside * outside) // (9 * inside + 3 * outside))
        conv = nn.Sequential(
            nn.Conv3d(inside, between, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False),
            nn.BatchNorm3d(between),
            nn.ReLU(),
            nn.Conv3d(between, outside, (3, 1, 1), 1, (1, 0, 0), bias=False),
        )
    else:
        conv = nn.Conv2d(inside, outside, 3, 2, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU())
    return nn.Sequential(conv, nn.BatchNorm3d(outside), nn.ReLU())


def cost(reading: Reading, width: float, shape: Shape) -> Cost:
    """What a network costs for one clip."""
    return counted(lambda: Network(reading, width, shape), 1, 1, shape.frames, shape.size, shape.size)


def width_for(reading: Reading, budget: Budget, amount: int, shape: Shape) -> float:
    """The width whose cost comes nearest to an amount."""
    return nearest(amount, lambda width: cost(reading, width, shape).of(budget))


def nearest(amount: int, cost_of: Callable[[float], int]) -> float:
    """The multiple of ``STEP`` whose cost is nearest to an amount. The cost grows, so the search halves an interval."""
    low, high = 1, 2
    while cost_of(high * STEP) < amount:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost_of(middle * STEP) < amount else (low, middle)
    return STEP * min((low, high), key=lambda steps: abs(cost_of(steps * STEP) - amount))


def counted(build: Callable[[], nn.Module], *sizes: int) -> Cost:
    """What a network of convolutions and linear layers costs for an input of some sizes, seen by running it."""
    macs = 0

    def add(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal macs
        macs += out.numel() * layer.weight[0].numel()  # type: ignore[index]

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = build().eval()
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
                layer.register_forward_hook(add)
        model(torch.zeros(sizes))
    return Cost(sum(p.numel() for p in model.parameters()), macs)
