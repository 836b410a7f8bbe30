"""A 3-D U-Net for volumes with thick slices: it pools H and W but never the depth, so a single slice is welcome too.

Every convolution over depth pads it with zeros on both sides, so one slice meets the centre tap alone.
"""

import torch
from torch import Tensor, nn

from flatconv.examples.seeding import seeded


def double_conv(channels_in: int, channels_out: int) -> nn.Sequential:
    """Twice (convolution, group norm, leaky ReLU): (N, C, D, H, W) -> (N, C', D, H, W)."""
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        layers += [
            nn.Conv3d(channels, channels_out, 3, padding=1),
            nn.GroupNorm(4, channels_out),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet3d(nn.Module):
    """Down and up over `levels` resolutions, with a skip connection at each but the lowest."""

    def __init__(self, channels_in: int, channels_out: int, width: int, levels: int):
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.down = nn.ModuleList(
            double_conv(before, after) for before, after in zip([channels_in, *widths], widths, strict=False)
        )
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose3d(2 * after, after, (1, 2, 2), stride=(1, 2, 2)) for after in widths[:-1]
        )
        self.up = nn.ModuleList(double_conv(2 * after, after) for after in widths[:-1])
        self.head = nn.Conv3d(width, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) -> (N, C', D, H, W), for any D and for H and W multiples of 2^(levels - 1)."""
        skips = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            skips.append(x)
        skips.pop()  # the lowest level has nothing to skip
        for enlarge, block in zip(reversed(self.enlarge), reversed(self.up), strict=True):
            x = block(torch.cat([skips.pop(), enlarge(x)], dim=1))
        scores: Tensor = self.head(x)
        return scores


def unet3d(channels_in: int = 1, channels_out: int = 2, width: int = 16, levels: int = 4, seed: int = 0) -> UNet3d:
    """A 3-D U-Net with random weights, in eval mode.

    Shapes: (N, channels_in, D, H, W) -> (N, channels_out, D, H, W), for any D and for H and W multiples of
        2^(levels - 1)

    Args:
        channels_in: channels of the volume.
        channels_out: scores for each voxel.
        width: channels at full resolution; they double at each lower level. A multiple of 4.
        levels: the number of resolutions.
        seed: of the random weights.
    """
    with seeded(seed):
        model = UNet3d(channels_in, channels_out, width, levels)
        for module in model.modules():
            if isinstance(module, nn.GroupNorm):
                # A fresh norm has weight 1 and bias 0, which would hide a mistake with either.
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0.0, 0.1)
    return model.eval()
