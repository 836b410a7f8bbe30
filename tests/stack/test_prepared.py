"""Size, channels and range of frames."""

import numpy as np
import pytest
import torch
from PIL import Image

from flatconv.errors import InputError
from flatconv.inputs import read_image
from flatconv.stack import stack
from tests.stack.making import picture, pictures


def test_scales(tmp_path):
    pixels = torch.from_numpy(picture(tmp_path / "a.png", 0)).permute(2, 0, 1).float()
    for scale, known in {
        None: pixels / 127.5 - 1,
        "signed": pixels / 127.5 - 1,
        "unit": pixels / 255,
        "stored": pixels,
    }.items():
        found = stack(tmp_path / "a.png", "single", scale=scale)
        assert torch.allclose(found[0].data[0, :, 0], known)
    assert torch.equal(stack(tmp_path, "single")[0].data, read_image(str(tmp_path / "a.png")))
    assert stack(tmp_path, "single").range == "[-1, 1]"
    assert stack(tmp_path, "single", scale="stored").range == "0 to 255"


def test_channels(tmp_path):
    pixels = picture(tmp_path / "a.png", 0)
    grey = stack(tmp_path, "single", channels="gray", scale="stored")
    assert grey.shape == (1, 1, 1, 12, 16)
    known = np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float32)
    assert np.abs(grey[0].data[0, 0, 0].numpy() - known).max() <= 1
    one = stack(np.arange(12.0).reshape(1, 3, 4), "single", layout="DHW", channels="rgb")
    assert one.shape == (1, 3, 1, 3, 4)
    assert torch.equal(one[0].data[0, 0], one[0].data[0, 2])


def test_mixed_sizes(tmp_path):
    pictures(tmp_path, 2)
    pixels = picture(tmp_path / "img3.png", 3, (10, 20))
    with pytest.raises(InputError, match=r"img1.png' has 12×16 pixels and '.*img3.png' 10×20"):
        stack(tmp_path, "single")
    resized = stack(tmp_path, "single", sizes="resize")
    assert resized.shape == (1, 3, 1, 12, 16)
    assert len(list(resized)) == 3
    assert resized.notes == ("frames have 2 sizes: resize",)
    cropped = stack(tmp_path, "single", sizes="crop", scale="stored")
    assert cropped.shape == (1, 3, 1, 10, 16)
    assert np.array_equal(cropped[2].data[0, :, 0].permute(1, 2, 0).numpy(), pixels[:, 2:18])
    assert stack(tmp_path, "single", sizes="resize", size=(8, 9)).shape == (1, 3, 1, 8, 9)
    with pytest.raises(InputError, match="sizes=guess is unknown: it may be error, resize, crop"):
        stack(tmp_path, "single", sizes="guess")


def test_resizing_keeps_the_mean(tmp_path):
    x = torch.rand(1, 1, 40, 60)
    found = stack(x, "single", layout="DCHW", size=(10, 15))[0].data
    assert found.shape == (1, 1, 1, 10, 15)
    assert abs(found.mean() - x.mean()) < 0.02
