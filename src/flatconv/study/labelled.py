"""Labelled images of 8 by 8, of several runs side by side: each run has its own split and order of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flatconv.study import data

SIZE = 8
Pair = tuple[Tensor, Tensor]
"""Images and their labels."""


@dataclass(frozen=True)
class Split:
    """Images for all runs.

    Attributes:
        train: (N, runs, 8, 8) and labels (N, runs).
        test: the same for images not learned from.
        classes: to tell apart.
    """

    train: Pair
    test: Pair
    classes: int


def digits(seed: int, train: int, test: int) -> tuple[Pair, Pair]:
    """Handwritten digits, split at random: images (N, 1, 8, 8) with mean 0 and spread 1 over all, labels (N,)."""
    inputs, labels = data.digits()
    inputs = (inputs - inputs.mean()) / inputs.std()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    learned, asked = order[:train], order[train : train + test]
    return (inputs[learned], labels[learned]), (inputs[asked], labels[asked])


def textures(seed: int, train: int, test: int) -> tuple[Pair, Pair]:
    """Windows of photographs at half their size: learned from the left half, asked about the right half."""
    random = torch.Generator().manual_seed(seed)
    halves = [photograph.chunk(2, dim=1) for photograph in (_half_size(t) for t in data.textures())]
    return _windows(halves, 0, train, random), _windows(halves, 1, test, random)


def _half_size(photograph: Tensor) -> Tensor:
    small = F.avg_pool2d(photograph[None], 2)[0]
    return (small - small.mean()) / small.std()


def _windows(halves: Sequence[tuple[Tensor, ...]], side: int, count: int, random: torch.Generator) -> Pair:
    labels = torch.randint(len(halves), (count,), generator=random)
    windows = []
    for label in labels.tolist():
        half = halves[label][side]
        row, column = (int(torch.randint(s - SIZE + 1, (1,), generator=random)) for s in half.shape)
        windows.append(half[row : row + SIZE, column : column + SIZE])
    return torch.stack(windows)[:, None], labels


SETS: Mapping[str, tuple[Callable[[int, int, int], tuple[Pair, Pair]], int]] = {
    "digits": (digits, 10),
    "textures": (textures, len(data.TEXTURES)),
}
"""Name to what draws a run's images, and the number of classes."""


def side_by_side(name: str, seeds: Sequence[int], train: int, test: int) -> Split:
    """The images of every run.

    Args:
        name: in ``SETS``.
        seeds: one a run.
        train: images to learn from.
        test: images to be asked about.
    """
    draw, classes = SETS[name]
    runs = [draw(seed, train, test) for seed in seeds]
    parts = [(torch.cat([r[i][0] for r in runs], 1), torch.stack([r[i][1] for r in runs], 1)) for i in (0, 1)]
    return Split(parts[0], parts[1], classes)
