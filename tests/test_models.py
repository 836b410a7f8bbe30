"""Networks that people run, at one frame: no 3-D convolution is left, and the result is the original's."""

import importlib.util
import os
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch

import flatconv
from flatconv import examples

os.environ.setdefault("KERAS_BACKEND", "torch")
SITE = Path(sysconfig.get_paths()["purelib"])


def targets(flat):
    return [str(n.target) for n in flat.graph.nodes if n.op == "call_function"]


def check(model, args, method="forward", entries=1, exits=1, free=3):
    """Fold, and require rank 4 from one entry to one exit: one squeeze in, one unsqueeze out, nothing between."""
    model.eval()
    flat = flatconv.fold(model, args, method=method)
    called = targets(flat)
    assert not [t for t in called if "conv3d" in t or "conv_transpose3d" in t]
    assert sum("aten.squeeze" in t for t in called) <= entries
    assert sum("aten.unsqueeze" in t for t in called) <= exits
    assert flat.report.evidence.float64_error < 1e-10
    assert len(flat.report.evidence.runs) == 2 + (free > 0) + (free > 1)  # a smaller size, a larger one
    assert {s.evidence.level for s in flat.report.sites if s.rule} == {"exact"}
    assert len(flat.report.free) == free
    return flat


def vae(name, **config):
    torch.manual_seed(0)
    return getattr(pytest.importorskip("diffusers"), name)(**config)


SMALL = {
    "base_dim": 8,
    "z_dim": 4,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}
