"""Adapters and weights that are computed: followed while they are there, noticed when they come and go."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import flatconv
from tests.expected import agree, sample

X = sample(2, 2, 1, 6, 5)


class LowRank(nn.Module):
    """``w + b·a``, as a parametrisation."""

    def __init__(self, weight, rank=2):
        super().__init__()
        self.a = nn.Parameter(0.1 * sample(rank, weight[0].numel(), seed=3))
        self.b = nn.Parameter(0.1 * sample(len(weight), rank, seed=4))

    def forward(self, w):
        return w + (self.b @ self.a).view_as(w)


class Lora(nn.Module):
    """``base(x) + up(down(x))``, as a module around another."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base
        self.down = nn.Conv3d(base.in_channels, rank, base.kernel_size, padding=base.padding, bias=False).double()
        self.up = nn.Conv3d(rank, base.out_channels, 1, bias=False).double()
        with torch.no_grad():
            self.down.weight.copy_(0.1 * sample(*self.down.weight.shape, seed=5))
            self.up.weight.copy_(0.1 * sample(*self.up.weight.shape, seed=6))

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def net():
    model = nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.SiLU(), nn.Conv3d(3, 2, (3, 3, 1), padding=(1, 1, 0)))
    model.double().eval()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(sample(*p.shape, seed=10 + i))
    return model


def low_rank(model):
    parametrize.register_parametrization(model[0], "weight", LowRank(model[0].weight))


def lora(model):
    model[0] = Lora(model[0])


def weight_norm(model):
    parametrizations.weight_norm(model[0])


def old_weight_norm(model):
    nn.utils.weight_norm(model[0])


def spectral_norm(model):
    torch.manual_seed(0)
    parametrizations.spectral_norm(model[0])
    model.eval()


def old_spectral_norm(model):
    torch.manual_seed(0)
    nn.utils.spectral_norm(model[0])
    model.eval()


def merged(model):
    parametrize.remove_parametrizations(model[0], "weight")


def unwrapped(model):
    model[0] = model[0].base


ADAPTERS = {
    low_rank: merged,
    lora: unwrapped,
    weight_norm: merged,
    old_weight_norm: lambda m: nn.utils.remove_weight_norm(m[0]),
    spectral_norm: merged,
    old_spectral_norm: lambda m: nn.utils.remove_spectral_norm(m[0]),
}
"""What puts it there, and what takes it away."""
NOT_SHARED = (old_weight_norm,)
"""Its weight is a plain attribute that a hook sets: nobody can tell that from one which stays as it is."""
NOT_PATCHED = (old_weight_norm, old_spectral_norm)
"""Hooks do the work: only the other convolution can be patched."""
every = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda f: f.__name__)


def built(adapter):
    model = net()
    adapter(model)
    return model


def pair(adapter):
    return built(adapter), built(adapter)


def changed(model):
    """Other values everywhere, put there as an optimiser does."""
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.add_(0.1 * sample(*p.shape, seed=50 + i))


def gradients(called, model):
    x = X.clone().requires_grad_()
    return torch.autograd.grad((called(x) - 1).square().sum(), [x, *model.parameters()])


def same_gradients(called, model, plain):
    for a, b in zip(gradients(called, model), gradients(plain, plain), strict=True):
        assert bool(b.abs().max() > 0)
        agree(a, b, 1e-11)


@every
def test_folded_copies(adapter):
    model, plain = pair(adapter)
    flat = flatconv.fold(model, (X,))
    with torch.no_grad():
        before = plain(X)
        agree(flat(X), before)
        changed(model)
        agree(flat(X), before)


@every
def test_shared_weights(adapter):
    model, plain = pair(adapter)
    if adapter in NOT_SHARED:
        with pytest.raises(flatconv.RefusedError, match="which is in none of its registered modules"):
            flatconv.fold(model, (X,), weights="shared")
        return
    flat = flatconv.fold(model, (X,), weights="shared")
    assert all("conv2d" in str(n.target) for n in flat.graph.nodes if "conv" in str(n.target))
    for change in (lambda _: None, changed):
        change(model)
        change(plain)
        agree(flat(X), plain(X))
        same_gradients(flat, model, plain)


@every
def test_patched(adapter):
    model, plain = pair(adapter)
    model.train()
    plain.train()
    if "spectral" in adapter.__name__:
        model.eval()
        plain.eval()
    handle = flatconv.patch(model, {"forward": (X,)})
    method = "2.forward" if adapter in NOT_PATCHED else "forward"
    assert set(handle.routes) == {method}
    for change in (lambda _: None, changed):
        change(model)
        change(plain)
        agree(model(X), plain(X))
        same_gradients(model, model, plain)
    assert (handle.counts[method].folded, handle.counts[method].original) == (4, 0)


