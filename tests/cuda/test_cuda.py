"""Folds on a GPU: verified in every type, moved there and back, guarded, and with gradients. Skipped where there is none."""

import gc
import json

import pytest
import torch
from torch import nn

import flatconv
from flatconv import cli, examples, measure
from flatconv.bench import QUICK, run
from flatconv.errors import GuardError
from tests.bench import made

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")

TYPES = [torch.float32, torch.bfloat16, torch.float16]
MODELS = {
    "image_vae": (examples.image_vae, (1, 3, 1, 32, 40)),
    "unet3d": (examples.unet3d, (1, 1, 1, 32, 40)),
    "r3d18": (examples.r3d18, (1, 3, 1, 64, 56)),
    "r3d18 on a clip": (examples.r3d18, (1, 3, 4, 32, 32)),
    "patch_embed": (lambda: examples.patch_embed(width=32), (6, 3 * 2 * 14 * 14)),
}


@pytest.fixture(autouse=True)
def _float32_is_float32():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    yield
    cudnn.allow_tf32, matmul.allow_tf32 = before


def noise(*sizes):
    return torch.randn(sizes, generator=torch.Generator().manual_seed(0))


def near(a, b):
    """Apart by no more than a few roundings of the narrowest type here."""
    eps = torch.finfo(a.dtype).eps
    return float((a.double() - b.double()).square().mean().sqrt() / b.double().square().mean().sqrt()) < 8 * eps**0.9


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_verified_fold(name, dtype):
    build, sizes = MODELS[name]
    model, x = build().to("cuda", dtype), noise(*sizes).to("cuda", dtype)
    flat = flatconv.fold(model, (x,))
    assert flat.report.evidence.float64_error < 1e-10
    with torch.no_grad():
        found, expected = flat(x), model(x)
    assert found.device == expected.device == x.device
    assert found.dtype == dtype
    assert found.shape == expected.shape
    assert {p.device.type for p in flat.parameters()} == {"cuda"}


def test_a_verified_fold_with_tf32():
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    model, x = examples.image_vae().cuda(), noise(1, 3, 1, 32, 40).cuda()
    assert flatconv.fold(model, (x,)).report.evidence.float64_error < 1e-10


@pytest.mark.parametrize("name", MODELS)
def test_a_fold_made_on_the_cpu_moves(name):
    build, sizes = MODELS[name]
    model, x = build(), noise(*sizes)
    flat = flatconv.fold(model, (x,), verify=False)
    with torch.no_grad():
        there = flat.to("cuda")(x.cuda())
        assert there.device.type == "cuda"
        assert near(there, model.to("cuda")(x.cuda()))
        back = flat.to("cpu")(x)
    assert back.device.type == "cpu"


def test_an_input_on_another_device():
    x = noise(1, 3, 1, 9, 10)
    flat = flatconv.fold(made.Taps().cuda().eval(), (x.cuda(),), verify=False)
    with pytest.raises(GuardError, match=r"on cpu.*cuda:0"):
        flat(x)
    with pytest.raises(GuardError, match=r"on cuda:0.*cpu"):
        flat.to("cpu")(x.cuda())


def test_tensors_that_the_model_makes_are_made_there():
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(3, 4, (3, 3, 3))

        def forward(self, x):
            front = torch.zeros(len(x), 3, 2, *x.shape[3:], device=x.device, dtype=x.dtype)
            return self.conv(torch.cat([front, x], 2)) + torch.ones(4, 1, 1, 1, device=x.device, dtype=x.dtype)

    model, x = Padded().eval(), noise(1, 3, 1, 9, 10)
    here = flatconv.fold(model, (x,), verify=False)
    there = here.to("cuda")(x.cuda())
    model.cuda()
    assert torch.allclose(there, model(x.cuda()), atol=1e-5)
    assert torch.allclose(flatconv.fold(model, (x.cuda(),))(x.cuda()), model(x.cuda()), atol=1e-5)


def test_gradients_reach_the_live_taps():
    model, x = made.Taps().cuda().eval(), noise(1, 3, 1, 9, 10).cuda()
    flat = flatconv.fold(model, (x,), weights="shared")
    flat(x).square().sum().backward()
    folded = model.first.weight.grad.clone()
    model.zero_grad()
    model(x).square().sum().backward()
    assert torch.allclose(folded, model.first.weight.grad, rtol=1e-3, atol=1e-4)
    assert folded[:, :, 1].abs().max() > 0
    assert folded[:, :, [0, 2]].abs().max() == 0


