"""Models with a second form, for calls of which a declaration is not true."""

import copy

import pytest
import torch
from torch import nn

import flatconv
from tests.expected import agree, filled, form, sample

ONE = sample(2, 2, 1, 5, 6)
TWO = ONE.repeat(1, 1, 2, 1, 1)
OTHER = sample(2, 2, 2, 5, 6, seed=7)
MIXED = torch.cat([TWO[:1], OTHER[1:]])
"""One clip of equal frames, and one of others."""
FULL = flatconv.repeated(2, otherwise="full")


class Net(nn.Module):
    """A kernel that reads both frames, and one that each form reads whole."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(2, 3, (2, 3, 3))
        self.last = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.last(self.conv(x)[:, :, 0])


class Zeros(nn.Module):
    """Both forms make a tensor of their own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(2, 3, (2, 1, 1))

    def forward(self, x):
        front = torch.zeros(*x.shape[:3], 1, x.shape[4], device=x.device, dtype=x.dtype)
        return self.conv(torch.cat([front, x], 3))


def full_form(flat):
    """The model with its full form alone."""
    made = copy.copy(flat)
    made.graph, made._full, made.assumed = flat._full, None, ()
    made._compile()
    return made


def folded(model=None, **options):
    model = model or filled(Net())
    return model, flatconv.fold(model, (TWO,), **({"assume": {"x": FULL}} | options))


@pytest.mark.parametrize("weights", ["folded", "shared"])
@pytest.mark.parametrize("dynamic", ["auto", False])
def test_every_call_is_right(weights, dynamic):
    model, flat = folded(weights=weights, dynamic=dynamic)
    for x in (TWO, OTHER, MIXED, MIXED.flip(0), TWO, -0.0 * TWO):
        agree(flat(x), model(x))


def test_only_calls_that_need_it_take_the_full_form():
    model, flat = folded(dynamic=False)
    taken = []
    run, full = flat._run, flat._run_full
    flat._run = lambda *a: taken.append("short") or run(*a)
    flat._run_full = lambda *a: taken.append("full") or full(*a)
    for x in (TWO, OTHER, MIXED, TWO):
        with torch.no_grad():
            agree(flat(x), model(x))
    assert taken == ["short", "full", "full", "short"]


def test_both_forms_are_as_if_folded_alone():
    model, flat = folded(dynamic=False)
    short = flatconv.fold(model, (TWO,), assume={"x": flatconv.repeated(2)}, dynamic=False)
    whole = flatconv.fold(model, (TWO,), dynamic=False)
    assert form(flat) == form(short)
    renamed = [tuple("conv.weight" if a == "conv.weight__2" else a for a in row) for row in form(full_form(flat))]
    assert renamed == form(whole)


def test_weights_that_both_forms_read_alike_are_held_once():
    model, flat = folded()
    state = flat.state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        "conv.weight": (3, 2, 3, 3),
        "conv.weight__2": (3, 2, 2, 3, 3),
        "conv.bias": (3,),
        "last.weight": (4, 3, 1, 1),
        "last.bias": (4,),
    }
    agree(state["conv.weight__2"], model.conv.weight.detach())
    assert all(isinstance(p, nn.Parameter) for p in flat.parameters())


def test_a_numbered_name_that_is_taken():
    class Taken(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 2, 2, 3, 3))
            self.weight__2 = nn.Parameter(torch.zeros(3, 3, 1, 1))

        def forward(self, x):
            return torch.conv2d(torch.conv3d(x, self.weight)[:, :, 0], self.weight__2)

    model, flat = folded(filled(Taken()))
    assert set(flat.state_dict()) == {"weight", "weight__2", "weight__3"}
    for x in (TWO, OTHER):
        agree(flat(x), model(x))


def test_shared_weights_are_followed_by_both_forms():
    model, flat = folded(weights="shared")
    assert flat.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        model.conv.weight.mul_(2)
    model.last.weight = nn.Parameter(model.last.weight.detach() + 1)
    for x in (TWO, OTHER):
        agree(flat(x), model(x))
    flat(OTHER).sum().backward()
    assert model.conv.weight.grad is not None


def test_a_state_is_loaded_into_both_forms():
    _, flat = folded()
    model, other = folded(filled(Net(), seed=5))
    flat.load_state_dict(other.state_dict())
    for x in (TWO, OTHER):
        agree(flat(x), model(x))


def test_copies_are_apart():
    model, flat = folded()
    other = copy.deepcopy(flat)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    for x in (TWO, OTHER):
        agree(flat(x), model(x))
        assert not other(x).any()


@pytest.mark.parametrize("weights", ["folded", "shared"])
def test_both_forms_move(weights):
    _, flat = folded(filled(Zeros()), weights=weights)
    kept = copy.deepcopy(flat)
    flat.to("meta")
    # Slices of tensors without data cannot be compared, so each form is called as it is.
    for one in (flat, full_form(flat)):
        one.assumed = ()
        assert one(OTHER.to("meta")).device.type == "meta"
    devices = [n.kwargs["device"] for g in (flat.graph, flat._full) for n in g.nodes if "device" in n.kwargs]
    assert all(d.type == "meta" for d in devices)
    agree(kept(OTHER), filled(Zeros())(OTHER))