@every
def test_steps_of_an_optimiser(adapter):
    if adapter in NOT_SHARED:
        pytest.skip("not shared")
    model, plain = pair(adapter)
    flat = flatconv.fold(model, (X,), weights="shared")
    for m in (model, plain):
        m[2].requires_grad_(False)
    both = [torch.optim.AdamW((p for p in m.parameters() if p.requires_grad), lr=1e-2) for m in (model, plain)]
    for _ in range(3):
        for called, optimiser in ((flat, both[0]), (plain, both[1])):
            optimiser.zero_grad()
            (called(X) - 1).square().mean().backward()
            optimiser.step()
    agree(flat(X), plain(X))
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        agree(a, b, 1e-9)
        assert (a.grad is None) == (b.grad is None)


@every
def test_an_adapter_that_comes_later(adapter):
    model, plain = net(), net()
    flat = flatconv.fold(model, (X,), weights="shared")
    agree(flat(X), plain(X))
    copied = copy.deepcopy(flat)
    before = plain(X)
    adapter(model)
    with pytest.raises(flatconv.GuardError, match="fold it again"):
        flat(X)
    agree(copied(X), before)  # a copy has weights of its own
    model, plain = net(), net()
    handle = flatconv.patch(model, {"forward": (X,)})
    agree(model(X), plain(X))
    adapter(model)
    adapter(plain)
    agree(model(X), plain(X))
    assert (handle.counts["forward"].folded, handle.counts["forward"].original) == (1, 1)
    same_gradients(model, model, plain)


@every
def test_an_adapter_that_goes(adapter):
    model, plain = pair(adapter)
    remove = ADAPTERS[adapter]
    if adapter not in NOT_SHARED:
        flat = flatconv.fold(model, (X,), weights="shared")
        agree(flat(X), plain(X))
        changed(model)
        remove(model)
        with pytest.raises(flatconv.GuardError, match="fold it again"):
            flat(X)
    model, plain = pair(adapter)
    handle = flatconv.patch(model, {"forward": (X,)})
    agree(model(X), plain(X))
    for m in (model, plain):
        changed(m)
        remove(m)
        changed(m)
    agree(model(X), plain(X))
    if adapter not in NOT_PATCHED:
        assert (handle.counts["forward"].folded, handle.counts["forward"].original) == (1, 1)


def test_an_adapter_that_comes_and_goes_again():
    model, plain = net(), net()
    flat = flatconv.fold(model, (X,), weights="shared")
    handle = flatconv.patch(model, {"forward": (X,)})
    base = model[0]
    lora(model)
    with pytest.raises(flatconv.GuardError, match="fold it again"):
        flat(X)
    model(X)
    model[0] = base
    agree(flat(X), plain(X))
    agree(model(X), plain(X))
    assert (handle.counts["forward"].folded, handle.counts["forward"].original) == (1, 1)


@pytest.mark.parametrize("place", ["0", "1", "2"])
def test_a_module_that_is_replaced(place):
    model = net()
    flat = flatconv.fold(model, (X,), weights="shared")
    model[int(place)] = nn.Tanh() if place == "1" else copy.deepcopy(model[int(place)])
    with pytest.raises(flatconv.GuardError, match=r"modules of the model.*fold it again"):
        flat(X)


class Doubled(nn.Conv3d):
    def forward(self, x):
        return 2 * super().forward(x)


def another_class(model):
    model[0].__class__ = Doubled


def another_method(model):
    model[0].forward = lambda x: model[0]._conv_forward(x, 2 * model[0].weight, None)


@pytest.mark.parametrize("change", [another_class, another_method])
def test_a_module_that_does_something_else(change):
    model = net()
    flat = flatconv.fold(model, (X,), weights="shared")
    flat(X)
    change(model)
    with pytest.raises(flatconv.GuardError, match=r"0: its class or its method.*fold it again"):
        flat(X)


def test_spectral_norm_in_train_mode():
    """Each call takes a step of the power iteration, without gradients, which a program of values does not show."""
    for adapter in (spectral_norm, old_spectral_norm):
        model, plain = pair(adapter)
        model.train()
        plain.train()
        with pytest.raises(flatconv.RefusedError, match=r"in place .*shared"):
            flatconv.fold(model, (X,))
        flat = flatconv.fold(model, (X,), weights="shared")
        with pytest.raises(flatconv.GuardError, match="does something to gradients"):
            flat(X)
        with torch.no_grad():
            for _ in range(2):
                agree(flat(X), plain(X))
                for a, b in zip(model.buffers(), plain.buffers(), strict=True):
                    agree(a, b)


def test_adapters_of_peft():
    peft = pytest.importorskip("peft")
    model, plain = (peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["0"], r=2), net()) for _ in range(2))
    for m in (model, plain):
        changed(m)
        m.eval()
    handle = flatconv.patch(model, {"forward": (X,)})
    agree(model(X), plain(X))
    for m in (model, plain):
        m[0].merge()
    agree(model(X), plain(X))
    assert handle.counts["forward"].original == 1
