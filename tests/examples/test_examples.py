"""The example networks: shapes, reproducible weights, causality, and a photograph that survives the autoencoder."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from flatconv.examples import image_vae, patch_embed, r3d18, unet3d

PHOTO = Path(__file__).parents[2] / "examples" / "photo.png"

# factory, input shape, output shape
CASES = [
    pytest.param(image_vae, (1, 3, 1, 32, 48), (1, 3, 1, 32, 48), id="image_vae-1-frame"),
    pytest.param(image_vae, (2, 3, 3, 24, 16), (2, 3, 3, 24, 16), id="image_vae-3-frames"),
    pytest.param(r3d18, (1, 3, 1, 33, 48), (1, 101), id="r3d18-1-frame"),
    pytest.param(r3d18, (2, 3, 8, 32, 40), (2, 101), id="r3d18-8-frames"),
    pytest.param(unet3d, (1, 1, 1, 32, 48), (1, 2, 1, 32, 48), id="unet3d-1-slice"),
    pytest.param(unet3d, (2, 1, 5, 32, 16), (2, 2, 5, 32, 16), id="unet3d-5-slices"),
    pytest.param(patch_embed, (6, 1176), (6, 1280), id="patch_embed"),
]
FACTORIES = [image_vae, r3d18, unet3d, patch_embed]


def sample(shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("factory", "shape", "expected"), CASES)
@torch.inference_mode()
def test_shape(factory, shape, expected):
    y = factory()(sample(shape))
    assert y.shape == expected
    assert y.isfinite().all()
    assert y.std() > 0.01, "an output that hardly varies would hide mistakes"


@pytest.mark.parametrize(
    ("factory", "shape"),
    [(image_vae, (2, 3, 3, 8, 16)), (r3d18, (1, 3, 1, 33, 48)), (unet3d, (1, 1, 1, 16, 24)), (patch_embed, (6, 1176))],
)
def test_exports(factory, shape):
    model, x = factory(), sample(shape)
    program = torch.export.export(model, (x,), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), model(x))


def test_image_vae_exports_for_one_frame_with_free_height_and_width():
    model = image_vae()
    height, width = torch.export.Dim("height", min=2), torch.export.Dim("width", min=2)
    sizes = ({3: 8 * height, 4: 8 * width},)
    program = torch.export.export(model, (sample((1, 3, 1, 32, 48)),), strict=False, dynamic_shapes=sizes)
    x = sample((1, 3, 1, 40, 16))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), model(x))


@pytest.mark.parametrize("factory", FACTORIES)
def test_seeded_and_in_eval_mode(factory):
    options = {"pretrained": False} if factory is image_vae else {}
    before = torch.get_rng_state()
    first, again, other = factory(**options), factory(**options), factory(**options, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in first.modules())
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert any(not torch.equal(value, other.state_dict()[name]) for name, value in first.state_dict().items())


def test_batch_norm_statistics_are_not_the_identity():
    norms = [module for module in r3d18().modules() if isinstance(module, nn.BatchNorm3d)]
    assert len(norms) == 20
    for norm in norms:
        assert (norm.running_var > 0).all()
        for values, default in [(norm.running_mean, 0), (norm.running_var, 1), (norm.weight, 1), (norm.bias, 0)]:
            assert (values != default).any()


@torch.inference_mode()
def test_image_vae_is_causal():
    model = image_vae()
    x = sample((1, 3, 4, 16, 24))
    changed = x.clone()
    changed[:, :, 2] = 0.0
    for run in (model.encode, model):
        before, after = run(x), run(changed)
        torch.testing.assert_close(before[:, :, :2], after[:, :, :2])
        for frame in (2, 3):
            assert not torch.allclose(before[:, :, frame], after[:, :, frame])
    # So the first frame of a video comes out as the image it would be alone.
    torch.testing.assert_close(model(x)[:, :, :1], model(x[:, :, :1]), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_image_vae_is_encode_then_decode():
    model, x = image_vae(), sample((2, 3, 1, 16, 24))
    z = model.encode(x)
    assert z.shape == (2, 16, 1, 2, 3)
    assert torch.equal(model.decode(z), model(x))
    far = model.decode(100 * z)
    assert far.min() >= -1
    assert far.max() <= 1


def test_pretrained_weights_keep_their_dead_taps():
    trained, first = image_vae(), image_vae(pretrained=False)
    for name, weight in trained.named_parameters():
        if weight.ndim == 5 and weight.shape[2] == 3:
            start = first.get_parameter(name)
            # Half precision in the file.
            torch.testing.assert_close(weight[:, :, :2], start[:, :, :2], rtol=1e-3, atol=1e-6)
            assert not torch.allclose(weight[:, :, 2], start[:, :, 2], rtol=1e-2, atol=1e-4)


@torch.inference_mode()
def test_image_vae_reconstructs_the_photo():
    image = Image.open(PHOTO)
    assert (image.mode, image.size) == ("RGB", (256, 256))
    photo = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None, :, None] / 127.5 - 1.0
    error = (image_vae()(photo) - photo).square().mean().item()
    # 25.0 dB was measured when the weights were made.
    assert 10 * math.log10(4.0 / error) > 24.0
