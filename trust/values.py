"""Numbers for weights and inputs, drawn from a seed and a name, so that the same recipe can have several kinds of them.

These functions are printed into every reproduction and use nothing but torch and zlib.
"""

from __future__ import annotations

import zlib

import torch
from torch import nn


def numbers(shape: tuple[int, ...], key: str, how: str = "full", bits: int = 0) -> torch.Tensor:
    """Numbers in float64.

    Args:
        shape: of the tensor.
        key: the seed; the same key gives the same numbers.
        how: "full": normal float32 numbers; "grid": normal numbers rounded to multiples of ``2**-bits``; "dyadic": small
            whole numbers, one slice of them times ``2**-bits``.
        bits: see ``how``.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    if how == "full":
        return torch.randn(shape, generator=generator, dtype=torch.float32).double() / 2
    if how == "grid":
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64).clamp(-7, 7) / 2
        return (drawn * 2.0**bits).round() / 2.0**bits
    drawn = torch.tensor([-2.0, -1.0, 1.0, 2.0, 3.0], dtype=torch.float64)[
        torch.randint(0, 5, shape, generator=generator)
    ]
    axes = [a for a, size in enumerate(shape) if a >= min(2, len(shape) - 1) and size > 1]
    if bits and axes:
        axis = axes[int(torch.randint(0, len(axes), (), generator=generator))]
        drawn.select(axis, int(torch.randint(0, shape[axis], (), generator=generator))).mul_(2.0**-bits)
    return drawn


def fill(model: nn.Module, seed: int, how: str = "full", bits: int = 0) -> nn.Module:
    """Give every weight its numbers, in place; variances are positive."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(numbers(tuple(weight.shape), f"{seed}/{name}", how, bits))
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                drawn = numbers(tuple(buffer.shape), f"{seed}/{name}", how, bits)
                buffer.copy_(drawn.abs() + 0.5 if name.endswith("var") else drawn)
    return model
