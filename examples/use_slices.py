"""A 3-D segmentation network of MONAI on single slices, by sliding windows.

    python examples/use_slices.py

The network was made for volumes; here it gets one slice of 192×192 at a time, as (1, 1, 1, 192, 192), in nine windows of 96×96:
two batches of four and one of one. Its weights mean nothing. Needs ``flatconv[monai]``.
"""

import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet

from flatconv.integrations.monai import patch_for_windows

torch.manual_seed(0)
# Depth is not halved on the way down, so that one slice can go through.
strides = ((1, 2, 2), (1, 2, 2))
model = UNet(
    spatial_dims=3, in_channels=1, out_channels=2, channels=(8, 16, 32), strides=strides, num_res_units=1
).eval()
image = torch.rand(1, 1, 1, 192, 192)


def segmented() -> torch.Tensor:
    """The whole image, window by window."""
    with torch.no_grad():
        return sliding_window_inference(image, (1, 96, 96), 4, model, overlap=0.25)


before = segmented()
with patch_for_windows(model, (1, 96, 96), sw_batch_size=4) as patched:
    after = segmented()
    print(patched)
print(f"{tuple(after.shape)}, largest difference {float((after - before).abs().max()):.1e}")
