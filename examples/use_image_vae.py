"""An image VAE of diffusers, patched in place: pictures take the fold, a video the model's own code.

    python examples/use_image_vae.py

A small AutoencoderKLWan with weights that mean nothing stands for the real one, of which
``AutoencoderKLWan.from_pretrained(...)`` would load the weights. Needs ``flatconv[diffusers]``.
"""

import torch
from diffusers import AutoencoderKLWan

from flatconv.integrations.diffusers import patch_autoencoder

torch.manual_seed(0)
vae = AutoencoderKLWan(
    base_dim=8, z_dim=4, dim_mult=[1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True]
).eval()

picture, video = torch.rand(2, 3, 1, 64, 96) * 2 - 1, torch.rand(1, 3, 5, 64, 96) * 2 - 1
with torch.no_grad():
    before = [vae.decode(vae.encode(x).latent_dist.mode()).sample for x in (picture, video)]

with patch_autoencoder(vae, height=64, width=96) as patched, torch.no_grad():
    after = [vae.decode(vae.encode(x).latent_dist.mode()).sample for x in (picture, video)]
    print(patched)

for name, a, b in zip(("pictures", "video"), before, after, strict=True):
    print(f"{name}: {tuple(a.shape)}, largest difference {float((a - b).abs().max()):.1e}")
print(f"afterwards it is a plain {type(vae).__name__} again")
