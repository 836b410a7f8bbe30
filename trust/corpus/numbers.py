"""Numbers at the ends of their range: negative zero, subnormals, sums beyond half, taps of very different size."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trust.trap import Args, Make, Trap, c3, x


def _overflow() -> tuple[nn.Module, Args]:
    conv = c3(2, 3, (3, 1, 1), padding=(1, 0, 0), padding_mode="replicate")
    with torch.no_grad():
        conv.weight.fill_(40000.0)
    return conv.half(), (x(2, 2, 1, 5, 7).half() / 4096,)


def _scaled(factor: float, dtype: torch.dtype, **options: Any) -> Make:
    """Taps of very different size: the small ones count where the data that they meet is large."""

    def make() -> tuple[nn.Module, Args]:
        conv = c3(2, 3, 3, **options).to(dtype)
        with torch.no_grad():
            conv.weight.copy_(torch.randn_like(conv.weight))
            conv.weight[:, 0] *= factor
            conv.bias.copy_(torch.randn_like(conv.bias) * factor)
        tensor = torch.randn(2, 2, 1, 5, 7)
        tensor[:, 1] = 0
        return conv, (tensor.to(dtype),)

    return make


def _negative_zero() -> tuple[nn.Module, Args]:
    conv = c3(2, 3, 3, padding=1)
    with torch.no_grad():
        conv.weight.copy_(torch.where(torch.rand(conv.weight.shape) < 0.3, -0.0, x(*conv.weight.shape)))
        conv.bias.fill_(-0.0)
    tensor = x(2, 2, 1, 5, 7)
    return conv.double(), (torch.where(tensor < -2, -0.0, tensor),)


def _random(dtype: torch.dtype, **options: Any) -> Make:
    def make() -> tuple[nn.Module, Args]:
        conv = c3(4, 5, 3, **options)
        with torch.no_grad():
            conv.weight.copy_(torch.randn_like(conv.weight))
        return conv.to(dtype), (torch.randn(2, 4, 1, 6, 7).to(dtype),)

    return make


ALL = (
    Trap("negative-zero", "small-and-large", _negative_zero, exact=True, fill=False),
    Trap("small-taps", "small-and-large", _scaled(1e-9, torch.float64, padding=1), fill=False),
    Trap(
        "small-taps-single", "small-and-large", _scaled(1e-9, torch.float32, padding=1), fill=False, dtype=torch.float32
    ),
    Trap("subnormal-taps", "small-and-large", _scaled(1e-310, torch.float64, padding=1), fill=False, exact=True),
    Trap(
        "small-merged-taps",
        "small-and-large",
        _scaled(1e-9, torch.float64, padding=1, padding_mode="replicate"),
        fill=False,
    ),
    Trap(
        "sum-overflows-half",
        "small-and-large",
        _overflow,
        expect="refused",
        says="add up to more than",
        dtype=torch.float16,
        fill=False,
    ),
    Trap("random-single", "small-and-large", _random(torch.float32, padding=1), fill=False, dtype=torch.float32),
    Trap(
        "random-single-merged",
        "small-and-large",
        _random(torch.float32, padding=1, padding_mode="replicate"),
        fill=False,
        dtype=torch.float32,
    ),
    Trap(
        "random-bfloat",
        "small-and-large",
        _random(torch.bfloat16, padding=1, padding_mode="replicate"),
        fill=False,
        dtype=torch.bfloat16,
    ),
    Trap(
        "random-double-merged",
        "small-and-large",
        _random(torch.float64, padding=1, padding_mode="replicate"),
        fill=False,
    ),
)
