"""diffusers' autoencoders of video, used on images.

    from flatconv.integrations.diffusers import patch_autoencoder

    patched = patch_autoencoder(pipeline.vae, height=1024, width=1024)

A pipeline goes on calling ``vae.encode`` and ``vae.decode``; single images take the folded programs, of any batch, height and
width that the model allows, and videos, tiles and slices the model's own code.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from flatconv.errors import InputError
from flatconv.patch import Patched, patch
from flatconv.route import Call

METHODS = ("encode", "decode")
LATENT = ("z_dim", "latent_channels")
"""Names of the number of latent channels in configurations."""


def patch_autoencoder(
    vae: nn.Module,
    height: int = 256,
    width: int = 256,
    *,
    frames: int = 1,
    methods: Iterable[str] = METHODS,
    **how: Any,
) -> Patched:
    """Fold ``encode`` and ``decode`` of an autoencoder in place, with and without ``return_dict``.

    Args:
        vae: such as AutoencoderKLWan, AutoencoderKLQwenImage, AutoencoderKLHunyuanVideo, AutoencoderKLCogVideoX.
        height: of the pictures, in pixels, that forms are timed and checked on; others are taken too.
        width: likewise.
        frames: of the pictures; 1 for images.
        methods: which of the two.
        how: for ``flatconv.patch``.

    Raises:
        InputError: the model has no such methods, or its sizes are not known.
        RefusedError: neither method can be folded.
    """
    config: Any = getattr(vae, "config", None) or {}
    channels = next((config[name] for name in LATENT if name in config), None)
    if channels is None or not all(callable(getattr(vae, m, None)) for m in METHODS):
        raise InputError(
            f"{type(vae).__name__} is no autoencoder with encode, decode and a configuration that names its latent channels "
            f"({' or '.join(LATENT)}): call flatconv.patch with example calls"
        )
    like = next(vae.parameters())
    noise = torch.Generator().manual_seed(0)

    def example(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=noise).to(like.device, like.dtype)

    examples = {"encode": example(1, int(config.get("in_channels", 3)), frames, height, width)}
    if "decode" in methods:
        with torch.no_grad():
            # The scale of the latent has no name that all of them share, so it is looked at.
            encode: Any = vae.encode
            sizes = encode(examples["encode"]).latent_dist.mode().shape[2:]
        examples["decode"] = example(1, int(channels), *sizes)
    calls = {m: [Call(examples[m]), Call(examples[m], return_dict=False)] for m in methods}
    return patch(vae, calls, **how)