def test_modes():
    model, flat = folded()
    for x in (TWO, OTHER):
        agree(flat.train()(x), model(x))
        agree(flat.eval()(x), model(x))
    normed = filled(nn.Sequential(nn.Conv3d(2, 3, (2, 3, 3)), nn.BatchNorm3d(3)))
    flat = flatconv.fold(normed, (TWO,), assume={"input": FULL})
    agree(flat(OTHER), normed(OTHER))
    with pytest.raises(flatconv.GuardError, match="eval mode"):
        flat.train()(OTHER)


@pytest.mark.parametrize("name", ["_full", "_run_full", "full_form", "assumed"])
def test_children_of_any_name(name):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self._modules[name] = nn.Conv3d(2, 3, (2, 3, 3))

        def forward(self, x):
            return self._modules[name](x)

    model, flat = folded(filled(Named()))
    assert f"{name}.weight__2" in flat.state_dict()
    for one in (flat, copy.deepcopy(flat)):
        agree(one(TWO), model(TWO))
        agree(one(OTHER), model(OTHER))


def test_converted_weights_are_refused():
    _, flat = folded()
    with pytest.raises(flatconv.GuardError, match="fold again"):
        flat.half()(OTHER)


def test_another_depth_is_still_refused():
    _, flat = folded()
    with pytest.raises(flatconv.GuardError, match="axis 2 must be 2, not 3"):
        flat(sample(2, 2, 3, 5, 6))


def test_the_report_says_so():
    _, flat = folded()
    assert flat.report.assumptions == (
        "all 2 slices of 'x' along dimension 2 are equal (declared; checked on every call; a call whose slices differ takes "
        "the full form, folded without this)",
    )
    _, alone = folded(assume={"x": flatconv.repeated(2)})
    assert len(flat.report.evidence.runs) == 2 * len(alone.report.evidence.runs)  # both forms were compared


@pytest.mark.parametrize("broken", ["wrong", "never taken"])
def test_a_full_form_that_is_wrong_is_noticed(broken, monkeypatch):
    compiled = flatconv.Folded._compile

    def wrong(self):
        compiled(self)
        run, full = self._run, self._run_full
        self._run_full = run if broken == "never taken" else lambda *a: tuple(y * 1.001 for y in full(*a))

    monkeypatch.setattr(flatconv.Folded, "_compile", wrong)
    with pytest.raises(flatconv.VerificationError):
        folded()


def test_saving(tmp_path):
    _, flat = folded()
    with pytest.raises(
        flatconv.InputError, match=r"two, since otherwise='full' was declared of 'x'.*otherwise='refuse'"
    ):
        flat.save(tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())
    flat.save_weights(tmp_path / "net.safetensors")
    from safetensors.torch import load_file

    assert load_file(tmp_path / "net.safetensors").keys() == flat.state_dict().keys()


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv3d(2, 3, (2, 1, 1))
        self.b = nn.Conv3d(2, 3, (2, 1, 1))

    def forward(self, x, y):
        return self.a(x) * self.b(y)


def test_one_declaration_refuses_and_one_does_not():
    model = filled(Two())
    flat = flatconv.fold(model, (TWO, TWO.clone()), assume={"x": FULL, "y": flatconv.repeated(2)})
    agree(flat(TWO, TWO), model(TWO, TWO))
    agree(flat(OTHER, TWO), model(OTHER, TWO))
    for x in (TWO, OTHER):
        with pytest.raises(flatconv.GuardError, match="'y' has other values"):
            flat(x, OTHER)
    # The full form still takes what was declared of y.
    assert {k: v.dim() for k, v in flat.state_dict().items() if "weight" in k} == {
        "a.weight": 4,
        "a.weight__2": 4,
        "b.weight": 4,
    }


def test_two_declarations_with_one_full_form():
    model = filled(Two())
    flat = flatconv.fold(model, (TWO, TWO.clone()), assume={"x": FULL, "y": FULL})
    for x in (TWO, OTHER):
        for y in (TWO, OTHER):
            agree(flat(x, y), model(x, y))


def test_patches_of_a_video_of_odd_length():
    """Only the last frame of such a video is doubled."""
    from tests.test_assume import SIZES, Embed, patches

    model = filled(Embed())
    declared = flatconv.repeated(1, within=SIZES, axis=1, otherwise="full")
    flat = flatconv.fold(model, (patches(6),), assume={"x": declared})
    video = torch.cat([sample(4, 96), patches(2, seed=8)])
    for x in (patches(6), video, video.flip(0), patches(3), video[:4]):
        agree(flat(x), model(x))


def test_one_slice_has_no_other_form():
    model = filled(nn.Conv3d(2, 3, 3, padding=1))
    flat = flatconv.fold(model, (ONE,), assume={"input": FULL})
    assert flat._full is None
    agree(flat(ONE), model(ONE))
