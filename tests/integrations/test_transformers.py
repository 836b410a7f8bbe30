"""Patch embeddings of vision towers in place; nothing else of the tower changes."""

import copy

import pytest
import torch
from torch import nn

import flatconv
from flatconv.integrations.transformers import patch_embeddings

pytest.importorskip("transformers")


def qwen2():
    from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

    return Qwen2VisionTransformerPretrainedModel(
        Qwen2VLVisionConfig(depth=1, embed_dim=32, hidden_size=32, num_heads=2)
    )


def qwen2_5():
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

    settings = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "out_hidden_size": 32}
    return Qwen2_5_VisionTransformerPretrainedModel(Qwen2_5_VLVisionConfig(**settings, fullatt_block_indexes=[0]))


def qwen3():
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

    settings = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "out_hidden_size": 32}
    return Qwen3VLVisionModel(Qwen3VLVisionConfig(**settings, deepstack_visual_indexes=[0]))


def tensors(result):
    leaves = torch.utils._pytree.tree_leaves(result)
    return [t for t in leaves if isinstance(t, torch.Tensor)]


@pytest.mark.parametrize("build", [qwen2, qwen2_5, qwen3])
@pytest.mark.parametrize("how", ["by name", "by its call"])
def test_a_whole_tower(build, how):
    torch.manual_seed(0)
    tower = build().eval()
    plain = copy.deepcopy(tower)
    size = tower.patch_embed.proj.weight[0].numel()
    grid = torch.tensor([[1, 4, 4], [1, 8, 4]])
    pixels = torch.randn(48, size, generator=torch.Generator().manual_seed(1))
    if how == "by name":
        patched = patch_embeddings(tower, tune=False)
    else:
        patched = flatconv.patch(tower, {"forward": flatconv.Call(pixels, grid_thw=grid)}, tune=False)
    assert set(patched.routes) == {"patch_embed.forward"}
    with torch.no_grad():
        found, wanted = tower(pixels, grid_thw=grid), plain(pixels, grid_thw=grid)
    assert type(found) is type(wanted)
    assert len(tensors(found)) == len(tensors(wanted)) > 0
    for a, b in zip(tensors(found), tensors(wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert patched.counts["patch_embed.forward"].folded == 1
    assert type(tower) is type(plain)
    assert [type(m) for m in tower.blocks] == [type(m) for m in plain.blocks]


def test_models_without_one_are_refused():
    with pytest.raises(flatconv.RefusedError, match="has no patch embedding that takes flat patches"):
        patch_embeddings(nn.Sequential(nn.Conv3d(1, 1, 2, stride=2)))
