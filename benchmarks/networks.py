"""The networks that are measured: each as its authors wrote it, and once more by hand in two dimensions.

A network that is written by hand is what `flatconv.fold` is compared with, so it is written as a careful person would
write it: rank 4 from end to end, only the taps that meet data, no operator that does nothing, in plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SEED = 0


@dataclass(frozen=True)
class Network:
    """A 3-D network fed with one 2-D image.

    Attributes:
        name: its key in the results.
        title: its name in tables and figures.
        settings: what it was built with, by name.
        original: builds the network as its authors wrote it, in eval mode, with seeded weights.
        by_hand: writes it again in two dimensions, with the weights of the original that it is given.
        shape: the shape of the input of one image, (batch, channels, 1, height, width).
    """

    name: str
    title: str
    settings: dict[str, Any]
    original: Callable[[], nn.Module]
    by_hand: Callable[[nn.Module], nn.Module]
    shape: tuple[int, ...]

    def example(self, batch: int = 1) -> Tensor:
        """A seeded input; every call gives the same one."""
        generator = torch.Generator().manual_seed(SEED + 1)
        return torch.randn(batch, *self.shape[1:], generator=generator)


def last_tap(conv: nn.Conv3d) -> nn.Conv2d:
    """The causal 3-D convolution of one image in two dimensions: all taps but the last meet the zeros in front."""
    return _planar(conv, tap=-1)


def centre_tap(conv: nn.Conv3d) -> nn.Conv2d:
    """The 'same' 3-D convolution of one image in two dimensions: all taps but the centre one meet the padding."""
    return _planar(conv, tap=conv.kernel_size[0] // 2)


def _planar(conv: nn.Conv3d, tap: int) -> nn.Conv2d:
    height, width = conv.kernel_size[1:]
    flat = nn.Conv2d(conv.in_channels, conv.out_channels, (height, width), padding=(height // 2, width // 2))
    with torch.no_grad():
        flat.weight.copy_(conv.weight[:, :, tap])
        flat.bias.copy_(conv.bias)
    return flat


# Four plain layers.


def _stack(channels: int, layers: int) -> nn.Module:
    torch.manual_seed(SEED)
    convs = [nn.Conv3d(channels, channels, 3, padding=1) for _ in range(layers)]
    return _relu_between(convs).eval()


def _stack_by_hand(original: nn.Module) -> nn.Module:
    return _relu_between([centre_tap(layer) for layer in original if isinstance(layer, nn.Conv3d)]).eval()


def _relu_between(convs: list[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for conv in convs:
        layers += [conv, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def stack4(channels: int = 64, size: int = 128) -> Network:
    """Four 3x3x3 convolutions, zero padding on all sides, a ReLU after each of the first three."""
    return Network(
        name="stack4",
        title=f"four Conv3d({channels}, {channels}, 3, padding=1), one {size}×{size} image",
        settings={"channels": channels, "layers": 4, "relu": "between the layers, none after the last"},
        original=lambda: _stack(channels, 4),
        by_hand=_stack_by_hand,
        shape=(1, channels, 1, size, size),
    )


# The decoder of a causal image autoencoder.


class Decode(nn.Module):
    """`vae.decode` as a module from a tensor to a tensor; the encoder, which it does not call, is taken out."""

    def __init__(self, vae: nn.Module):
        super().__init__()
        vae.encoder, vae.quant_conv = nn.Identity(), nn.Identity()
        self.vae = vae

    def forward(self, z: Tensor) -> Tensor:
        return self.vae.decode(z, return_dict=False)[0]


class RMSNorm(nn.Module):
    """Every pixel's channels scaled to unit mean square, times a weight a channel."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.scale = norm.scale
        self.gamma = nn.Parameter(norm.gamma.detach().reshape(-1, 1, 1).clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * self.scale * self.gamma


class Residual(nn.Module):
    """Norm, SiLU and a 3x3 convolution, twice, beside a shortcut."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.norm1, self.conv1 = RMSNorm(block.norm1), last_tap(block.conv1)
        self.norm2, self.conv2 = RMSNorm(block.norm2), last_tap(block.conv2)
        shortcut = block.conv_shortcut
        self.shortcut = last_tap(shortcut) if isinstance(shortcut, nn.Conv3d) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(self.norm2(y))) + self.shortcut(x)


class Attention(nn.Module):
    """Self-attention over the pixels, one head."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.norm = RMSNorm(block.norm)
        self.to_qkv, self.proj = _copied(block.to_qkv), _copied(block.proj)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        qkv = self.to_qkv(self.norm(x)).reshape(batch, 1, 3 * channels, height * width)
        q, k, v = qkv.transpose(2, 3).contiguous().chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(2, 3).reshape(batch, channels, height, width)) + x


def _copied(conv: nn.Conv2d) -> nn.Conv2d:
    copy = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
    copy.load_state_dict(conv.state_dict())
    return copy


def _decoder_layers(vae: nn.Module) -> Iterator[nn.Module]:
    decoder = vae.decoder
    yield last_tap(vae.post_quant_conv)
    yield last_tap(decoder.conv_in)
    first, *others = decoder.mid_block.resnets
    yield Residual(first)
    for attention, block in zip(decoder.mid_block.attentions, others, strict=True):
        yield Attention(attention)
        yield Residual(block)
    for up in decoder.up_blocks:
        yield from (Residual(block) for block in up.resnets)
        # The convolution along time of an upsampler is not called on the first image, so it has no place here.
        for upsampler in up.upsamplers or ():
            yield nn.Upsample(scale_factor=2.0, mode="nearest-exact")
            yield _copied(upsampler.resample[1])
    yield RMSNorm(decoder.norm_out)
    yield nn.SiLU()
    yield last_tap(decoder.conv_out)
    yield nn.Hardtanh(-1.0, 1.0)


def _qwen(base_dim: int) -> nn.Module:
    from diffusers import AutoencoderKLQwenImage

    torch.manual_seed(SEED)
    vae = AutoencoderKLQwenImage(base_dim=base_dim, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2)
    return Decode(vae).eval()


def qwen_decoder(base_dim: int = 32, latent: int = 32) -> Network:
    """The decoder of diffusers' AutoencoderKLQwenImage, causal in time, without tiling."""
    return Network(
        name="qwen_decoder",
        title=f"AutoencoderKLQwenImage(base_dim={base_dim}).decode to one {8 * latent}×{8 * latent} image",
        settings={"base_dim": base_dim, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "tiling": False},
        original=lambda: _qwen(base_dim),
        by_hand=lambda original: nn.Sequential(*_decoder_layers(original.vae)).eval(),
        shape=(1, 16, 1, latent, latent),
    )


def networks(quick: bool = False) -> dict[str, Network]:
    """All networks by name; `quick` makes them small, to see that the benchmark runs."""
    both = (stack4(8, 32), qwen_decoder(8, 8)) if quick else (stack4(), qwen_decoder())
    return {network.name: network for network in both}
