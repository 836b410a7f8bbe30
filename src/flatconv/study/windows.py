"""Clips whose frames say nothing one by one: windows that move over real pictures, and real frames in and out of order.

**Windows.** A picture is mirrored at its right and lower edges and continued without end (it becomes a torus without seams).
The first position of the window is drawn uniformly over the torus. A shift of a uniform position is uniform again, so at every
moment the window is anywhere with the same probability, *whatever its direction*. Whoever sees one frame, and knows which one
it is, can do no better than chance. Whoever sees all frames without their order can tell the axis of a motion, but not its
sense: the clip that moves back has the same frames.

**Order.** A clip of an odd number of frames is shown as it was filmed, or with all frames but the middle one shuffled. Both
have the same frames, so all frames without their order say nothing, and both have the same middle frame, so that says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""Rows and columns in a step; the fifth to the eighth are the first to the fourth backwards."""

FLAT = 0.02
"""Added to the spread by which a clip is divided, so that an empty one is not all noise."""


@dataclass(frozen=True)
class Clips:
    """Examples.

    Attributes:
        inputs: (N, 1, T, size, size), each clip with mean 0 and about spread 1 before noise was added.
        labels: (N,).
    """

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Window:
    """How clips are cut.

    Attributes:
        frames: of a clip, odd.
        size: of the window, both ways.
        speeds: steps of the window, or of the film, between two frames; one is drawn for each clip.
        noise: spread of the noise added to every frame by itself, in units of the clip's spread.
    """

    frames: int
    size: int
    speeds: tuple[int, ...]
    noise: float


def torus(film: Tensor) -> Tensor:
    """A film (T, H, W) mirrored at two edges: (T, 2H, 2W), which continues without a seam on all sides."""
    wide = torch.cat([film, film.flip(-1)], -1)
    return torch.cat([wide, wide.flip(-2)], -2)


def path(start: Tensor, direction: Tensor, speed: Tensor, moved: Tensor, period: tuple[int, int]) -> Tensor:
    """Corners of the window at every moment.

    Args:
        start: (N, 2), in the torus.
        direction: (N,), indices of ``DIRECTIONS``.
        speed: (N,).
        moved: (N, T), how often the window has moved by then.
        period: of the torus.

    Returns:
        (N, T, 2), in the torus.
    """
    step = torch.tensor(DIRECTIONS)[direction] * speed[:, None]
    return (start[:, None] + moved[..., None] * step[:, None]) % torch.tensor(period)


def moving(
    films: Sequence[Tensor], n: int, how: Window, random: torch.Generator, moves: tuple[int, ...] = (), steps: int = 0
) -> Clips:
    """Windows that move in one of eight directions, while the film goes on; a photograph is a film of one frame.

    Args:
        films: each (T, H, W).
        n: clips, of all films and directions in turn.
        how: see ``Window``.
        random: what is drawn from.
        moves: the frames at which the window may begin to move, one is drawn for each clip; it rests before. Empty: it
            moves all the time.
        steps: how often it moves before it rests again, if it does not move all the time.

    Returns:
        The clips; a label is an index of ``DIRECTIONS``.
    """
    which = torch.arange(n) % len(films)
    labels = _balanced(len(DIRECTIONS), n, random)
    inputs = torch.empty(n, how.frames, how.size, how.size)
    for i, film in enumerate(films):
        mine = which == i
        count = int(mine.sum())
        world = torus(film)
        height, width = world.shape[1:]
        start = torch.stack([_draw(height, count, random), _draw(width, count, random)], 1)
        moved = torch.arange(how.frames).expand(count, -1)
        if moves:
            moved = (moved - torch.tensor(moves)[_draw(len(moves), count, random)][:, None]).clamp(0, steps)
        corner = path(start, labels[mine], _speeds(how, count, random), moved, (height, width))
        first = _draw(max(1, len(film) - how.frames + 1), count, random)
        times = (first[:, None] + torch.arange(how.frames)) % len(film)
        inputs[mine] = _cut(world, times, corner, how.size)
    return _noisy(inputs, labels, how, random)


