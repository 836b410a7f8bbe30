"""Types, autocast, order in memory, hooks and modes around a call: what the original does, or a refusal."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatconv
from tests.expected import Net, agree, filled, sample

X = sample(2, 2, 1, 8, 6)
WEIGHTS = pytest.mark.parametrize("weights", ["folded", "shared"])


def net(dtype=torch.float64):
    return filled(
        nn.Sequential(
            nn.Conv3d(2, 4, 3, padding=1),
            nn.BatchNorm3d(4),
            nn.SiLU(),
            nn.MaxPool3d((1, 2, 2)),
            nn.Conv3d(4, 4, (3, 1, 1), padding=(1, 0, 0)),
            nn.GroupNorm(2, 4),
            nn.Conv3d(4, 2, 3, padding=1),
        ),
        dtype=dtype,
    )


def ways(build=net, x=X):
    """The original, and what stands for it: folded, with shared weights, and patched."""
    model = build()
    plain = copy.deepcopy(model)
    patched = copy.deepcopy(model)
    flatconv.patch(patched, {"forward": (x,)})
    return plain, [flatconv.fold(model, (x,), weights=w) for w in ("folded", "shared")] + [patched]


# --- autocast


def region(s, x):
    with torch.autocast("cpu", enabled=False):
        return s.conv(x.float()) * 1


def put(to, y):
    to[:] = y
    return to


SAME = {
    "conv": lambda s, x: s.conv(x),
    "causal": lambda s, x: s.conv(F.pad(s.conv(x), (1, 1, 1, 1, 2, 0)))[:, :, :, 1:-1, 1:-1],
    "linear": lambda s, x: s.linear(s.conv(x)),
    "patches": lambda s, x: F.conv3d(x.repeat(1, 1, 2, 1, 1), s.conv.weight[:, :, :2, :2, :2], stride=2),
    "merged": lambda s, x: F.conv3d(F.interpolate(x, scale_factor=(2, 1, 1)), s.conv.weight[:, :, :2]),
    "relu in place": lambda s, x: F.relu(s.conv(x), inplace=True),
    "times a number": lambda s, x: s.conv(x).mul_(2),
    "batch norm": lambda s, x: s.norm(s.conv(x)),
    "group norm": lambda s, x: F.group_norm(s.conv(x), 2),
    "layer norm": lambda s, x: F.layer_norm(s.conv(x), (8, 8)),
    "softmax": lambda s, x: s.conv(x).softmax(1),
    "residual": lambda s, x: s.conv(x) + x,
    "cat": lambda s, x: torch.cat([s.conv(x), x], 1),
    "copied": lambda s, x: torch.zeros_like(x).copy_(s.conv(x)),
    "put": lambda s, x: put(torch.zeros_like(x), s.conv(x)),
    "zeros of its type": lambda s, x: s.conv(x).new_zeros(1) + s.conv(x),
    "wide zeros": lambda s, x: s.conv(x) + torch.zeros(1),
    "trilinear": lambda s, x: F.interpolate(s.conv(x), scale_factor=(1, 2, 2), mode="trilinear"),
    "replicate": lambda s, x: F.pad(s.conv(x), (1, 1, 1, 1, 0, 0), mode="replicate"),
    "transposed": lambda s, x: F.conv_transpose3d(s.conv(x), s.conv.weight, stride=2),
    "product": lambda s, x: s.conv(x).prod(1),
    "loss": lambda s, x: F.smooth_l1_loss(s.conv(x), x),
    "einsum": lambda s, x: torch.einsum("ncdhw,oc->nodhw", s.conv(x), s.conv.weight[:, :, 0, 0, 0]),
    "standardised": lambda s, x: F.conv3d(x, s.conv.weight - s.conv.weight.mean((1, 2), keepdim=True), padding=1),
    "low rank": lambda s, x: F.conv3d(x, s.conv.weight + (s.b @ s.a).view_as(s.conv.weight), padding=1),
    "no live tap": lambda s, x: F.conv3d(x, s.conv.weight[:, :, :2], s.conv.bias, 1, (2, 1, 1), (3, 1, 1)),
}
OTHER = {
    # Operators that autocast knows with three axes, and not with two, or the other way round.
    "average": (lambda s, x: F.avg_pool3d(s.conv(x), (1, 2, 2)), "avg_pool"),
    "adaptive average": (lambda s, x: F.adaptive_avg_pool3d(s.conv(x), (1, 2, 2)), "avg_pool"),
    "maximum": (lambda s, x: F.max_pool3d(s.conv(x), (1, 2, 2)), "max_pool"),
    "reflect": (lambda s, x: F.pad(s.conv(x), (1, 1, 1, 1, 0, 0), mode="reflect"), "reflection_pad"),
    # What is left out and has a type of its own.
    "wide zeros in front": (lambda s, x: torch.cat([torch.zeros(2, 2, 1, 8, 8), s.conv(x)], 2)[:, :, 1:], "cat"),
    # Casts to the type that it has already when it is captured.
    "float": (lambda s, x: s.conv(x).float() * 3, "'float'"),
    "to": (lambda s, x: s.conv(x).to(torch.float32) * 3, "'to'"),
    "to the input's": (lambda s, x: s.conv(x).to(x.dtype) * 3, "dtype"),
    "from the input": (lambda s, x: x.to(s.conv(x).dtype) * 3 + 0 * s.conv(x), "dtype"),
    "type as": (lambda s, x: s.conv(x).type_as(x) * 3, "type_as"),
    "made of a type": (lambda s, x: torch.zeros(1, dtype=s.conv(x).dtype) + s.conv(x), "dtype"),
    # What the code decides on.
    "the type": (lambda s, x: s.conv(x) * (2 if s.conv(x).dtype == torch.float32 else 1), "dtype"),
    "its bytes": (lambda s, x: s.conv(x) * s.conv(x).element_size(), "element_size"),
    "autocast": (lambda s, x: s.conv(x) * (2 if torch.is_autocast_enabled("cpu") else 1), "is_autocast_enabled"),
    "a region without it": (region, "autocast"),
    # Written in place, a tensor keeps its type.
    "a sum in place": (lambda s, x: s.conv(x).relu_().add_(x), "'add_'"),
    "exp in place": (lambda s, x: s.conv(x).exp_(), "'exp_'"),
}
WIDE = sample(2, 2, 1, 8, 8, dtype=torch.float32)


def single(then):
    model = Net(
        then,
        conv=nn.Conv3d(2, 2, 3, padding=1),
        norm=nn.BatchNorm3d(2),
        linear=nn.Linear(8, 4),
        a=nn.Parameter(torch.zeros(3, 54)),
        b=nn.Parameter(torch.zeros(2, 3)),
    )
    return filled(model, dtype=torch.float32)


def like(given, wanted):
    """The same type, and the same values as far as bfloat16 goes."""
    assert (given.dtype, given.shape) == (wanted.dtype, wanted.shape)
    assert float((given.double() - wanted.double()).abs().max()) <= 0.03 * float(wanted.double().abs().max())


@WEIGHTS
@pytest.mark.parametrize("case", SAME)
def test_autocast_does_to_the_fold_what_it_does_to_the_original(case, weights):
    model = single(SAME[case])
    flat = flatconv.fold(model, (WIDE,), weights=weights)
    for learns in (True, False):
        with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(learns):
            like(flat(WIDE), model(WIDE))
    agree(flat(WIDE), model(WIDE), 1e-4)


@WEIGHTS
@pytest.mark.parametrize("case", OTHER)
def test_where_autocast_would_do_something_else_it_is_refused(case, weights):
    then, word = OTHER[case]
    model = single(then)
    flat = flatconv.fold(model, (WIDE,), weights=weights)
    agree(flat(WIDE), model(WIDE), 1e-4)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(flatconv.GuardError, match=f"autocast is on.*{word}"):
        flat(WIDE)
    agree(flat(WIDE), model(WIDE), 1e-4)


@pytest.mark.parametrize("case", [*SAME, *OTHER])
def test_patched_models_run_the_original_under_autocast(case):
    then = SAME[case] if case in SAME else OTHER[case][0]

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.__dict__.update({k: v for k, v in single(then).__dict__.items() if k != "forward"})
            self.first = filled(nn.Conv3d(2, 2, 3, padding=1), dtype=torch.float32)

        def forward(self, x):
            return then(self, self.first(x))

    model = Plain().train(False)
    plain = copy.deepcopy(model)
    try:
        handle = flatconv.patch(model, {"forward": (WIDE,)})
    except flatconv.RefusedError:
        pytest.skip("nothing of it is patched")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        given, wanted = model(WIDE), plain(WIDE)
    if then is region:  # the convolution within it is called without autocast
        like(given, wanted)
    else:
        assert given.dtype == wanted.dtype
        assert torch.equal(given, wanted)
        assert sum(c.folded for c in handle.counts.values()) == 0


@WEIGHTS
@pytest.mark.parametrize("case", ["conv", "relu in place", "residual", "replicate", "low rank"])
def test_a_fold_that_is_made_under_autocast(case, weights):
    model = single(SAME[case])
    with torch.autocast("cpu", torch.bfloat16):
        flat = flatconv.fold(model, (WIDE,), weights=weights, verify=False)
        like(flat(WIDE), model(WIDE))
    given, wanted = flat(WIDE), model(WIDE)
    assert given.dtype == torch.float32
    agree(given, wanted, 1e-4)


def test_gradients_under_autocast():
    model = single(SAME["relu in place"])
    plain = copy.deepcopy(model)
    plain.forward = SAME["relu in place"].__get__(plain)
    flat = flatconv.fold(model, (WIDE,), weights="shared")
    with torch.autocast("cpu", torch.bfloat16):
        losses = [(m(WIDE).float() - 1).square().mean() for m in (flat, plain)]
    for loss in losses:
        loss.backward()
    for name in ("weight", "bias"):
        a, b = getattr(model.conv, name).grad, getattr(plain.conv, name).grad
        assert a.dtype == torch.float32
        like(a, b)


# --- types


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_models(dtype):
    def build():
        model = net(torch.float64)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(0.2 if p.dim() > 1 else 1)
        return model.to(dtype)

    x = X.to(dtype)
    plain, called = ways(build, x)
    with torch.no_grad():
        exact = copy.deepcopy(plain).double()(x.double())
        own = float((plain(x).double() - exact).abs().max())
        for f in called:
            assert f(x).dtype == dtype
            assert float((f(x).double() - exact).abs().max()) <= 2 * own + 1e-3 * float(exact.abs().max())
    with pytest.raises(flatconv.GuardError, match=r"torch.float64.*folded for"):
        called[0](X)


# --- order in memory

VIEWS = {
    "channels last": lambda: X.contiguous(memory_format=torch.channels_last_3d),
    "transposed": lambda: sample(2, 2, 1, 6, 8).transpose(3, 4),
    "permuted": lambda: sample(2, 1, 8, 6, 2).permute(0, 4, 1, 2, 3),
    "a slice": lambda: sample(2, 4, 3, 16, 12)[:, ::2, 1:2, ::2, ::2],
    "expanded": lambda: sample(1, 2, 1, 8, 1).expand(2, 2, 1, 8, 6),
    "one number": lambda: sample(1, 1, 1, 1, 1).expand(2, 2, 1, 8, 6),
    "overlapping": lambda: sample(200).as_strided((2, 2, 1, 8, 6), (3, 5, 7, 6, 1), 2),
    "unsqueezed": lambda: sample(2, 2, 8, 6).unsqueeze(2),
    "another stride of one": lambda: X.clone().as_strided((2, 2, 1, 8, 6), (96, 48, 7777, 6, 1)),
    "an offset": lambda: sample(3, 2, 1, 8, 6)[1:],
    "negated": lambda: torch._neg_view(X.clone()),
    "no image": lambda: sample(0, 2, 1, 8, 6),
    "a gradient": lambda: X.clone().requires_grad_(),
    "a parameter": lambda: nn.Parameter(X.clone()),
}


@pytest.mark.parametrize("last", [False, True])
def test_views_and_channels_last(last):
    def build():
        return net().to(memory_format=torch.channels_last_3d if last else torch.contiguous_format)

    for example in (X, VIEWS["channels last"](), VIEWS["transposed"]()):
        model = build()
        folds = [flatconv.fold(model, (example,), weights=w) for w in ("folded", "shared")]
        plain = build()
        patched = build()
        handle = flatconv.patch(patched, {"forward": (X,)})
        for name, make in VIEWS.items():
            x = make()
            kept = x.detach().clone()
            for f in (*folds, patched):
                given, wanted = f(x), plain(x)
                agree(given.detach(), wanted.detach())
                assert given.requires_grad == wanted.requires_grad
                if x.numel() and x.is_leaf and x.requires_grad:
                    for a, b in zip(torch.autograd.grad(given.sum(), x), torch.autograd.grad(wanted.sum(), x)):  # noqa: B905
                        agree(a, b, 1e-9)
            assert torch.equal(x.detach(), kept), name
        assert handle.counts["forward"].original == 0


def test_the_result_of_a_call_is_not_the_next_ones():
    _, called = ways()
    with torch.no_grad():
        for f in called:
            first = f(X)
            kept = first.clone()
            f(2 * X)
            assert torch.equal(first, kept)


# --- modes of torch


def test_without_gradients():
    plain, called = ways()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            for f in called:
                given, wanted = f(X), plain(X)
                agree(given, wanted)
                assert (given.requires_grad, given.is_inference()) == (wanted.requires_grad, wanted.is_inference())
    for f in called:  # and gradients after it
        assert f(X).requires_grad


@WEIGHTS
def test_folded_in_inference_mode(weights):
    model = net()
    with torch.inference_mode():
        flat = flatconv.fold(model, (X,), weights=weights)
        agree(flat(X), model(X).clone())
    x = X.clone().requires_grad_()
    agree(torch.autograd.grad(flat(x).sum(), x)[0], torch.autograd.grad(model(x).sum(), x)[0], 1e-11)


def test_no_data():
    meta = net().to("meta")
    for call in (
        lambda: flatconv.fold(meta, (X,)),
        lambda: flatconv.fold(meta, (X.to("meta"),)),
        lambda: flatconv.fold(meta, (X,), weights="shared"),
        lambda: flatconv.fold(net(), (X.to("meta"),)),
        lambda: flatconv.patch(meta, {"forward": (X.to("meta"),)}),
    ):
        with pytest.raises(flatconv.RefusedError, match="has no data"):
            call()


class Tied(nn.Module):
    """One weight under two names, and at work with and without its outer taps."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv3d(2, 2, 3, padding=1), nn.Conv3d(2, 2, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        y = self.a(x)
        return self.b(F.pad(y, (1, 1, 1, 1, 1, 1), mode="replicate")) + y


