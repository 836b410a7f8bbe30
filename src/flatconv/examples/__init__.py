"""Four small networks with 3-D convolutions, to try flatconv on without downloading anything.

Each is a factory that returns an `nn.Module` in eval mode with reproducible weights:

    image_vae     a causal 3-D image and video autoencoder, with trained weights
    r3d18         a residual video classifier
    unet3d        a 3-D segmentation network with anisotropic pooling
    patch_embed   the patch embedding of a vision-language model
"""

from flatconv.examples.image_vae import image_vae
from flatconv.examples.patch_embed import patch_embed
from flatconv.examples.r3d18 import r3d18
from flatconv.examples.unet3d import unet3d

__all__ = ["image_vae", "patch_embed", "r3d18", "unet3d"]
