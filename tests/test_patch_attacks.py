"""What an attack on patched models found: each call must be what the unpatched model's is, whatever it takes."""

import collections
import copy
import pickle
import types

import numpy as np
import pytest
import torch
from torch import nn

import flatconv
from tests.expected import agree, filled, sample

X = sample(1, 2, 1, 5, 6)


class Net(nn.Module):
    """A convolution, something beside it, and a function of both."""

    def __init__(self, then, **held):
        super().__init__()
        self.conv = nn.Conv3d(2, 2, 3, padding=1)
        self.then = then
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.then(self, x)


def pair(model, **options):
    model = filled(model)
    plain = copy.deepcopy(model)
    return model, plain, flatconv.patch(model, {"forward": (X,)}, **options)


def gradients(model, x=X):
    x = x.clone().requires_grad_()
    result = model(x)
    if not result.requires_grad:
        return [None]
    found = torch.autograd.grad(result.square().sum(), [x, *model.parameters()], allow_unused=True)
    return [torch.zeros(()) if g is None else g for g in found]


# --- gradients


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return -g


def without(self, x):
    with torch.no_grad():
        y = self.conv(x)
    return y + x


def hooked(self, x):
    y = self.conv(x)
    if y.requires_grad:
        y.register_hook(lambda g: g * 2)
    return y


STOPPED = {
    "detach": lambda s, x: s.conv(x.detach() * 1) + s.conv(x).detach(),
    "no_grad": without,
    "straight through": lambda s, x: (lambda y: y + (torch.round(y) - y).detach())(s.conv(x)),
    "a backward of its own": lambda s, x: Reversed.apply(s.conv(x)),
    "frozen weight": lambda s, x: nn.functional.conv3d(x, s.conv.weight.detach(), s.conv.bias, padding=1),
    "a whole method": torch.no_grad()(lambda s, x: s.conv(x)),
}


@pytest.mark.parametrize("case", STOPPED)
def test_gradients_that_the_code_stops_or_changes(case):
    model, plain, _ = pair(Net(STOPPED[case]))
    for a, b in zip(gradients(model), gradients(plain), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            agree(a, b)
    with torch.no_grad():
        agree(model(X), plain(X))
    # The same of a fold: refused for gradients, right without.
    flat = flatconv.fold(plain, (X,), weights="shared")
    with pytest.raises(flatconv.GuardError, match="does something to gradients"):
        flat(X)
    with torch.no_grad():
        agree(flat(X), plain(X))
    folded = flatconv.fold(plain, (X,))
    agree(folded(X), plain(X))
    with pytest.raises(flatconv.GuardError, match="does something to gradients"):
        folded(X.clone().requires_grad_())


def test_a_hook_on_a_tensor():
    model, plain, _ = pair(Net(hooked))
    # Traced without gradients the hook is not set, so the code that asks whether there are any is what tells.
    for a, b in zip(gradients(model), gradients(plain), strict=True):
        agree(a, b)


def test_gradients_of_slices_that_are_declared_equal():
    two = filled(nn.Conv3d(2, 3, (2, 3, 3)))
    x = X.repeat(1, 1, 2, 1, 1)
    flat = flatconv.fold(two, (x,), assume={"input": flatconv.repeated(dim=2)})
    with pytest.raises(flatconv.GuardError, match="requires a gradient"):
        flat(x.clone().requires_grad_())
    both = flatconv.fold(two, (x,), assume={"input": flatconv.repeated(dim=2, otherwise="full")})
    for a, b in zip(gradients(both, x)[:1], gradients(two, x)[:1], strict=True):
        agree(a, b)


# --- what a model holds


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv3d(2, 2, 3, padding=1), nn.Conv3d(2, 2, 3, padding=1)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x))


def untie(model):
    model.b.weight = nn.Parameter(model.b.weight.detach().flip(0) * 2)


def add_bias(model):
    model.conv.bias = nn.Parameter(torch.ones(2, dtype=torch.float64))


def longer(model):
    model.pos = torch.arange(9.0, dtype=torch.float64)


STATES = {
    "untied": (Tied, untie),
    "a bias": (lambda: Net(lambda s, x: s.conv(x), conv=nn.Conv3d(2, 2, 3, padding=1, bias=False)), add_bias),
    "a longer buffer": (lambda: with_buffer(), longer),
}


def with_buffer():
    model = Net(lambda s, x: s.conv(x) * s.pos.shape[-1])
    model.register_buffer("pos", torch.arange(4.0))
    return model


@pytest.mark.parametrize("case", STATES)
def test_parameters_that_are_others(case):
    build, change = STATES[case]
    model, plain, handle = pair(build())
    shared = flatconv.fold(copy.deepcopy(plain), (X,), weights="shared")
    agree(model(X), plain(X))
    change(model)
    change(plain)
    agree(model(X), plain(X))
    assert handle.counts["forward"].folded == 1
    assert "parameters or buffers of the model were added" in handle.counts["forward"].why
    del shared