def test_a_saved_fold_runs_there(tmp_path):
    model, x = made.Taps().cuda().eval(), noise(1, 3, 1, 9, 10).cuda()
    flat = flatconv.fold(model, (x,), verify=False)
    flat.save(tmp_path / "flat.pt2")
    (found,) = torch.export.load(tmp_path / "flat.pt2").module()(x)
    assert found.device == x.device
    assert torch.allclose(found, flat(x))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_benchmark(dtype):
    plan = QUICK.__class__(engines=("eager", "openvino"), device="cuda", dtype=dtype, least=2, most=2, seconds=0.0)
    found = run(made.case(), plan)
    eager, openvino = found.rows
    assert all(s.seconds for s in eager.sides), [s.why_not for s in eager.sides]
    assert "CPU alone" in openvino.why_not
    assert found.compared == "float64"
    assert found.environment.keys() >= {"GPU", "CUDA", "cuDNN"}
    assert (found.environment["cuDNN search"], found.environment["TF32"]) == ("True", "False")


def test_peak_memory():
    kept = []
    x = torch.zeros(2**20, device="cuda")
    assert measure.peak_on_gpu(lambda: kept.append(x + 1)) >= x.nbytes


def test_the_command(capsys, tmp_path):
    arguments = [
        "bench",
        "flatconv.examples:unet3d",
        "--input",
        "1x1x1x32x40",
        "--device",
        "cuda",
        "--dtype",
        "bfloat16",
    ]
    with pytest.raises(SystemExit) as stopped:
        cli.main([*arguments, "--quick", "--engines", "eager", "--json", "-o", str(tmp_path / "out")])
    text = capsys.readouterr()
    assert not stopped.value.code, text.err
    found = json.loads(text.out)
    assert found["settings"]["device"] == "cuda"
    assert all(isinstance(v, int) and v > 0 for v in found["peak_memory"].values())


def test_a_patched_model_moves():
    model, x, video = examples.image_vae(), noise(1, 3, 1, 32, 40), noise(1, 3, 5, 32, 40)
    patched = flatconv.patch(model, {"forward": (x,)}, verify=False, tune=False)
    with torch.no_grad():
        for place in ("cpu", "cuda", "cpu"):
            model.to(place)
            folded = model(x.to(place)), model(video.to(place))
            patched.undo()
            wanted = model(x.to(place)), model(video.to(place))
            patched.install()
            assert all(near(a, b) and a.device == b.device for a, b in zip(folded, wanted, strict=True))
        assert (patched.counts["forward"].folded, patched.counts["forward"].original) == (3, 3)
        with torch.autocast("cuda", torch.bfloat16):
            model.cuda()(x.cuda())
    assert patched.counts["forward"].original == 4


def test_patched_on_the_gpu_in_half():
    model, x = examples.image_vae().to("cuda", torch.bfloat16), noise(2, 3, 1, 32, 40).to("cuda", torch.bfloat16)
    with torch.no_grad():
        wanted = model(x)
        with flatconv.patch(model, {"forward": (x,)}) as patched:
            assert near(model(x), wanted)
            assert near(model(x[:1]), wanted[:1])  # folded or not: attention may have asked for more than one
    assert patched.counts["forward"].folded >= 1


def test_steps_in_place():
    model, x = examples.r3d18().cuda(), noise(1, 3, 4, 32, 32).cuda()
    flat = flatconv.fold(model, (x,), tune=False)
    with torch.no_grad():
        assert near(flat(x), model(x))
    with torch.inference_mode():
        assert near(flat(x), model(x))


def test_dropout_draws_the_same_mask():
    model = nn.Sequential(
        nn.Conv3d(2, 8, 3, padding=1), nn.Dropout(0.3), nn.Dropout3d(0.5), nn.Conv3d(8, 2, 3, padding=1)
    )
    model, x = model.to("cuda").train(), noise(3, 2, 1, 33, 40).to("cuda")
    flat = flatconv.fold(model, (x,), weights="shared")
    for seed in range(3):
        torch.manual_seed(seed)
        wanted = model(x)
        torch.manual_seed(seed)
        assert near(flat(x), wanted)


@pytest.mark.parametrize("pool", [nn.Identity(), nn.AvgPool3d((1, 2, 2)), nn.MaxPool3d((1, 2, 2))], ids=str)
def test_under_autocast(pool):
    model = nn.Sequential(nn.Conv3d(2, 8, 3, padding=1), nn.GroupNorm(2, 8), pool, nn.Conv3d(8, 2, 3, padding=1))
    model, x = model.to("cuda").eval(), noise(2, 2, 1, 32, 40).to("cuda")
    flat = flatconv.fold(model, (x,))
    with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
        wanted = model(x)
        try:
            found = flat(x)
        except GuardError:
            return  # refused with the reason
    assert found.dtype == wanted.dtype
    assert near(found, wanted)


def test_weights_are_freed():
    model, x = nn.Conv3d(64, 64, 3, padding=1).to("cuda").eval(), noise(1, 64, 1, 32, 32).to("cuda")
    with torch.no_grad():
        wanted = model(x)
    before = torch.cuda.memory_allocated()
    flatconv.patch(model, {"forward": (x,)}, drop_original=True)
    gc.collect()
    with torch.no_grad():
        assert near(model(x), wanted)
    assert torch.cuda.memory_allocated() < before
