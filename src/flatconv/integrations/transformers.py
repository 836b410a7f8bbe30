"""transformers' vision-language and video models: their patch embeddings are matrix products.

    from flatconv.integrations.transformers import patch_embeddings

    patched = patch_embeddings(model)

The vision towers of Qwen2-VL, Qwen2.5-VL, Qwen3-VL and their kin hold one Conv3d each, whose stride is its kernel, and which is
called on patches that the processor has laid out flat. No picture is needed to fold it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from flatconv.errors import RefusedError
from flatconv.patch import Patched, patch
from flatconv.route import Call

PATCHES = 256
"""Of the example; any number is taken."""


def patch_embeddings(model: nn.Module, *, patches: int = PATCHES, **how: Any) -> Patched:
    """Fold the patch embeddings of a model in place, and nothing else of it.

    Args:
        model: with one or more modules that take (patches, channels · kernel) and give (patches, width).
        patches: that forms are timed on.
        how: for ``flatconv.patch``.

    Raises:
        RefusedError: there is no patch embedding that takes flat patches.
    """
    found = {}
    for path, module in model.named_modules():
        conv = next((c for c in module.children() if isinstance(c, nn.Conv3d)), None)
        if conv is None or conv.kernel_size != conv.stride or conv.groups != 1:
            continue
        weight = conv.weight
        flat = torch.randn((patches, weight[0].numel()), generator=torch.Generator().manual_seed(0))
        example = flat.to(weight.device, weight.dtype)
        try:
            with torch.no_grad():
                result = module(example)
        except Exception:  # a module of another kind around such a convolution
            continue
        if isinstance(result, torch.Tensor) and result.shape == (patches, conv.out_channels):
            found[path] = Call(example)
    if not found:
        raise RefusedError(
            f"{type(model).__name__} has no patch embedding that takes flat patches, which is a module around a Conv3d whose "
            "stride is its kernel: call flatconv.patch with an example call of the model"
        )
    return patch(model, {f"{path}.forward" if path else "forward": call for path, call in found.items()}, **how)
