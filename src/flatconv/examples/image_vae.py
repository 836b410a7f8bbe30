"""A causal 3-D autoencoder for images and videos, in the style of the Wan and Qwen-Image autoencoders.

A video is read front to back: every convolution over time sees the current frame and those before it, with zeros in
front of the first. So a single image is a video of one frame, all but the last tap of every kernel meets zeros, and the
network is a 2-D one that pays for a 3-D one.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from flatconv.examples.seeding import seeded

WEIGHTS = Path(__file__).with_name("image_vae.safetensors")


class CausalConv3d(nn.Conv3d):
    """A 3-D convolution with 'same' padding on H and W, and all of its depth padding (kT - 1 zeros) in front."""

    def __init__(self, channels_in: int, channels_out: int, kernel: tuple[int, int, int]):
        super().__init__(channels_in, channels_out, kernel)
        depth, height, width = kernel
        # F.pad counts from the last axis: W before and after, H before and after, D before and after.
        self.margins = (width // 2, width // 2, height // 2, height // 2, depth - 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) -> (N, C', D, H, W)."""
        return super().forward(F.pad(x, self.margins))


class RMSNorm(nn.Module):
    """y = x / rms(x over channels) * gamma, for any number of axes after the channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = channels**0.5
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> the same."""
        gamma = self.gamma.view(-1, *[1] * (x.ndim - 2))
        y: Tensor = F.normalize(x, dim=1) * self.scale * gamma
        return y


class ResidualBlock(nn.Module):
    """y = shortcut(x) + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.residual = nn.Sequential(
            RMSNorm(channels_in),
            nn.SiLU(),
            CausalConv3d(channels_in, channels_out, (3, 3, 3)),
            RMSNorm(channels_out),
            nn.SiLU(),
            CausalConv3d(channels_out, channels_out, (3, 3, 3)),
        )
        self.shortcut = (
            nn.Identity() if channels_in == channels_out else CausalConv3d(channels_in, channels_out, (1, 1, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) -> (N, C', D, H, W)."""
        y: Tensor = self.shortcut(x) + self.residual(x)
        return y


def frames_to_batch(x: Tensor) -> Tensor:
    """(N, C, D, H, W) -> (N*D, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def batch_to_frames(x: Tensor, depth: int) -> Tensor:
    """(N*D, C, H, W) -> (N, C, D, H, W)."""
    return x.reshape(-1, depth, *x.shape[1:]).transpose(1, 2)


class FrameAttention(nn.Module):
    """Single-head self-attention among the positions of one frame, added to the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = RMSNorm(channels)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.to_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) -> the same."""
        frames = frames_to_batch(x)
        qkv = self.to_qkv(self.norm(frames)).flatten(2).transpose(1, 2)  # (N*D, H*W, 3C)
        query, key, value = qkv.unsqueeze(1).chunk(3, dim=-1)
        attended = F.scaled_dot_product_attention(query, key, value).squeeze(1)
        attended = attended.transpose(1, 2).reshape(frames.shape)
        return x + batch_to_frames(self.to_out(attended), x.shape[2])


class Downsample(nn.Module):
    """Halves H and W, then mixes each frame with the two before it."""

    def __init__(self, channels: int):
        super().__init__()
        self.space = nn.Conv3d(channels, channels, (1, 3, 3), stride=(1, 2, 2))
        self.time = CausalConv3d(channels, channels, (3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) -> (N, C, D, H/2, W/2)."""
        # Padding on the right and below only, so that an even H gives exactly H/2.
        y: Tensor = self.time(self.space(F.pad(x, (0, 1, 0, 1))))
        return y


class Upsample(nn.Module):
    """Doubles H and W, one frame at a time."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) -> (N, C, D, 2H, 2W)."""
        frames = F.interpolate(frames_to_batch(x), scale_factor=2.0, mode="nearest")
        return batch_to_frames(self.conv(frames), x.shape[2])


def middle(channels: int) -> list[nn.Module]:
    """The layers at the lowest resolution, the only place where a position sees its whole frame."""
    return [ResidualBlock(channels, channels), FrameAttention(channels), ResidualBlock(channels, channels)]


class ImageVAE(nn.Module):
    """An autoencoder with 8-fold compression of H and W, and none of time."""

    def __init__(self, widths: Sequence[int] = (32, 48, 64, 64), latent: int = 16):
        super().__init__()
        first, *_, last = widths

        encoder: list[nn.Module] = [CausalConv3d(3, first, (3, 3, 3))]
        for index, width in enumerate(widths):
            if index > 0:
                encoder.append(Downsample(widths[index - 1]))
            encoder.append(ResidualBlock(widths[max(index - 1, 0)], width))
        encoder += [*middle(last), RMSNorm(last), nn.SiLU(), CausalConv3d(last, latent, (3, 3, 3))]
        self.encoder = nn.Sequential(*encoder)

        decoder: list[nn.Module] = [CausalConv3d(latent, last, (3, 3, 3)), *middle(last)]
        for index in reversed(range(len(widths))):
            decoder.append(ResidualBlock(widths[min(index + 1, len(widths) - 1)], widths[index]))
            if index > 0:
                decoder.append(Upsample(widths[index]))
        decoder += [RMSNorm(first), nn.SiLU(), CausalConv3d(first, 3, (3, 3, 3))]
        self.decoder = nn.Sequential(*decoder)

        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                # Unit gain on a single frame, which meets one depth tap alone: it trains faster than PyTorch's default.
                height, width = module.kernel_size[-2:]
                nn.init.normal_(module.weight, std=(module.in_channels * height * width) ** -0.5)
            if isinstance(module, nn.Conv3d) and module.kernel_size == (3, 1, 1):
                # A convolution over time alone starts by passing the current frame on.
                nn.init.eye_(module.weight.detach()[:, :, -1, 0, 0])

    def encode(self, x: Tensor) -> Tensor:
        """(N, 3, D, H, W) -> the latent (N, 16, D, H/8, W/8)."""
        z: Tensor = self.encoder(x)
        return z

    def decode(self, z: Tensor) -> Tensor:
        """The latent (N, 16, D, H/8, W/8) -> (N, 3, D, H, W) in [-1, 1]."""
        x: Tensor = self.decoder(z)
        return x.clamp(-1.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, D, H, W) in [-1, 1] -> the same, for any D and for H and W multiples of 8."""
        return self.decode(self.encode(x))


def image_vae(pretrained: bool = True, seed: int = 0) -> ImageVAE:
    """A causal 3-D image autoencoder of 2 million parameters, in eval mode.

    Shapes: (N, 3, D, H, W) in [-1, 1] -> the same, for any D and for H and W multiples of 8

    Args:
        pretrained: loads the weights that ship with flatconv, trained on photographs by `examples/train_image_vae.py`.
            As they saw single images only, taps on earlier frames still have their first, random values.
        seed: of the random weights when not pretrained.
    """
    with seeded(seed):
        model = ImageVAE().eval()
    if pretrained:
        # Stored in half precision to keep the package small; copied into the model's own dtype.
        model.load_state_dict(load_file(WEIGHTS))
    return model
