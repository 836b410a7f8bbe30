"""Patched models: every call gives what the unpatched model gives, whichever way it takes."""

import copy
import gc
import io
import pickle
import threading
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import flatconv
from flatconv.errors import GuardError, InputError
from flatconv.patch import Call
from tests.expected import agree, filled, sample

IMAGE, FRAMES = sample(1, 2, 1, 6, 5), sample(1, 2, 3, 6, 5)


class Decoder(nn.Module):
    """An image or some frames, flags as attributes, and an object as result."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv3d(2, 3, 3, padding=1)
        self.second = nn.Conv3d(3, 2, (3, 1, 1), padding=(1, 0, 0))
        self.tiled = False
        self.scale = 2.0
        self.cache = None

    def decode(self, z, return_dict=True):
        """The picture."""
        self.cache = [None]
        y = self.first(z)
        self.cache[0] = y
        y = self.second(torch.relu(self.cache[0])) * self.scale
        self.cache = [None]
        if self.tiled:
            y = y + 1
        return SimpleNamespace(sample=y) if return_dict else (y,)

    def forward(self, z):
        return self.decode(z).sample - z


def model():
    return filled(Decoder())


def patched(net=None, calls=None, **options):
    net = net or model()
    return net, copy.deepcopy(net), flatconv.patch(net, calls or {"decode": (IMAGE,)}, **options)


def check(net, plain, handle, z=IMAGE, folded=True, method="decode"):
    """One call: like the unpatched model's, and taken the way that it should be."""
    before = sum(c.folded for c in handle.counts.values())
    with torch.no_grad():
        a, b = getattr(net, method)(z), getattr(plain, method)(z)
    assert type(a) is type(b)
    agree(getattr(a, "sample", a), getattr(b, "sample", b))
    assert sum(c.folded for c in handle.counts.values()) - before == folded


def test_images_take_the_fold_and_frames_the_original():
    net, plain, handle = patched()
    for z, folded in ((IMAGE, True), (FRAMES, False), (IMAGE, True), (sample(2, 2, 1, 8, 7), True)):
        check(net, plain, handle, z, folded)
    assert "axis 2 must be 1, not 3" in handle.counts["decode"].why
    assert all(s.rule for r in handle.reports["decode"] for s in r.sites)
    # Methods that call the patched one take the fold through it.
    check(net, plain, handle, IMAGE, True, "forward")


def test_the_weights_are_the_models_own():
    net = model()
    state, names = net.state_dict(), [n for n, _ in net.named_modules()]
    handle = flatconv.patch(net, {"decode": (IMAGE,)})
    assert list(net.state_dict()) == list(state)
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(net.state_dict().values(), state.values(), strict=True))
    assert [n for n, _ in net.named_modules()] == names
    handle.undo()
    assert type(net) is Decoder
    assert "decode" not in vars(net)


def in_place(net):
    with torch.no_grad():
        net.first.weight.mul_(-0.5)


def behind_autograd(net):
    net.first.weight.data.copy_(net.first.weight.data.flip(2) * 3)


def replaced(net):
    net.first.weight = nn.Parameter(net.first.weight.detach().flip(2) * 3)


def loaded(net):
    net.load_state_dict({k: v.flip(0) * 2 for k, v in net.state_dict().items()}, assign=True)


@pytest.mark.parametrize("change", [in_place, behind_autograd, replaced, loaded])
def test_changes_of_weights_are_followed(change):
    net, plain, handle = patched()
    check(net, plain, handle)
    change(net)
    change(plain)
    check(net, plain, handle)
    check(net, plain, handle, FRAMES, False)


def a_flag(net):
    net.tiled = True


def a_number(net):
    net.scale = 3.0


def another_module(net):
    net.second = filled(nn.Conv3d(3, 2, 1))


def another_padding(net):
    net.first.padding_mode = "circular"
    net.first._reversed_padding_repeated_twice = [1, 1, 1, 1, 1, 1]


def a_hook(net):
    net.first.register_forward_hook(lambda m, a, y: y * 2)


def a_hook_before(net):
    net.first.register_forward_pre_hook(lambda m, a: (a[0] + 1,))


def another_method(net):
    inner = net.second.forward
    net.second.forward = lambda y: inner(y) + 1


def train_mode(net):
    net.train()