def ordered(films: Sequence[Tensor], n: int, how: Window, random: torch.Generator) -> Clips:
    """Pieces of films as they were filmed (label 0), or with all frames but the middle one shuffled (label 1).

    Args:
        films: each (T, H, W), longer than a clip.
        n: clips, of all films in turn.
        how: see ``Window``; a speed is a step in time here.
        random: what is drawn from.

    Returns:
        The clips.
    """
    which = torch.arange(n) % len(films)
    labels = _balanced(2, n, random)
    inputs = torch.empty(n, how.frames, how.size, how.size)
    for i, film in enumerate(films):
        mine = torch.where(which == i)[0]
        count, (length, height, width) = len(mine), film.shape
        step = _speeds(how, count, random)
        span = step * (how.frames - 1)
        first = (torch.rand(count, generator=random) * (length - span)).long()
        order = torch.stack([shuffled(how.frames, random) if labels[k] else torch.arange(how.frames) for k in mine])
        corner = torch.stack(
            [_draw(height - how.size + 1, count, random), _draw(width - how.size + 1, count, random)], 1
        )
        times = first[:, None] + order * step[:, None]
        inputs[mine] = _cut(film, times, corner[:, None].expand(-1, how.frames, -1), how.size)
    return _noisy(inputs, labels, how, random)


def scenes(film: Tensor, change: float, shortest: int) -> tuple[Tensor, ...]:
    """A film (T, H, W) cut where two neighbouring frames differ by more than ``change`` in the mean; short pieces are left out.

    A clip across a cut would tell its order by the cut alone.
    """
    steps = (film[1:] - film[:-1]).abs().mean((1, 2))
    ends = [0, *(torch.where(steps > change)[0] + 1).tolist(), len(film)]
    return tuple(film[a:b] for a, b in pairwise(ends) if b - a >= shortest)


def shuffled(frames: int, random: torch.Generator) -> Tensor:
    """An order of frames that keeps the middle one, and is neither the order of the film nor that backwards."""
    middle, plain = frames // 2, torch.arange(frames)
    others = plain[plain != middle]
    while True:
        order = others[torch.randperm(frames - 1, generator=random)]
        order = torch.cat([order[:middle], plain[middle : middle + 1], order[middle:]])
        if not (order.equal(plain) or order.equal(plain.flip(0))):
            return order


def _balanced(classes: int, n: int, random: torch.Generator) -> Tensor:
    """Labels, as many of each class, in a random order."""
    return torch.arange(n)[torch.randperm(n, generator=random)] % classes


def _draw(below: int, n: int, random: torch.Generator) -> Tensor:
    return torch.randint(below, (n,), generator=random)


def _speeds(how: Window, n: int, random: torch.Generator) -> Tensor:
    return torch.tensor(how.speeds)[_draw(len(how.speeds), n, random)]


def _cut(world: Tensor, times: Tensor, corner: Tensor, size: int) -> Tensor:
    """Windows (N, T, size, size) of a world (T', H, W) that continues on all sides; times are (N, T), corners (N, T, 2)."""
    rows = (corner[..., 0, None] + torch.arange(size)) % world.shape[1]
    columns = (corner[..., 1, None] + torch.arange(size)) % world.shape[2]
    return world[times[..., None, None], rows[..., :, None], columns[..., None, :]]


def _noisy(inputs: Tensor, labels: Tensor, how: Window, random: torch.Generator) -> Clips:
    """Every clip with mean 0 and spread 1, which depends on the set of its frames alone, and noise on top."""
    inputs = inputs - inputs.mean((1, 2, 3), keepdim=True)
    inputs = inputs / (inputs.std((1, 2, 3), keepdim=True) + FLAT)
    inputs = inputs + how.noise * torch.randn(inputs.shape, generator=random)
    return Clips(inputs[:, None], labels)
