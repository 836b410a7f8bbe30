"""Frames stacked into depth: what really happens.

Here depth is time. A window of sixteen frames fills every tap of a 3×3×3 kernel, and the kernel can tell what comes first: the
result for frames in reversed order is another one. A ``Conv2d`` on each frame, averaged over the frames, cannot tell.

The frames are a window that moves over a photograph, written to a folder as pictures, and read back the way any folder of
frames is.

    python examples/article_frames.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch import nn

import flatconv

PHOTO = Path(__file__).parent / "photo.png"


def write_frames(folder: Path, count: int = 16, size: int = 96) -> None:
    """Pictures frame1.png, frame2.png, …: a window that moves to the right."""
    with Image.open(PHOTO) as photo:
        for i in range(count):
            left = 8 * i
            photo.crop((left, 64, left + size, 64 + size)).save(folder / f"frame{i + 1}.png")


def main() -> None:
    """Stack, audit, and turn the time round."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        write_frames(Path(name))
        # "time:16": windows of sixteen frames. frame10 comes after frame9, not after frame1.
        windows = flatconv.stack(name, "time:16")
        clip = windows[0].data
    print(f"one window: {tuple(clip.shape)} = (N, C, D, H, W), values in {windows.range}")

    volume = nn.Sequential(nn.Conv3d(3, 16, kernel_size=3, padding=1), nn.ReLU()).eval()
    print(flatconv.audit(volume, (clip,)))
    print()

    plane = nn.Sequential(nn.Conv2d(3, 16, kernel_size=3, padding=1), nn.ReLU()).eval()

    def by_volume(x: torch.Tensor) -> torch.Tensor:
        return volume(x).mean((2, 3, 4))

    def by_plane(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([plane(frame) for frame in x.unbind(2)], 2).mean((2, 3, 4))

    with torch.no_grad():
        for words, score in (("Conv3d over the stack", by_volume), ("Conv2d on each frame, averaged", by_plane)):
            forward, backward = score(clip), score(clip.flip(2))
            apart = float((forward - backward).abs().max() / forward.abs().max())
            print(f"{words}: reversing time changes the result by {apart:.1e} of its size")


if __name__ == "__main__":
    main()