BLOCKS = {"block_out_channels": (8, 8, 8, 8), "latent_channels": 4, "layers_per_block": 1}
DECODER = {"decoder_block_out_channels": (8, 8, 8, 8), "decoder_layers_per_block": (1,) * 5}
AUTOENCODERS = {
    "AutoencoderKLQwenImage": (SMALL, 4, 8),
    "AutoencoderKLWan": (SMALL, 4, 8),
    "AutoencoderKLHunyuanVideo": (BLOCKS | {"norm_num_groups": 4}, 4, 8),
    "AutoencoderKLCogVideoX": (BLOCKS | {"norm_num_groups": 2, "temporal_compression_ratio": 4}, 4, 8),
    "AutoencoderKLLTXVideo": (BLOCKS | DECODER | {"latent_channels": 8, "layers_per_block": (1,) * 5}, 8, 4),
}


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_decode_of_one_frame(name):
    config, channels, size = AUTOENCODERS[name]
    model, z = vae(name, **config), torch.randn(1, channels, 1, size, size + 2)
    flat = check(model, (z,), "decode")
    with torch.no_grad():
        expected, made = model.decode(z), flat(z)
    assert type(made) is type(expected)
    torch.testing.assert_close(made.sample, expected.sample, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_encode_of_one_frame(name):
    config, _, _ = AUTOENCODERS[name]
    model, x = vae(name, **config), torch.randn(1, 3, 1, 64, 96)
    # The distribution that comes back holds five tensors of depth 1 (LTX-Video keeps the log variance of one channel).
    flat = check(model, (x,), "encode", exits=5)
    with torch.no_grad():
        expected, made = model.encode(x).latent_dist, flat(x).latent_dist
    assert type(made) is type(expected)
    torch.testing.assert_close(made.mean, expected.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.std, expected.std, rtol=1e-4, atol=1e-5)


def test_more_frames_stay_three_dimensional():
    config, channels, size = AUTOENCODERS["AutoencoderKLWan"]
    model, z = vae("AutoencoderKLWan", **config).eval(), torch.randn(1, channels, 2, size, size)
    flat = flatconv.fold(model, (z,), method="decode", dynamic=False)
    assert any("conv3d" in t for t in targets(flat))
    with torch.no_grad():
        torch.testing.assert_close(flat(z).sample, model.decode(z).sample, rtol=1e-4, atol=1e-5)


def test_monai_unet():
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    check(nets.UNet(3, 1, 2, (8, 16, 32), ((1, 2, 2), (1, 2, 2)), num_res_units=2), (torch.randn(1, 1, 1, 32, 48),))


def test_monai_segresnet_without_scales_is_two_dimensional():
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    check(nets.SegResNet(3, 8, 1, 2, blocks_down=(2,), blocks_up=()), (torch.randn(1, 1, 1, 32, 48),))


def test_monai_segresnet_doubles_its_depth_and_stays_right():
    # Each scale upsamples depth 1 to 2, so its decoder sees two equal slices between zeros.
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    model = nets.SegResNet(3, 8, 1, 2).eval()
    flat = flatconv.fold(model, (torch.randn(1, 1, 1, 32, 32),))
    assert flat.report.evidence.float64_error < 1e-10
    kept = [s for s in flat.report.sites if s.becomes == "conv3d"]
    assert 0 < len(kept) < len(flat.report.sites)


def test_monai_basic_unet_needs_depth():
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    model = nets.BasicUNet(3, 1, 2, features=(4, 4, 8, 8, 8, 4)).eval()
    with pytest.raises(flatconv.InputError, match=r"\(1, 1, 1, 32, 32\).*Output size is too small"):
        flatconv.fold(model, (torch.randn(1, 1, 1, 32, 32),))
    flat = flatconv.fold(model, (torch.randn(1, 1, 16, 32, 32),), dynamic=False)
    # At the bottom one slice is left: two convolutions lose their depth axis there.
    assert ["drop an axis" in s.rule for s in flat.report.sites].count(True) == 2
    assert flat.report.evidence.float64_error < 1e-10


def test_platelet_unet_with_its_trained_weights_on_a_real_slice():
    place, stack = SITE / "plateseg", SITE / "examples" / "c5image.tif"
    if not place.exists() or not stack.exists():
        pytest.skip("platelet-unet-watershed and napari-cellseg3d are not installed")
    tifffile = pytest.importorskip("tifffile")
    spec = importlib.util.spec_from_file_location("plateseg_unet", place / "unet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # The trained net halves the depth once, at the bottom. For a single slice that step is left out: of the transposed
    # convolution that undoes it, the tap that makes the first of its two slices is kept. All other weights are as trained.
    model = module.UNet(in_channels=1, out_channels=5, downsample_1_at_bottom=False).eval()
    weights = torch.load(next((place / "data").glob("*.pt")), map_location="cpu", weights_only=True)
    weights["up0.weight"] = weights["up0.weight"][:, :, :1]
    model.load_state_dict(weights)
    volume = tifffile.imread(stack).astype(np.float32)
    image = volume[len(volume) // 2, :80, :64]
    x = torch.from_numpy((image - image.min()) / (image.max() - image.min()))[None, None, None]
    flat = check(model, (x,))
    assert [s.live_taps for s in flat.report.sites if s.kernel == (3, 3, 3)] == [(1,)] * 18
    with torch.no_grad():
        expected = model(x)
    assert expected.std() > 0.05  # the trained net says something of this slice
    torch.testing.assert_close(flat(x), expected, rtol=1e-4, atol=1e-5)


def test_keras_conv3d_with_depth_first_kernels():
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("keras runs on another backend in this process")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((1, 16, 20, 3)),
            layers.Conv3D(8, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Conv3D(8, (1, 3, 3), strides=(1, 2, 2), padding="same"),
            layers.MaxPooling3D((1, 2, 2)),
            layers.Conv3DTranspose(4, (1, 2, 2), strides=(1, 2, 2)),
        ]
    )
    flat = check(model, (torch.randn(1, 1, 16, 20, 3),), free=1)
    assert flat.report.sites[0].live_taps == (1,)
    # Kernels are stored depth, height, width, in, out; folded they are out, in, height, width, under the same name.
    # Keras numbers the layers of a process, so the name of the first depends on what was built before.
    name = f"{model.layers[0].name}/kernel"
    kernel = next(v for k, v in flat.state_dict().items() if k.endswith(name))
    assert tuple(kernel.shape) == (8, 3, 3, 3)


def test_image_vae():
    flat = check(examples.image_vae(), (torch.randn(1, 3, 1, 64, 72),))
    assert {s.live_taps for s in flat.report.sites if s.kernel[0] == 3} == {(2,)}


def test_image_vae_by_method():
    model = examples.image_vae()
    z = model.encode(torch.randn(1, 3, 1, 32, 40))
    check(model, (z.detach(),), "decode")


def test_r3d18():
    model = examples.r3d18()
    flat = flatconv.fold(model, (torch.randn(1, 3, 1, 64, 56),))
    called = targets(flat)
    assert not [t for t in called if "conv3d" in t]
    assert sum("aten.squeeze" in t for t in called) == 1
    assert sum("aten.unsqueeze" in t for t in called) == 0
    assert flat.report.evidence.float64_error < 1e-10


def test_unet3d():
    flat = check(examples.unet3d(), (torch.randn(1, 1, 1, 32, 40),))
    assert any("conv_transpose2d" in t for t in targets(flat))


def test_patch_embed_of_still_images():
    model = examples.patch_embed(width=32)
    still = torch.randn(6, 3, 1, 14, 14).expand(-1, -1, 2, -1, -1).reshape(6, -1)
    declared = flatconv.repeated(dim=1, within=(3, 2, 14, 14), axis=1, otherwise="full")
    flat = flatconv.fold(model, (still,), assume={"patches": declared})
    (site,) = flat.report.sites
    assert (site.merged_taps, site.becomes) == ((0, 1), "linear")
    assert 2 * site.useful_macs == site.macs
    moving = torch.randn(4, 1176)
    torch.testing.assert_close(flat(moving), model(moving))


def test_patch_embed_is_one_matrix_product():
    model = examples.patch_embed(width=32)
    flat = flatconv.fold(model, (torch.randn(6, 3 * 2 * 14 * 14),))
    (site,) = flat.report.sites
    assert site.rule == ("patches to a matrix product",)
    assert not site.merged_taps
    assert targets(flat) == ["aten.linear.default"]  # no tensor of a rank above two
    assert flat.report.free == ("patches.shape[0]",)