@pytest.mark.parametrize(
    "change",
    [a_flag, a_number, another_module, another_padding, a_hook, a_hook_before, another_method, train_mode],
)
def test_another_model_takes_its_own_code(change):
    net, plain, handle = patched()
    check(net, plain, handle)
    change(net)
    change(plain)
    check(net, plain, handle, IMAGE, False)
    assert "not what it was" in handle.counts["decode"].why or "other attributes" in handle.counts["decode"].why


def test_a_flag_that_is_taken_back():
    net, plain, handle = patched()
    net.tiled = plain.tiled = True
    check(net, plain, handle, IMAGE, False)
    net.tiled = plain.tiled = False
    check(net, plain, handle, IMAGE, True)


def test_other_types_and_autocast_take_the_original():
    net, plain, handle = patched()
    net.float()
    plain.float()
    check(net, plain, handle, IMAGE.float(), False)
    net.double()
    plain.double()
    check(net, plain, handle, IMAGE, True)
    with torch.autocast("cpu", torch.bfloat16):
        check(net, plain, handle, IMAGE, False)
    assert "autocast" in handle.counts["decode"].why


def test_compiled_and_exported_calls_take_the_original():
    net, plain, handle = patched()
    program = torch.export.export(net, (IMAGE,), strict=False).module()
    agree(program(IMAGE), plain(IMAGE))
    assert "conv3d" in program.code
    assert handle.counts["decode"].folded == 0


@pytest.mark.parametrize("z", [IMAGE, FRAMES], ids=["image", "frames"])
def test_gradients_are_the_originals(z):
    net, plain, _ = patched()
    z, z2 = z.clone().requires_grad_(), z.clone().requires_grad_()
    for n, x in ((net, z), (plain, z2)):
        n.decode(x).sample.square().sum().backward()
    agree(z.grad, z2.grad)
    for a, b in zip(net.parameters(), plain.parameters(), strict=True):
        agree(a.grad, b.grad)


def test_several_calls_of_one_method():
    net, plain, handle = patched(calls={"decode": [Call(IMAGE), Call(IMAGE, return_dict=False), Call(FRAMES)]})
    with torch.no_grad():
        (y,) = net.decode(IMAGE, return_dict=False)
        agree(y, plain.decode(IMAGE, return_dict=False)[0])
    check(net, plain, handle)
    assert handle.counts["decode"].folded == 2


def test_forward_and_its_hooks():
    net, plain, handle = patched(calls={"forward": (IMAGE,)})
    check(net, plain, handle, IMAGE, True, "__call__")
    # A hook of the model itself runs around its forward, folded or not.
    for n in (net, plain):
        n.register_forward_hook(lambda m, a, y: y * 3)
    check(net, plain, handle, IMAGE, True, "__call__")
    check(net, plain, handle, FRAMES, False, "__call__")


def test_hooks_of_the_model_leave_its_parts():
    net = model()
    net.register_forward_hook(lambda m, a, y: y * 3)
    net, plain, handle = patched(net, {"forward": (IMAGE,)})
    assert "has hooks, which a folded program would not run" in handle.left["forward"]
    assert set(handle.routes) == {"first.forward", "second.forward"}
    with torch.no_grad():
        agree(net(IMAGE), plain(IMAGE))
        agree(net(FRAMES), plain(FRAMES))


def test_copies_are_not_patched():
    net, _, handle = patched()
    for made in (copy.deepcopy(net), copy.copy(net), saved(net)):
        assert type(made) is Decoder
        if made.first is not net.first:
            in_place(made)
        with torch.no_grad():
            y = made.first(IMAGE)
            agree(made.decode(IMAGE).sample, made.second(torch.relu(y)) * 2)
    assert handle.counts["decode"].folded == 0


