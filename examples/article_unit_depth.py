"""A kernel of depth one, (1, 3, 3): what really happens.

It computes what a ``Conv2d`` with the same weights computes, on every slice, forwards and backwards. Nothing is wasted, but
nothing is gained either: no number of one slice ever meets a number of another. Whether it costs more than Conv2d is a matter
of the machine and the engine; the study measures it (``flatconv study --only C4``), and a fold makes the question go away.

    python examples/article_unit_depth.py
"""

from __future__ import annotations

import torch
from torch import nn

import flatconv


def main() -> None:
    """Give both layers one set of whole-number weights, so that equal means equal bit for bit."""
    torch.manual_seed(0)
    volume = nn.Conv3d(3, 16, kernel_size=(1, 3, 3), padding=(0, 1, 1)).double()
    plane = nn.Conv2d(3, 16, kernel_size=3, padding=1).double()
    with torch.no_grad():
        for weight in volume.parameters():
            weight.copy_(torch.randint(-3, 4, weight.shape))
        plane.weight.copy_(volume.weight[:, :, 0])
        plane.bias.copy_(volume.bias)

    frames = torch.randint(-8, 9, (2, 3, 5, 32, 32)).double().requires_grad_()
    once = volume(frames)
    each = torch.stack([plane(frame) for frame in frames.unbind(2)], 2)
    print(f"Conv3d (1,3,3) equals Conv2d on each of 5 slices: {torch.equal(once, each)}")

    pull = torch.randint(-3, 4, once.shape).double()
    of_volume = torch.autograd.grad(once, [frames, volume.weight], pull)
    of_plane = torch.autograd.grad(each, [frames, plane.weight], pull)
    print(f"Gradients of the input are equal:  {torch.equal(of_volume[0], of_plane[0])}")
    print(f"Gradients of the weight are equal: {torch.equal(of_volume[1][:, :, 0], of_plane[1])}")
    print()

    image = torch.randn(1, 3, 1, 64, 64)
    flat = flatconv.fold(nn.Sequential(nn.Conv3d(3, 16, (1, 3, 3), padding=(0, 1, 1)), nn.ReLU()).eval(), (image,))
    print(flat.report)


if __name__ == "__main__":
    main()
