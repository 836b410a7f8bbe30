"""The tasks in time: what is shown in training, what is held out, and in which situations a network is then tested.

Training and test never share a photograph or a video.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from flatconv.study import data
from flatconv.study.windows import DIRECTIONS, Clips, Window, moving, ordered, scenes

Name = Literal["photographs", "videos", "order", "moment"]
"""Windows over photographs, windows over videos, frames in order or shuffled, windows that move for a moment."""

HEIGHT = {"photographs": 96, "videos": 48}
"""Rows of the pictures from which windows are cut."""

CUT = 0.1
"""Mean change from one frame to the next, of a range of 1, at which a video is taken to be cut. Elsewhere it is below 0.08."""

EARLY, LATE, STEPS = (0, 1), (3, 4), 2
"""When a window that moves for a moment may begin: in training, and in the later test; and how often it moves. Of 7 frames."""


@dataclass(frozen=True)
class Task:
    """One of the tasks.

    Attributes:
        name: which.
        noise: added to each frame, in units of the clip's spread. Without it some tasks are too easy to tell networks apart.
    """

    name: Name
    noise: float

    @property
    def classes(self) -> int:
        """To tell apart."""
        return 2 if self.name == "order" else len(DIRECTIONS)

    @property
    def situations(self) -> tuple[str, ...]:
        """The tests of a trained network."""
        return {
            "photographs": ("window over photographs",),
            "videos": ("window over videos",),
            "order": ("video in order or shuffled",),
            "moment": ("brief move", "brief move, later than in training"),
        }[self.name]


@dataclass(frozen=True)
class Examples:
    """Of one task and seed.

    Attributes:
        train: what is learned from.
        tests: from situation to clips of held-out pictures.
    """

    train: Clips
    tests: Mapping[str, Clips]


def examples(task: Task, window: Window, seed: int, train: int, test: int, film: int) -> Examples:
    """Draw the clips of a task.

    Args:
        task: which.
        window: how clips are cut; the task has its own noise.
        seed: decides what is held out (two of eight photographs, one of three videos) and what is drawn.
        train: clips to learn from.
        test: clips of each situation.
        film: frames of each video that are used, at most.

    Returns:
        The clips.
    """
    random = torch.Generator().manual_seed(seed)
    how = replace(window, noise=task.noise)
    still = task.name in ("photographs", "moment")
    sources = _stills() if still else _videos(1 + max(how.speeds) * (how.frames - 1), film)
    held = {seed % len(sources), (seed + 3) % len(sources)}  # of three videos these are one and the same
    seen = [film for i, films in enumerate(sources) if i not in held for film in films]
    unseen = [film for i, films in enumerate(sources) if i in held for film in films]
    match task.name:
        case "order":
            shown, tests = ordered(seen, train, how, random), [ordered(unseen, test, how, random)]
        case "moment":
            shown = moving(seen, train, how, random, EARLY, STEPS)
            tests = [moving(unseen, test, how, random, when, STEPS) for when in (EARLY, LATE)]
        case _:
            shown, tests = moving(seen, train, how, random), [moving(unseen, test, how, random)]
    return Examples(shown, dict(zip(task.situations, tests, strict=True)))


@cache
def _stills() -> tuple[tuple[Tensor, ...], ...]:
    """Each photograph as a film of one frame: its brightness, (1, 96, W)."""
    return tuple((_grey(p[None], HEIGHT["photographs"]),) for p in data.photographs())


@cache
def _videos(shortest: int, frames: int) -> tuple[tuple[Tensor, ...], ...]:
    """Each video as its scenes: brightness, (T, 48, W)."""
    films = [_grey(data.clip(name, HEIGHT["videos"], frames), HEIGHT["videos"]) for name in data.CLIPS]
    return tuple(scenes(film, CUT, shortest) for film in films)


def _grey(pictures: Tensor, height: int) -> Tensor:
    """The mean of the colours of (T, 3, H, W), averaged to a height."""
    width = round(pictures.shape[3] * height / pictures.shape[2])
    return F.interpolate(pictures.mean(1, keepdim=True), size=(height, width), mode="area")[:, 0]