def saved(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_a_copy_of_the_class_takes_its_own_weights():
    """Replicas of nn.DataParallel share the class of the patched model."""
    net, plain, handle = patched()
    other = net._replicate_for_data_parallel()
    other._modules = dict(plain._modules)
    in_place(plain)
    with torch.no_grad():
        agree(other.decode(IMAGE).sample, plain.decode(IMAGE).sample)
    assert handle.counts["decode"].folded == 0


def test_undo_and_with():
    net, plain, handle = patched()
    with handle as entered:
        assert entered is handle
        check(net, plain, handle)
    assert type(net) is Decoder
    check(net, plain, handle, IMAGE, False)
    handle.undo()
    again = flatconv.patch(net, {"decode": (IMAGE,)})
    check(net, plain, again)


def test_patches_are_undone_in_order():
    net, plain, first = patched()
    second = flatconv.patch(net, {"forward": (IMAGE,)})
    with pytest.raises(flatconv.InputError, match="undo that patch first"):
        first.undo()
    check(net, plain, second, IMAGE, True, "__call__")
    second.undo()
    check(net, plain, first)
    first.undo()
    assert type(net) is Decoder


def test_names_and_signature_stay():
    net, plain, _ = patched()
    assert type(net).__name__ == "Decoder"
    assert isinstance(net, Decoder)
    assert net.decode.__doc__ == plain.decode.__doc__
    with pytest.raises(TypeError):
        net.decode(IMAGE, unknown=1)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(2, 2, 3, padding=1)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.conv(x) * self.calls


def test_state_that_stays_is_refused():
    net, plain, handle = patched(filled(Counting()), {"forward": (IMAGE,)})
    assert "it keeps state in calls" in handle.left["forward"]
    assert net.calls == 0
    assert set(handle.routes) == {"conv.forward"}
    for z in (IMAGE, FRAMES, IMAGE):
        with torch.no_grad():
            agree(net(z), plain(z))


def test_threads():
    net, plain, handle = patched()
    wanted = {z.shape: plain.decode(z).sample.detach() for z in (IMAGE, FRAMES)}
    wrong = []

    def work(z):
        for _ in range(20):
            with torch.no_grad():
                if not torch.allclose(net.decode(z).sample, wanted[z.shape], rtol=1e-12, atol=1e-12):
                    wrong.append(z.shape)

    threads = [threading.Thread(target=work, args=(z,)) for z in (IMAGE, FRAMES) * 3]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert handle.counts["decode"].folded == 60


def test_an_assumption_that_is_not_true_takes_the_original():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(2, 3, (2, 3, 3))

        def forward(self, x):
            return self.conv(x)

    net, equal = filled(Two()), IMAGE.repeat(1, 1, 2, 1, 1)
    net, plain, handle = patched(net, {"forward": (equal,)}, assume={"forward": {"x": flatconv.repeated(dim=2)}})
    check(net, plain, handle, equal, True, "__call__")
    check(net, plain, handle, FRAMES[:, :, :2], False, "__call__")


# --- what is left


def test_nothing_to_fold_is_left():
    net = filled(nn.Sequential(nn.Conv2d(2, 2, 1)))
    with pytest.raises(flatconv.RefusedError, match="nothing of Sequential was folded"):
        flatconv.patch(net, {"forward": (IMAGE[:, :, 0],)})
    assert type(net) is nn.Sequential


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ({}, "must name methods"),
        (("decode", IMAGE), "must name methods"),
        ({"decode": 3}, "the example call of 'decode' is a int"),
        ({"decode": [IMAGE]}, "the example call of 'decode' is a list"),
        ({"decode": ()}, "missing 1 required positional argument"),
        ({"paint": (IMAGE,)}, "has no method 'paint'"),
        ({"decode": (sample(1, 3, 1, 4, 4),)}, "fails on the example call"),
    ],
)
def test_bad_calls(calls, message):
    net = model()
    with pytest.raises(flatconv.InputError, match=message):
        flatconv.patch(net, calls)
    assert type(net) is Decoder


def test_no_module():
    with pytest.raises(flatconv.InputError, match=r"a torch\.nn\.Module is needed, not function"):
        flatconv.patch(lambda x: x, {"forward": (IMAGE,)})


def test_the_second_method_fails_and_nothing_is_patched():
    net = model()
    with pytest.raises(flatconv.InputError):
        flatconv.patch(net, {"decode": (IMAGE,), "paint": (IMAGE,)})
    assert type(net) is Decoder


def test_what_is_printed():
    net, plain, handle = patched(calls={"decode": (IMAGE,)})
    check(net, plain, handle)
    check(net, plain, handle, FRAMES, False)
    text = " ".join(str(handle).split())
    assert "Patched Decoder" in text
    assert "2 of 2" in text
    assert "axis 2 must be 1, not 3" in text


# Without the original.


