"""Sliding windows through a patched network: every batch of windows takes the fold, and the image is the original's."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import flatconv
from flatconv.integrations.monai import patch_for_windows

inferers = pytest.importorskip("monai.inferers")
nets = pytest.importorskip("monai.networks.nets")


def unet(strides=((1, 2, 2),), channels=1):
    return nets.UNet(3, channels, 2, (4, 8, 8)[: len(strides) + 1], strides, num_res_units=1)


NETWORKS = {
    "UNet": unet,
    "SegResNet": lambda: nets.SegResNet(3, 8, 1, 2, blocks_down=(1, 1), blocks_up=(1,)),
    "SegResNet without scales": lambda: nets.SegResNet(3, 8, 1, 2, blocks_down=(1,), blocks_up=()),
}


def built(build=unet, **how):
    torch.manual_seed(0)
    return build(**how).eval()


def noise(*sizes):
    return torch.rand(sizes, generator=torch.Generator().manual_seed(1))


def segmented(model, image, roi, windows):
    """The image, window by window, and the batches that the network was called with."""
    seen = []

    def predictor(x):
        seen.append(len(x))
        return model(x)

    with torch.no_grad():
        return inferers.sliding_window_inference(image, roi, windows, predictor, overlap=0.25), seen


def close(a, b):
    assert a.shape == b.shape
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_batch_of_windows_takes_the_fold(name):
    model, image = built(NETWORKS[name]), noise(1, 1, 1, 56, 80)
    wanted, _ = segmented(model, image, (1, 32, 32), 4)
    with patch_for_windows(model, (1, 32, 32), 4) as patched:
        found, seen = segmented(model, image, (1, 32, 32), 4)
        assert seen == [4, 2]
        counts = patched.counts["forward"]
        assert (counts.folded, counts.original) == (2, 0)
        # One at a time they are views of the image, and not contiguous.
        alone, seen = segmented(model, image, (1, 32, 32), 1)
        assert seen == [1] * 6
        assert (counts.folded, counts.original) == (8, 0)
    close(found, wanted)
    close(alone, wanted)


def test_a_volume_slice_by_slice():
    model, volume = built(), noise(2, 1, 3, 32, 48)
    wanted, _ = segmented(model, volume, (1, 32, 32), 4)
    with patch_for_windows(model, (1, 32, 32), 4) as patched:
        found, seen = segmented(model, volume, (1, 32, 32), 4)
        assert patched.counts["forward"].folded == len(seen) == math.ceil(2 * 3 * 2 / 4)
    close(found, wanted)
    assert not torch.allclose(wanted[:, :, 0], wanted[:, :, 1])


def test_images_smaller_than_a_window_and_depth_last():
    model, image = built(strides=((2, 2, 1),), channels=2), noise(1, 2, 24, 40, 1)
    wanted, _ = segmented(model, image, (32, 32, 1), 4)
    with patch_for_windows(model, [np.int64(32), 32, 1], 4) as patched:
        found, seen = segmented(model, image, (32, 32, 1), 4)
        assert seen == [2]
        assert patched.counts["forward"].folded == 1
    close(found, wanted)


def test_windows_of_another_depth_take_the_models_own_code():
    model, volume = built(), noise(1, 1, 3, 32, 48)
    wanted, _ = segmented(model, volume, (3, 32, 32), 4)
    with patch_for_windows(model, (1, 32, 32), 4) as patched:
        found, _ = segmented(model, volume, (3, 32, 32), 4)
        assert (patched.counts["forward"].folded, patched.counts["forward"].original) == (0, 1)
    assert torch.equal(found, wanted)


def test_windows_of_several_slices():
    # Two slices meet in one on the way down: there the kernels are folded.
    model, volume = built(strides=(2,)), noise(1, 1, 4, 32, 48)
    wanted, _ = segmented(model, volume, (2, 32, 32), 4)
    with patch_for_windows(model, (2, 32, 32), 4) as patched:
        found, seen = segmented(model, volume, (2, 32, 32), 4)
        assert seen == [4, 2]
        assert (patched.counts["forward"].folded, patched.counts["forward"].original) == (2, 0)
    close(found, wanted)


def test_where_the_batch_is_fixed_the_last_one_takes_the_models_own_code():
    model, image = built(), noise(1, 1, 1, 56, 80)
    wanted, _ = segmented(model, image, (1, 32, 32), 4)
    with patch_for_windows(model, (1, 32, 32), 4, dynamic=False) as patched:
        found, seen = segmented(model, image, (1, 32, 32), 4)
        assert seen == [4, 2]
        assert (patched.counts["forward"].folded, patched.counts["forward"].original) == (1, 1)
    close(found, wanted)


class Peculiar(nn.Module):
    """Another network for batches of two."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, x):
        return self.conv(x) * (10 if x.shape[0] == 2 else 1)


def test_a_batch_that_the_network_treats_in_another_way():
    model, image = built(Peculiar), noise(1, 1, 1, 56, 80)
    wanted, _ = segmented(model, image, (1, 32, 32), 4)
    with patch_for_windows(model, (1, 32, 32), 4, channels=1) as patched:
        found, _ = segmented(model, image, (1, 32, 32), 4)
        assert (patched.counts["forward"].folded, patched.counts["forward"].original) == (1, 1)
    close(found, wanted)
    assert wanted[..., -1].abs().max() > 3 * wanted[..., 0].abs().max()  # the last windows are of the other network


@pytest.mark.parametrize(
    "roi", [96, None, (1, 96, -1), (1, 96, None), (1, 96, 0), (1, 96.0, 96), (), "196", (True, 8, 8)]
)
def test_windows_whose_size_is_not_known(roi):
    with pytest.raises(flatconv.InputError, match=r"roi_size is .*: the size of a window along every axis is needed"):
        patch_for_windows(built(), roi, 4)


@pytest.mark.parametrize("windows", [0, -1, None, 1.5])
def test_batches_of_no_windows(windows):
    with pytest.raises(flatconv.InputError, match=r"sw_batch_size is .*: the number of windows"):
        patch_for_windows(built(), (1, 32, 32), windows)


def test_channels():
    with pytest.raises(flatconv.InputError, match=r"Peculiar has no in_channels .* pass their number"):
        patch_for_windows(Peculiar(), (1, 32, 32))
    with pytest.raises(flatconv.InputError, match="the model itself fails on the example call"):
        patch_for_windows(built(), (1, 32, 32), channels=3)


def test_networks_that_do_not_take_such_windows():
    # Depth is halved, and doubled again from one slice to two, which do not meet the one of the skip connection.
    with pytest.raises(flatconv.InputError, match="the model itself fails on the example call"):
        patch_for_windows(built(strides=(2, 2)), (1, 32, 32))
    with pytest.raises(flatconv.RefusedError, match="nothing of UNet was folded"):
        patch_for_windows(nets.UNet(2, 1, 2, (4, 8), (2,)).eval(), (32, 32))