def test_tied_weights():
    plain, called = ways(lambda: filled(Tied()))
    for f in called:
        x, y = X.clone().requires_grad_(), X.clone().requires_grad_()
        given, wanted = f(x), plain(y)
        agree(given, wanted)
        agree(torch.autograd.grad(given.sum(), x, retain_graph=True)[0], torch.autograd.grad(wanted.sum(), y)[0])
    shared = called[1]
    assert len(list(shared.parameters())) == len(list(plain.parameters())) == 3
    shared(X).square().sum().backward()
    plain(X).square().sum().backward()
    for a, b in zip(shared.parameters(), plain.parameters(), strict=True):
        agree(a.grad, b.grad, 1e-11)


# --- hooks


def doubled(module, args, result):
    return result * 2


def shifted(module, args):
    return (args[0] + 1,)


def tripled(module, given, wanted):
    return tuple(None if g is None else g * 3 for g in given)


def halved(module, wanted):
    return tuple(g / 2 for g in wanted)


HOOKS = {
    "forward": lambda m: m.register_forward_hook(doubled),
    "before": lambda m: m.register_forward_pre_hook(shifted),
    "backward": lambda m: m.register_full_backward_hook(tripled),
    "before backward": lambda m: m.register_full_backward_pre_hook(halved),
}
PLACES = {"the model": lambda m: m, "in it": lambda m: m[4]}