def test_modules_in_lists_are_refused():
    model = Net(lambda s, x: s.l[0](s.conv(x)), l=[nn.Conv3d(2, 2, 3, padding=1).double()])
    model, plain, handle = pair(model)
    assert "in none of its registered modules" in handle.left["forward"]
    agree(model(X), plain(X))
    assert model(X).requires_grad
    with pytest.raises(flatconv.RefusedError, match="in none of its registered modules"):
        flatconv.fold(plain, (X,), weights="shared")


class Slotted:
    """Not looked into: its attributes have no dictionary."""

    def __init__(self):
        self.value = 2.0


def deep(name, *path):
    def change(model):
        held = getattr(model, name)
        for key in path[:-2]:
            held = held[key] if not isinstance(key, str) or isinstance(held, dict) else getattr(held, key)
        key, value = path[-2:]
        if isinstance(held, dict | list | collections.deque | np.ndarray):
            held[key] = value
        else:
            setattr(held, key, value)

    return change


HELD = {
    "a dict in a dict": ({"a": {"s": 2.0}}, lambda h: h["a"]["s"], deep("held", "a", "s", 5.0)),
    "a list in a list": ([[2.0]], lambda h: h[0][0], deep("held", 0, 0, 5.0)),
    "a list in a tuple": (([2.0],), lambda h: h[0][0], deep("held", 0, 0, 5.0)),
    "a deque": (collections.deque([2.0]), lambda h: h[0], deep("held", 0, 5.0)),
    "a namespace": (types.SimpleNamespace(s=2.0), lambda h: h.s, deep("held", "s", 5.0)),
    "an object": (Slotted(), lambda h: h.value, deep("held", "value", 5.0)),
    "an array": (np.array([2.0]), lambda h: float(h[0]), deep("held", 0, 5.0)),
    "another type": (2, lambda h: h, lambda m: setattr(m, "held", 2.0)),
    "minus zero": (0.0, lambda h: 1.0 if str(h) == "0.0" else 3.0, lambda m: setattr(m, "held", -0.0)),
    "true and one": (True, lambda h: 2.0 if h is True else 3.0, lambda m: setattr(m, "held", 1)),
}


@pytest.mark.parametrize("case", HELD)
def test_attributes_that_change_inside(case):
    held, read, change = HELD[case]
    model, plain, handle = pair(Net(lambda s, x: s.conv(x) * read(s.held), held=copy.deepcopy(held)))
    agree(model(X), plain(X))
    change(model)
    change(plain)
    a, b = model(X), plain(X)
    assert a.dtype == b.dtype
    agree(a, b)
    assert (handle.counts["forward"].folded, handle.counts["forward"].original) == (1, 1)


def test_another_class():
    class Double(nn.Conv3d):
        def forward(self, x):
            return super().forward(x) * 2

    model, plain, handle = pair(Net(lambda s, x: s.conv(x)))
    model.conv.__class__ = plain.conv.__class__ = Double
    agree(model(X), plain(X))
    assert handle.counts["forward"].folded == 0


# --- what a call leaves behind


def auxiliary(self, x):
    y = self.conv(x)
    self.aux = y.square().mean()
    return y


def counting(self, x):
    self.count += 1
    return self.conv(x)


def listing(self, x):
    self.losses.append(1.0)
    return self.conv(x)


def nested(self, x):
    self.state.n += 1
    return self.conv(x)


