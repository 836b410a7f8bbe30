"""Reproducible weights that leave the caller's random numbers alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws CPU random numbers from `seed` inside the block and gives the caller's state back after it."""
    # Not `torch.manual_seed`: it would seed the accelerators too, whose state is not saved here.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