def both(f, x=X):
    x = x.clone().requires_grad_()
    y = f(x)
    return y.detach(), torch.autograd.grad(y.square().sum(), x)[0]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_that_are_there(hook, place):
    """Those of the forward pass are part of what is folded; those of gradients are not, and gradients are refused."""
    model = net()
    HOOKS[hook](PLACES[place](model))
    for weights in ("folded", "shared"):
        flat = flatconv.fold(model, (X,), weights=weights)
        with torch.no_grad():
            agree(flat(X), model(X))
        if "backward" in hook:
            with pytest.raises(flatconv.GuardError, match="does something to gradients"):
                both(flat)
        else:
            for a, b in zip(both(flat), both(model), strict=True):
                agree(a, b, 1e-11)
    plain = copy.deepcopy(model)
    assert "has hooks" in flatconv.patch(model, {"forward": (X,)}).left["forward"]
    for a, b in zip(both(model), both(plain), strict=True):
        agree(a, b, 1e-11)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_that_come_later(hook, place):
    model, plain, source = net(), net(), net()
    flatconv.patch(model, {"forward": (X,)})
    shared = flatconv.fold(source, (X,), weights="shared")
    handles = [HOOKS[hook](PLACES[place](m)) for m in (model, plain, source)]
    for a, b in zip(both(model), both(plain), strict=True):
        agree(a, b, 1e-11)
    if place == "in it":
        with pytest.raises(flatconv.GuardError, match=r"hooks on them.*4: _.*hooks.*fold it again"):
            shared(X)
        handles[-1].remove()
    # Hooks of the original itself run when that is called.
    for a, b in zip(both(shared), both(net()), strict=True):
        agree(a, b, 1e-11)


def test_hooks_of_the_fold_itself():
    plain, (folded, shared, _) = ways()
    for flat in (folded, shared):
        flat.register_forward_hook(doubled)
        flat.register_forward_pre_hook(shifted)
        with torch.no_grad():
            agree(flat(X), 2 * plain(X + 1))


def test_jacobians_and_functional_calls():
    """The functional transforms of torch see the weights that they are given."""
    model = net()
    flat = flatconv.fold(model, (X,), weights="shared")
    values = {k: v.detach() * 1.5 for k, v in model.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            given = torch.func.functional_call(flat, values, (X,))
        except flatconv.GuardError:
            given = None
        wanted = torch.func.functional_call(model, values, (X,))
    if given is not None:
        agree(given, wanted)
    agree(flat(X), model(X))


def test_folding_within_autocast_what_is_refused_there():
    model = nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.MaxPool3d((1, 2, 2))).eval()
    x = torch.randn(1, 2, 1, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        flat = flatconv.fold(model, (x,))
    torch.testing.assert_close(flat(x), model(x))
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(flatconv.GuardError, match="max_pool"):
        flat(x)
