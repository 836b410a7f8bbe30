"""Models by name and by file, and weights for them: what is opened, and what comes out."""

import functools
import io
import warnings

import pytest
import safetensors.torch
import torch
from torch import nn

import flatconv
from flatconv.errors import InputError
from flatconv.inputs import as_picture, parse_input, read_image, read_inputs
from flatconv.spec import load_model, load_state


@functools.cache
def net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU()).eval()


def blank():
    return nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU()).eval()


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(net(), "m.pt")
    torch.save(net().state_dict(), "w.pt")
    torch.save({"epoch": 3, "state_dict": net().state_dict()}, "w.ckpt")
    safetensors.torch.save_file(net().state_dict(), "w.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net(), (torch.randn(1, 3, 1, 8, 9),)), "m.pt2")
    return tmp_path


@pytest.mark.parametrize("name", ["m.pt", "m.pt2"])
def test_a_trusted_file_is_a_model_that_folds(place, name):
    model = load_model(name, trust=True)
    assert not any(m.training for m in model.modules())
    x = torch.randn(1, 3, 1, 8, 9)
    flat = flatconv.fold(model, (x,))
    assert [s.becomes for s in flat.report.sites] == ["conv2d"]
    torch.testing.assert_close(flat(x), net()(x))


@pytest.mark.parametrize("name", ["m.pt", "m.pt2"])
def test_no_such_file_is_opened_without_trust(place, name, monkeypatch):
    for owner, function in ((torch, "load"), (torch.export, "load")):
        monkeypatch.setattr(owner, function, lambda *a, **k: pytest.fail("it was opened"))
    with pytest.raises(InputError, match="--trust"):
        load_model(name)


@pytest.mark.parametrize(
    ("name", "trust"), [("w.safetensors", False), ("w.safetensors", True), ("w.pt", True), ("w.ckpt", True)]
)
def test_weights_are_put_into_a_model(place, name, trust):
    model = blank()
    load_state(model, name, trust)
    x = torch.randn(1, 3, 1, 8, 9)
    assert torch.equal(model(x), net()(x))


def test_weights_in_a_pickle_are_never_unpickled_freely(place, monkeypatch):
    asked = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: asked.append(k["weights_only"]) or load(*a, **k))
    load_state(blank(), "w.pt", trust=True)
    assert asked == [True]


def test_weights_of_another_precision_are_taken(place):
    safetensors.torch.save_file(
        {k: v.half() if v.is_floating_point() else v for k, v in net().state_dict().items()}, "h.safetensors"
    )
    model = blank()
    load_state(model, "h.safetensors")
    assert model[0].weight.dtype == torch.float32
    torch.testing.assert_close(model[0].weight, net()[0].weight, rtol=1e-3, atol=1e-3)


def test_a_weight_under_two_names_may_be_written_once(place):
    def tied():
        made = nn.Sequential(nn.Conv3d(3, 3, 3), nn.Conv3d(3, 3, 3))
        made[1].weight = made[0].weight
        return made

    state = tied().state_dict()
    del state["1.weight"]
    safetensors.torch.save_file(state, "tied.safetensors")
    model = tied()
    load_state(model, "tied.safetensors")
    assert torch.equal(model[1].weight, state["0.weight"])


def test_a_model_without_data_gets_its_weights(place):
    with torch.device("meta"):
        model = blank()
    load_state(model, "w.safetensors")
    x = torch.randn(1, 3, 1, 8, 9)
    assert torch.equal(model.eval()(x), net()(x))


def test_sizes_become_tensors():
    generator = torch.Generator().manual_seed(0)
    for text, name, shape, dtype in (
        ("1x3x1x8x9", None, (1, 3, 1, 8, 9), torch.float32),
        ("2×3*4", None, (2, 3, 4), torch.float32),
        ("x=1x2:int64", "x", (1, 2), torch.int64),
        ("наклон=7:bfloat16", "наклон", (7,), torch.bfloat16),
        ("0x3", None, (0, 3), torch.float32),
    ):
        found, tensor = parse_input(text, generator)
        assert (found, tuple(tensor.shape), tensor.dtype) == (name, shape, dtype)


def test_the_same_sizes_give_the_same_numbers():
    first, second = read_inputs(["1x3", "a=2x2"], None), read_inputs(["1x3", "a=2x2"], None)
    assert torch.equal(first[0][0], second[0][0])
    assert torch.equal(first[1]["a"], second[1]["a"])


def test_a_picture_comes_back(tmp_path):
    from PIL import Image

    picture = Image.effect_noise((9, 8), 90).convert("RGB")
    picture.save(tmp_path / "p.png")
    tensor = read_image(str(tmp_path / "p.png"))
    assert tensor.shape == (1, 3, 1, 8, 9)
    held, again = io.BytesIO(), io.BytesIO()
    as_picture(tensor).save(held, "BMP")
    picture.save(again, "BMP")
    assert held.getvalue() == again.getvalue()
    assert as_picture(tensor[:, :2]) is None
    assert as_picture(3) is None
