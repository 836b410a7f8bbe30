"""A 3-D kernel straight on one image: what really happens.

Take an ordinary ``Conv3d`` with a 3×3×3 kernel, give the image a depth of one, and run it. It works, and two thirds of what
is paid for multiplies zeros: the tap in the *middle* of the kernel meets the image, the ones before and behind it meet padding.
With causal padding it would be the last tap, with replicated borders the sum of all three; never simply the first.

    python examples/article_direct.py
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import flatconv
from flatconv.inputs import read_image

PHOTO = Path(__file__).parent / "photo.png"


class Direct(nn.Module):
    """What the article calls direct use: Conv3d on an image of depth one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 16, kernel_size=3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 1, H, W) -> (N, 16, 1, H, W)."""
        y: torch.Tensor = self.conv(x)
        return y


def main() -> None:
    """Audit, take the middle tap by hand, fold, and compare."""
    torch.manual_seed(0)
    image = read_image(str(PHOTO))
    model = Direct().eval()

    print(flatconv.audit(model, (image,)))
    print()

    with torch.no_grad():
        wanted = model(image)[:, :, 0]
        for tap in range(3):
            by_hand = F.conv2d(image[:, :, 0], model.conv.weight[:, :, tap], model.conv.bias, padding=1)
            apart = float((by_hand - wanted).abs().max())
            print(f"Conv2d with tap {tap} alone differs from Conv3d by at most {apart:.1e}")
    print()

    flat = flatconv.fold(model, (image,))
    print(flat.report)


if __name__ == "__main__":
    main()