LEFT = {
    "a loss": (auxiliary, {"aux": None}),
    "a counter": (counting, {"count": 0}),
    "a list": (listing, {"losses": []}),
    "an object": (nested, {"state": types.SimpleNamespace(n=0)}),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_a_call_leaves_behind(case):
    then, held = LEFT[case]
    model, plain, handle = pair(Net(then, **copy.deepcopy(held)))
    assert "leaves something behind" in handle.left["forward"]
    for name, value in held.items():
        assert getattr(model, name) == value  # patching has left nothing
    for x in (X, 2 * X):
        agree(model(x), plain(x))
    for name in held:
        a, b = getattr(model, name), getattr(plain, name)
        assert a == b or torch.allclose(a, b)


def test_hooks_that_are_there_already():
    seen = {}
    model = filled(nn.Sequential(nn.Conv3d(2, 2, 3, padding=1), nn.ReLU(), nn.Conv3d(2, 2, 3, padding=1)))
    model[0].register_forward_hook(lambda m, a, y: seen.__setitem__("y", y.detach()))
    handle = flatconv.patch(model, {"forward": (X,)})
    assert "has hooks" in handle.left["forward"]
    model(X)
    agree(seen["y"], model[0](X))


def test_hooks_for_all_modules():
    model, _, handle = pair(Net(lambda s, x: s.conv(x)))
    seen = []
    with torch.nn.modules.module.register_module_forward_hook(lambda m, a, y: seen.append(type(m).__name__)):
        model(X)
    assert seen == ["Conv3d", "Net"]
    assert handle.counts["forward"].folded == 0


# --- what cannot be patched


def test_nothing_stays_patched_where_one_class_forbids_it():
    class Final(nn.Conv3d):
        def __init_subclass__(cls, **how):
            raise TypeError("final")

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv3d(2, 2, 3, padding=1), Final(2, 2, 3, padding=1)

        def forward(self, x):
            return self.b(self.a(x))

    model = filled(Both())
    with pytest.raises(flatconv.RefusedError, match=r"a subclass of Final cannot be made.*TypeError: final"):
        flatconv.patch(model, {"a.forward": (X,), "b.forward": (X,)})
    assert type(model.a) is nn.Conv3d
    assert type(model.b) is Final


class Kinds(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(2, 2, 3, padding=1)

    @staticmethod
    def still(x):
        return x

    @classmethod
    def kind(cls, x):
        return x

    @property
    def ready(self):
        return self.conv


@pytest.mark.parametrize("name", ["still", "kind"])
def test_what_is_no_method(name):
    model = filled(Kinds())
    with pytest.raises(flatconv.RefusedError, match="is no plain method of its class"):
        flatconv.patch(model, {name: (X,)})
    assert type(model) is Kinds


@pytest.mark.parametrize("name", ["conv", "ready"])
def test_a_module_in_the_place_of_a_method(name):
    model = filled(Kinds())
    plain = copy.deepcopy(model)
    handle = flatconv.patch(model, {name: (X,)})
    assert "is no plain method of its class" in handle.left[name]
    assert set(handle.routes) == {"conv.forward"}
    agree(getattr(model, name)(X), getattr(plain, name)(X))


@pytest.mark.parametrize("assume", [3, {"x": 3}, {"nope": {}}])
def test_assumptions_are_by_method(assume):
    with pytest.raises(flatconv.InputError, match="assume is by name of the method"):
        flatconv.patch(filled(Kinds()), {"forward": (X,)}, assume=assume)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(2, 2, 3, padding=1)

    def forward(self, x):
        return self.conv(x)

    def __reduce__(self):
        return (self.__class__, (), self.__getstate__())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [Kinds, Own])
def test_pickles_are_of_the_plain_class(kind, protocol):
    kind.forward = Own.forward
    model, plain, handle = pair(kind())
    again = pickle.loads(pickle.dumps(model, protocol))
    assert type(again) is kind
    agree(again(X), plain(X))
    assert type(copy.deepcopy(model)) is type(copy.copy(model)) is kind
    assert handle.counts["forward"].folded == 0
    model(X)
    assert handle.counts["forward"].folded == 1


# --- inputs and outputs


def test_results_in_the_memory_of_inputs():
    model, plain, _ = pair(Net(lambda s, x: (s.conv(x), x.contiguous())))
    x = torch.zeros(1, 1, 5, 6, 2, dtype=torch.float64).permute(0, 4, 1, 2, 3)
    model(x)[1].add_(1)
    assert float(x.abs().sum()) == 0
    flat = flatconv.fold(plain, (X,))
    flat(X.clone())
    with pytest.raises(flatconv.GuardError, match="an input is not contiguous"):
        flat(x)


def test_the_order_in_memory():
    model, plain, handle = pair(Net(lambda s, x: s.conv(x) * (2 if x.is_contiguous() else 3)))
    other, same, free = pair(Net(lambda s, x: s.conv(x)))
    for x in (X, X.transpose(3, 4).contiguous().transpose(3, 4)):
        agree(model(x), plain(x))
        agree(other(x), same(x))
    assert (handle.counts["forward"].folded, free.counts["forward"].folded) == (1, 2)


def test_one_tensor_twice():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(2, 2, 3, padding=1)

        def forward(self, a, b):
            return self.conv(a) * (2 if a is b else 3)

    model = filled(Two())
    plain = copy.deepcopy(model)
    handle = flatconv.patch(model, {"forward": (X, X + 1)})
    agree(model(X, X), plain(X, X))
    agree(model(X, X + 1), plain(X, X + 1))
    assert handle.counts["forward"].folded == 1


def test_results_with_slots_are_refused():
    class Base:
        __slots__ = ("mean",)

    class Dist(Base):
        def __init__(self, y):
            self.mean, self.y = y, y

    with pytest.raises(flatconv.RefusedError, match="cannot be rebuilt around other tensors"):
        flatconv.fold(filled(Net(lambda s, x: Dist(s.conv(x)))), (X,))


def test_results_that_hold_themselves_are_refused():
    def circle(self, x):
        made = types.SimpleNamespace(y=self.conv(x))
        made.self = made
        return made

    with pytest.raises(flatconv.RefusedError, match="holds itself"):
        flatconv.fold(filled(Net(circle)), (X,))
