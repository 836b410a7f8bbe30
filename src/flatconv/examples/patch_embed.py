"""The patch embedding of Qwen2-VL and its relatives: a 3-D convolution whose kernel covers its whole input.

A processor has cut the frames into patches and laid each out flat; an image is repeated to fill a patch's frames. The
convolution then has exactly one output position for each patch, so it is a matrix product in disguise. The graph cannot show
that the frames are equal: ``assume={"patches": flatconv.repeated(dim=1, within=(3, 2, 14, 14), axis=1)}`` halves it.
"""

from torch import Tensor, nn

from flatconv.examples.seeding import seeded


class PatchEmbed(nn.Module):
    """y = W x, one row for each patch, written as a 3-D convolution."""

    def __init__(self, patch: int, frames: int, width: int, channels: int):
        super().__init__()
        self.shape = (channels, frames, patch, patch)
        self.width = width
        kernel = (frames, patch, patch)
        self.proj = nn.Conv3d(channels, width, kernel, stride=kernel, bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        """(L, channels*frames*patch*patch) -> (L, width)."""
        embedded: Tensor = self.proj(patches.view(-1, *self.shape))
        return embedded.view(-1, self.width)


def patch_embed(patch: int = 14, frames: int = 2, width: int = 1280, channels: int = 3, seed: int = 0) -> PatchEmbed:
    """A Qwen2-VL patch embedding with random weights, in eval mode.

    Shapes: (L, channels*frames*patch*patch) -> (L, width)

    Args:
        patch: height and width of a patch.
        frames: frames in a patch.
        width: length of a patch's embedding.
        channels: colour channels.
        seed: of the random weights.
    """
    with seeded(seed):
        return PatchEmbed(patch, frames, width, channels).eval()
