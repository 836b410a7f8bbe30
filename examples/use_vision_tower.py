"""The vision tower of Qwen2-VL, which cannot be captured whole: its patch embedding becomes a matrix product.

    python examples/use_vision_tower.py

A small tower with weights that mean nothing stands for the real one. Needs ``flatconv[transformers]``.
"""

import torch
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

from flatconv.integrations.transformers import patch_embeddings

torch.manual_seed(0)
config = Qwen2VLVisionConfig(depth=2, embed_dim=128, hidden_size=64, num_heads=4)
tower = Qwen2VisionTransformerPretrainedModel(config).eval()

# Two pictures of 16×16 and 8×16 patches, as the processor lays them out: a row is 3 · 2 · 14 · 14 numbers.
grid = torch.tensor([[1, 16, 16], [1, 8, 16]])
pixels = torch.randn(int(grid.prod(1).sum()), 3 * 2 * 14 * 14)
with torch.no_grad():
    before = tower(pixels, grid_thw=grid)

with patch_embeddings(tower) as patched, torch.no_grad():
    after = tower(pixels, grid_thw=grid)
    print(patched)

a, b = (r.pooler_output for r in (before, after))
print(f"{type(after).__name__} {tuple(b.shape)}, largest difference {float((a - b).abs().max()):.1e}")
