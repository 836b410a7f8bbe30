"""Autoencoders in place: images take the fold, videos, tiles and slices the model's own code, in turns."""

import copy

import pytest
import torch

import flatconv
from flatconv.integrations.diffusers import patch_autoencoder

diffusers = pytest.importorskip("diffusers")

SMALL = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1], "num_res_blocks": 1, "temperal_downsample": [True]}
HUNYUAN = {"block_out_channels": (8, 8, 8, 8), "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 4}
MODELS = {"AutoencoderKLWan": SMALL, "AutoencoderKLQwenImage": SMALL, "AutoencoderKLHunyuanVideo": HUNYUAN}


def noise(*sizes):
    return torch.randn(sizes, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=MODELS)
def pair(request):
    torch.manual_seed(0)
    vae = getattr(diffusers, request.param)(**MODELS[request.param]).eval()
    return vae, copy.deepcopy(vae)


def same(found, wanted):
    assert type(found) is type(wanted)
    a, b = (r[0] if isinstance(r, tuple) else r.sample for r in (found, wanted))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_images_and_videos_in_turns(pair):
    vae, plain = pair
    patched = patch_autoencoder(vae, 16, 24, tune=False)
    assert set(patched.routes) == {"encode", "decode"}
    scale = 16 // plain.encode(noise(1, 3, 1, 16, 24)).latent_dist.mode().shape[-2]
    with torch.no_grad():
        for frames, batch, height in ((1, 1, 16), (9, 1, 16), (1, 2, 32), (1, 1, 16)):
            x = noise(batch, 3, frames, height, 24)
            a, b = vae.encode(x).latent_dist, plain.encode(x).latent_dist
            assert type(a) is type(b)
            torch.testing.assert_close(a.mean, b.mean, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(a.std, b.std, rtol=1e-3, atol=1e-4)
            z = noise(batch, 4, 1 if frames == 1 else 3, height // scale, 24 // scale)
            same(vae.decode(z), plain.decode(z))
            same(vae.decode(z, return_dict=False), plain.decode(z, return_dict=False))
    counts = patched.counts
    assert (counts["encode"].folded, counts["encode"].original) == (3, 1)
    assert (counts["decode"].folded, counts["decode"].original) == (6, 2)
    patched.undo()
    assert type(vae) is type(plain)


def test_tiles_and_slices_take_the_models_own_code(pair):
    vae, plain = pair
    patched = patch_autoencoder(vae, 16, 24, methods=["decode"], tune=False)
    z = noise(2, 4, 1, 4, 6)
    for switch in ("enable_slicing", "enable_tiling"):
        for model in (vae, plain):
            getattr(model, switch)()
        before = patched.counts["decode"].folded
        with torch.no_grad():
            same(vae.decode(z), plain.decode(z))
        assert patched.counts["decode"].folded == before
        for model in (vae, plain):
            getattr(model, switch.replace("enable", "disable"))()
    with torch.no_grad():
        same(vae.decode(z), plain.decode(z))
    assert patched.counts["decode"].folded == 1


def test_saving_writes_the_original(pair, tmp_path):
    vae, plain = pair
    patch_autoencoder(vae, 16, 24, methods=["decode"], tune=False)
    vae.save_pretrained(tmp_path)
    again = type(plain).from_pretrained(tmp_path)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in plain.state_dict().items())


def test_other_models_are_refused():
    with pytest.raises(flatconv.InputError, match="is no autoencoder with encode, decode"):
        patch_autoencoder(torch.nn.Conv3d(1, 1, 1))
