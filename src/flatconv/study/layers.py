"""What is timed: a chain of 3-D convolutions on images of depth 1, and the same chain in 2-D.

Both have the same function: the 2-D weights are the one tap of each kernel that meets the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Chain:
    """Convolutions one after another, with ReLU between them, that keep the size of the plane.

    Attributes:
        channels: before the first, between them, and after the last; two numbers are one layer.
        size: of the plane, both ways.
    """

    channels: tuple[int, ...]
    size: int

    @property
    def name(self) -> str:
        """As it stands in tables."""
        what = "→".join(map(str, self.channels))
        layers = len(self.channels) - 1
        return f"{what}, {self.size}²" if layers == 1 else f"{layers} layers {what}, {self.size}²"


LAYERS = (Chain((3, 32), 128), Chain((32, 64), 64), Chain((64, 64), 64))
"""Single layers: the first of a network, one that widens, one in the middle."""

NETWORK = Chain((3, 32, 32, 32, 16), 64)
"""A small whole one."""


def direct(chain: Chain, depth: int, seed: int = 0) -> nn.Sequential:
    """The chain with kernels of (depth, 3, 3), symmetric zero padding and default weights.

    Args:
        chain: of layers.
        depth: of the kernels, odd.
        seed: of the weights.

    Returns:
        A network for (N, C, 1, H, W), in eval mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        convs = [nn.Conv3d(a, b, (depth, 3, 3), padding=(depth // 2, 1, 1)) for a, b in pairwise(chain.channels)]
    return _joined(convs)


def flat(network: nn.Sequential) -> nn.Sequential:
    """The same function of an image, written in 2-D by hand: (N, C, H, W)."""
    convs: list[nn.Module] = []
    for layer in network:
        if isinstance(layer, nn.Conv3d):
            conv = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
            with torch.no_grad():
                conv.weight.copy_(layer.weight[:, :, layer.kernel_size[0] // 2])
                if layer.bias is not None and conv.bias is not None:
                    conv.bias.copy_(layer.bias)
            convs.append(conv)
    return _joined(convs)


def images(chain: Chain, batch: int, seed: int = 0) -> Tensor:
    """Inputs of normal noise, (N, C, 1, H, W). What is in them does not change the time."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(batch, chain.channels[0], 1, chain.size, chain.size, generator=random)


def _joined(convs: Sequence[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for conv in convs:
        layers += [conv, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()