def freed_model(**more):
    model = filled(
        nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 3, 3, padding=1))
    ).eval()
    x = sample(1, 2, 1, 6, 7)
    wanted = model(x).detach()
    return model, x, wanted


def test_the_original_can_be_dropped():
    model, x, wanted = freed_model()
    weak = [weakref.ref(t) for t in (*model.parameters(), *model.buffers())]
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    patched = flatconv.patch(model, {"forward": (x,)}, drop_original=True)
    agree(model(x), wanted)
    gc.collect()
    alive = [r() for r in weak if r() is not None]
    assert [t.numel() for t in alive] == [1]  # batches counted, which nothing reads in eval mode
    assert patched.freed == size - alive[0].element_size()
    (program,) = patched.routes["forward"].programs
    assert sum(t.numel() for t in program.state_dict().values()) < size / 8 / 2  # a third of the kernels
    assert "Freed" in str(patched)


def test_calls_that_need_the_original_say_that_it_is_gone():
    model, x, _ = freed_model()
    state, wanted = {k: v.clone() for k, v in model.state_dict().items()}, model[0](x).detach()
    patched = flatconv.patch(model, {"forward": (x,)}, drop_original=True)
    with pytest.raises(GuardError, match=r"drop_original=True.*fits none"):
        model(sample(1, 2, 5, 6, 7))
    with pytest.raises(InputError, match="gone"):
        patched.undo()
    with patched:
        pass
    for use in (
        lambda: model[0](x), lambda: model.state_dict(), lambda: copy.deepcopy(model), lambda: model.double(),
        lambda: model[0].weight + 1, lambda: torch.cat([model[0].bias, model[3].bias]), lambda: model[0].weight.data,
        lambda: model.load_state_dict(state), lambda: model[1](wanted), lambda: pickle.dumps(model),
        lambda: model[0].weight.sum(), lambda: flatconv.fold(model, (x,)),
    ):  # fmt: skip
        with pytest.raises((flatconv.FlatconvError, RuntimeError), match=r"(?i)freed"):
            use()
    weight = model[0].weight
    assert (weight.shape, weight.dtype, weight.device.type) == ((4, 2, 3, 3, 3), torch.float64, "cpu")
    assert (weight.numel(), weight.dim(), weight.size(0), weight.requires_grad) == (216, 5, 4, True)
    assert "Freed(0.weight" in repr(weight)


def test_what_was_not_folded_is_not_freed():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.leave = filled(nn.Conv3d(2, 3, 3, padding=1)), filled(nn.Conv3d(3, 2, 3, padding=1))

        def encode(self, x):
            return self.enter(x)

        def decode(self, x):
            return self.leave(x)

    model = Two().eval()
    z, x = sample(1, 3, 1, 5, 6), sample(1, 2, 4, 5, 6)
    wanted = model.decode(z).detach(), model.encode(x).detach()
    flatconv.patch(model, {"decode": (z,)}, drop_original=True)
    agree(model.decode(z), wanted[0])
    agree(model.encode(x), wanted[1])
    with pytest.raises(GuardError):
        model.decode(sample(1, 3, 2, 5, 6))


def test_a_copy_is_patched_where_so_asked():
    model, x, wanted = freed_model()
    kind = type(model)
    patched = flatconv.patch(model, {"forward": (x,)}, in_place=False, drop_original=True)
    assert patched.model is not model
    assert type(model) is kind
    agree(patched.model(x), wanted)
    assert model(sample(1, 2, 3, 6, 7)).shape == (1, 3, 3, 6, 7)


def test_tied_weights_are_freed_everywhere():
    model, x, _ = freed_model()
    model[3] = nn.Conv3d(4, 3, 3, padding=1).double()
    model.twin = nn.Conv3d(2, 4, 3).double()
    model.twin.weight = model[0].weight
    net = nn.Sequential(*list(model.children())[:4]).eval()
    net.twin = model.twin
    wanted = nn.Sequential(*list(net.children())[:4])(x).detach()

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.other = nn.Sequential(*list(model.children())[:4]), model.twin

        def forward(self, x):
            return self.net(x)

    whole = Whole().eval()
    flatconv.patch(whole, {"forward": (x,)}, drop_original=True)
    agree(whole(x), wanted)
    with pytest.raises(GuardError, match=r"other.weight|net.0.weight"):
        whole.other(x)
