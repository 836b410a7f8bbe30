"""What a fold promises its caller."""

import copy
import dataclasses
from collections import OrderedDict, namedtuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatconv
from tests.expected import Net, agree, filled, folded, form, operators, sample

Pair = namedtuple("Pair", "mean scale")


def conv(inputs=2, outputs=2, kernel=3, **options):
    return nn.Conv3d(inputs, outputs, kernel, padding=1, **options)


def image(*shape, **options):
    return sample(*(shape or (1, 2, 1, 5, 6)), **options)


# --- calls


class Call(nn.Module):
    """Arguments of every kind."""

    def __init__(self):
        super().__init__()
        self.conv = conv()

    def forward(self, x, scale=2.0, *rest, flag=False, shift=None, **more):
        y = self.conv(x) * scale
        for r in rest:
            y = y + r
        if flag:
            y = -y
        if shift is not None:
            y = y + shift["by"][0]
        return y + more.get("extra", 0)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((image(),), {}),
        ((), {"x": image()}),
        ((image(), 3.0), {}),
        ((image(),), {"scale": 3.0}),
        ((image(), 0.5, image(seed=2), image(seed=3)), {"flag": True}),
        ((image(),), {"shift": {"by": [image(seed=4), "unused"]}}),
        ((image(),), {"extra": image(seed=5), "flag": False}),
    ],
    ids=["positional", "by name", "a number", "a number by name", "more", "nested", "keywords"],
)
def test_arguments(args, kwargs):
    net = filled(Call())
    flat = flatconv.fold(net, args, kwargs, dynamic=False)
    with torch.no_grad():
        agree(flat(*args, **kwargs), net(*args, **kwargs))
    assert "conv3d" not in operators(flat)


def test_a_default_may_be_given_and_a_given_default_left_out():
    net = filled(Call())
    x = image()
    flat = flatconv.fold(net, (x,), dynamic=False)
    with torch.no_grad():
        agree(flat(x, 2.0), net(x))
        agree(flat(x=x, scale=2.0, flag=False, shift=None), net(x))


def test_a_single_tensor_stands_for_its_tuple():
    net = filled(conv())
    x = image()
    with torch.no_grad():
        agree(flatconv.fold(net, x, dynamic=False)(x), net(x))


def test_another_method():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = conv(2, 3), conv(3, 2)

        def encode(self, x):
            return self.encoder(x)

        def decode(self, z):
            return self.decoder(z)

    net = filled(Two())
    z = image(1, 3, 1, 4, 5)
    flat = flatconv.fold(net, (z,), method="decode", dynamic=False)
    with torch.no_grad():
        agree(flat(z), net.decode(z))
    assert flat.report.unused_parameters == ("encoder.weight", "encoder.bias")
    assert set(flat.state_dict()) == {"decoder.weight", "decoder.bias"}
    assert flat.report.audit.method == "decode"


def test_two_inputs_of_different_rank():
    def forward(self, clip, mask):
        return self.conv(clip) * mask[:, :, None]

    net = filled(Net(forward, conv=conv()))
    flat = folded(net, image(), image(1, 1, 5, 6, seed=2))
    assert [g.name for g in flat.guards.inputs] == ["clip", "mask"]


# --- results


@dataclasses.dataclass
class Result:
    sample: torch.Tensor
    extra: tuple = ()


class Distribution:
    """A plain object that holds tensors, as autoencoders return."""

    def __init__(self, parameters):
        self.parameters = parameters
        self.mean, self.logvar = parameters.chunk(2, 1)
        self.deterministic = False
        self.name = "posterior"

    def mode(self):
        return self.mean


def of(make):
    return filled(Net(lambda self, x: make(self.conv(x)), conv=conv()))


def test_results_in_containers():
    net = of(lambda y: {"a": y, "list": [y + 1, (y * 2, None, 3, "word", True)], "pair": Pair(y, -y)})
    x = image()
    flat = flatconv.fold(net, (x,), dynamic=False)
    given, wanted = flat(x), net(x)
    assert list(given) == ["a", "list", "pair"]
    assert type(given["pair"]) is Pair
    assert type(given["list"]) is list
    assert given["list"][1][1:] == (None, 3, "word", True)
    agree(given["a"], wanted["a"])
    agree(given["list"][0], wanted["list"][0])
    agree(given["list"][1][0], wanted["list"][1][0])
    agree(tuple(given["pair"]), tuple(wanted["pair"]))


def test_an_ordered_dict():
    net = of(lambda y: OrderedDict(b=y, a=y + 1))
    x = image()
    given = flatconv.fold(net, (x,), dynamic=False)(x)
    assert type(given) is OrderedDict
    assert list(given) == ["b", "a"]
    agree(given["a"], net(x)["a"])


def test_a_dataclass():
    net = of(lambda y: Result(y, (y + 1, 2)))
    x = image()
    given, wanted = flatconv.fold(net, (x,), dynamic=False)(x), net(x)
    assert type(given) is Result
    agree(given.sample, wanted.sample)
    agree(given.extra[0], wanted.extra[0])
    assert given.extra[1] == 2


def test_a_plain_object():
    net = of(Distribution)
    x = image()
    given, wanted = flatconv.fold(net, (x,), dynamic=False)(x), net(x)
    assert type(given) is Distribution
    agree(given.mode(), wanted.mode())
    agree(given.parameters, wanted.parameters)
    assert (given.deterministic, given.name) == (False, "posterior")


def test_every_call_makes_its_own_result():
    net = of(Distribution)
    flat = flatconv.fold(net, (image(),), dynamic=False)
    first, second = flat(image()), flat(image(seed=2))
    assert first is not second
    assert not torch.equal(first.mean, second.mean)


def test_an_input_and_the_same_tensor_twice_as_results():
    def forward(self, x):
        y = self.conv(x)
        return y, y, x, x * 1

    net = filled(Net(forward, conv=conv()))
    x = image()
    flat = folded(net, x)
    y, again, same, copied = flat(x)
    assert y is again or torch.equal(y, again)
    assert torch.equal(same, x)
    assert torch.equal(copied, x)


def test_a_convolution_that_is_a_result_and_is_read_elsewhere():
    def forward(self, x):
        y = self.conv(x)
        return y, self.last(F.relu(y)), y.mean((2, 3, 4))

    flat = folded(filled(Net(forward, conv=conv(), last=conv())), image())
    assert operators(flat).count("conv2d") == 2
    assert "conv3d" not in operators(flat)


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: (F.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate"), self.conv(x)),
        lambda self, x: (torch.cat([x, x], 2), self.conv(x)),
        lambda self, x: (self.conv(torch.cat([x, x], 2)), self.conv(x).repeat(1, 1, 3, 1, 1)),
        lambda self, x: (x.clone(), self.conv(x)),
    ],
    ids=["pad", "cat", "cat in front", "clone"],
)
def test_results_own_their_memory(forward):
    net = filled(Net(forward, conv=conv()))
    x = image()
    kept = x.clone()
    flat = folded(net, x)
    with torch.no_grad():
        for given, wanted in zip(flat(x), net(x), strict=True):
            assert given.stride() == wanted.stride()
            given.add_(1)
    assert torch.equal(x, kept)


# --- weights


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = conv(2, 3), nn.BatchNorm3d(3), conv(3, 2)
        self.register_buffer("shift", torch.ones(1))

    def forward(self, x):
        return self.last(F.silu(self.norm(self.first(x)))) + self.shift


def test_folded_weights_keep_their_names_at_lower_rank():
    net = filled(Block())
    flat = folded(net, image())
    assert {n: tuple(t.shape) for n, t in flat.state_dict().items() if "num_batches" not in n} == {
        "first.weight": (3, 2, 3, 3),
        "first.bias": (3,),
        "norm.weight": (3,),
        "norm.bias": (3,),
        "norm.running_mean": (3,),
        "norm.running_var": (3,),
        "last.weight": (2, 3, 3, 3),
        "last.bias": (2,),
        "shift": (1,),
    }
    assert {n for n, _ in flat.named_parameters()} == {n for n, _ in net.named_parameters()}
    assert {n for n, _ in flat.named_buffers()} <= {n for n, _ in net.named_buffers()}


def test_folded_weights_are_copies():
    net = filled(conv())
    x = image()
    flat = folded(net, x)
    before = flat(x)
    with torch.no_grad():
        net.weight.zero_()
        net.bias.zero_()
    assert torch.equal(flat(x), before)


def test_frozen_parameters_stay_frozen():
    net = filled(conv())
    net.bias.requires_grad_(False)
    flat = folded(net, image())
    assert flat.weight.requires_grad
    assert not flat.bias.requires_grad


def test_shared_weights_are_the_originals():
    net = filled(Block())
    x = image()
    flat = folded(net, x, weights="shared")
    assert list(flat.state_dict()) == list(net.state_dict())
    for name, parameter in net.named_parameters():
        assert flat.get_parameter(name) is parameter
    for name, buffer in net.named_buffers():
        assert flat.get_buffer(name) is buffer
    with torch.no_grad():
        net.first.weight.mul_(2)
        agree(flat(x), net(x))
        flat.load_state_dict({k: v * 0.5 if v.is_floating_point() else v for k, v in net.state_dict().items()})
        agree(flat(x), net(x))


def test_gradients_flow_into_the_live_taps():
    net = filled(Block())
    x = image().requires_grad_()
    flat = flatconv.fold(net, (x,), weights="shared", dynamic=False)
    wanted = torch.autograd.grad(net(x).square().sum(), [x, *net.parameters()])
    given = torch.autograd.grad(flat(x).square().sum(), [x, *net.parameters()])
    for a, b in zip(given, wanted, strict=True):
        agree(a, b)
    for (name, _), gradient in zip(net.named_parameters(), given[1:], strict=True):
        if gradient.dim() == 5:
            assert not gradient[:, :, [0, 2]].any(), name
            assert gradient[:, :, 1].any(), name


def test_gradients_of_merged_taps_are_alike():
    net = filled(nn.Conv3d(2, 2, 3, padding=1, padding_mode="replicate"))
    x = image()
    flat = flatconv.fold(net, (x,), weights="shared", dynamic=False)
    (wanted,) = torch.autograd.grad(net(x).square().sum(), [net.weight])
    (given,) = torch.autograd.grad(flat(x).square().sum(), [net.weight])
    agree(given, wanted)
    assert torch.equal(given[:, :, 0], given[:, :, 2])


def test_training_goes_on_with_shared_weights():
    net = filled(conv())
    other = copy.deepcopy(net)
    x = image()
    flat = flatconv.fold(net, (x,), weights="shared", dynamic=False)
    for model, parameters in ((flat, net.parameters()), (other, other.parameters())):
        optimiser = torch.optim.SGD(list(parameters), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            model(x).square().mean().backward()
            optimiser.step()
    torch.testing.assert_close(net.weight, other.weight, rtol=1e-10, atol=1e-12)


def test_the_model_itself_is_untouched():
    net = filled(Block())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
    flatconv.fold(net, (image(),))
    flatconv.fold(net, (image(),), weights="shared")
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_unused_parameters():
    net = Net(lambda self, x: self.conv(x), conv=conv(), never=conv(), also=nn.Linear(2, 2, bias=False))
    flat = folded(filled(net), image())
    assert flat.report.unused_parameters == ("never.weight", "never.bias", "also.weight")
    assert set(flat.state_dict()) == {"conv.weight", "conv.bias"}


def test_the_same_convolution_on_one_slice_twice():
    def forward(self, x):
        return self.conv(F.relu(self.conv(x)))

    net = filled(Net(forward, conv=conv()))
    flat = folded(net, image())
    assert [s.name for s in flat.report.sites] == ["conv", "conv#2"]
    assert {n: tuple(t.shape) for n, t in flat.state_dict().items()} == {"conv.weight": (2, 2, 3, 3), "conv.bias": (2,)}
    # Its parameters count once, its work twice.
    totals, site = flat.report.audit.totals, flat.report.sites[0]
    assert totals.parameters == site.parameters
    assert totals.macs == 2 * site.macs


def test_the_same_convolution_on_one_slice_and_on_three():
    def forward(self, x, clip):
        return self.conv(x), self.conv(clip)

    net = filled(Net(forward, conv=conv()))
    flat = folded(net, image(), image(1, 2, 3, 5, 6))
    assert [s.becomes for s in flat.report.sites] == ["conv2d", "conv3d"]
    assert sorted(tuple(t.shape) for n, t in flat.state_dict().items() if "weight" in n) == [
        (2, 2, 3, 3),
        (2, 2, 3, 3, 3),
    ]
    assert not flat.report.unused_parameters
    shared = folded(net, image(), image(1, 2, 3, 5, 6), weights="shared")
    assert list(shared.state_dict()) == ["conv.weight", "conv.bias"]


def test_tied_weights():
    first, second = conv(), conv()
    second.weight = first.weight
    net = filled(nn.Sequential(first, second))
    x = image()
    flat = folded(net, x)
    assert operators(flat).count("conv2d") == 2
    assert sum(t.dim() == 4 for t in flat.state_dict().values()) == 1
    assert not flat.report.unused_parameters
    shared = folded(net, x, weights="shared")
    assert list(shared.state_dict()) == list(net.state_dict())
    assert shared.get_parameter("0.weight") is shared.get_parameter("1.weight") is first.weight


def test_a_weight_computed_on_every_call():
    net = filled(nn.utils.parametrizations.weight_norm(conv()))
    x = image()
    flat = folded(net, x)
    assert {tuple(t.shape) for t in flat.state_dict().values()} == {(2, 2, 3, 3), (2,)}
    assert operators(flat) == ["squeeze", "conv2d", "unsqueeze"]
    assert not flat.report.unused_parameters
    shared = flatconv.fold(net, (x,), weights="shared", dynamic=False)
    assert list(shared.state_dict()) == list(net.state_dict())
    wanted = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    given = torch.autograd.grad(shared(x).square().sum(), list(net.parameters()))
    for a, b in zip(given, wanted, strict=True):
        agree(a, b)


def test_a_weight_that_is_read_elsewhere():
    def forward(self, x):
        return self.conv(x) + self.conv.weight.square().mean() + self.conv.weight[:, :1, :1, 0, 0].sum()

    net = filled(Net(forward, conv=conv()))
    flat = folded(net, image())
    assert {tuple(t.shape) for n, t in flat.state_dict().items() if "weight" in n} == {(2, 2, 3, 3), (2, 2, 3, 3, 3)}


def test_a_constant_of_the_code():
    def forward(self, x):
        return self.conv(x) * torch.tensor([1.0, -2.0], dtype=x.dtype).reshape(1, 2, 1, 1, 1)

    folded(filled(Net(forward, conv=conv())), image())


def test_a_weight_that_comes_in():
    def forward(self, x, weight):
        return F.conv3d(x, weight, padding=1)

    flat = folded(filled(Net(forward)), image(), image(3, 2, 3, 3, 3, seed=2))
    assert "conv2d" in operators(flat)


# --- free sizes


@pytest.mark.parametrize("shape", [(1, 2, 1, 5, 6), (2, 2, 1, 5, 6), (3, 2, 1, 8, 4)])
def test_batch_height_and_width_are_free(shape):
    net = filled(Block())
    flat = folded(net, image(*shape), dynamic="auto")
    assert flat.report.free == ("x.shape[0]", "x.shape[3]", "x.shape[4]")
    for other in ((1, 2, 1, 7, 3), (4, 2, 1, 2, 9), (2, 2, 1, 6, 6)):
        x = image(*other)
        with torch.no_grad():
            agree(flat(x), net(x))


def test_sizes_that_have_to_divide():
    net = filled(nn.Sequential(conv(), nn.AvgPool3d((1, 2, 2)), nn.Upsample(scale_factor=(1, 2, 2)), conv()))
    flat = folded(net, image(1, 2, 1, 8, 8), dynamic="auto")
    x = image(2, 2, 1, 4, 10)
    with torch.no_grad():
        agree(flat(x), net(x))


def test_every_size_fixed():
    flat = folded(filled(conv()), image(), dynamic=False)
    assert flat.report.free == ()
    with pytest.raises(flatconv.GuardError):
        flat(image(2, 2, 1, 5, 6))


@pytest.mark.parametrize("dynamic", ["auto", False])
@pytest.mark.parametrize(
    ("forward", "shape"),
    [
        pytest.param(lambda self, x: self.conv(x).squeeze(), (1, 2, 1, 5, 6), id="squeeze of every axis of size 1"),
        pytest.param(lambda self, x: self.conv(x.expand(2, -1, -1, -1, -1)), (1, 2, 1, 5, 6), id="expand of the batch"),
        pytest.param(lambda self, x: self.conv(x)[0], (1, 2, 1, 5, 6), id="the first of the batch"),
        pytest.param(lambda self, x: self.conv(x) * x.shape[0], (1, 2, 1, 5, 6), id="the batch as a factor"),
        pytest.param(lambda self, x: self.conv(x) if len(x) > 1 else -self.conv(x), (1, 2, 1, 5, 6), id="a branch"),
        pytest.param(
            lambda self, x: self.conv(x).view(-1, 2, 5, 6).transpose(0, 1), (1, 2, 1, 5, 6), id="depth into the batch"
        ),
        pytest.param(lambda self, x: self.conv(x).reshape(1, -1, 5, 6), (1, 2, 1, 5, 6), id="batch into the channels"),
    ],
)
def test_what_a_batch_of_one_decides(forward, shape, dynamic):
    net = filled(Net(forward, conv=conv()))
    flat = flatconv.fold(net, (image(*shape),), dynamic=dynamic)
    for batch in (1, 2, 3):
        x = image(batch, *shape[1:])
        with torch.no_grad():
            try:
                given = flat(x)
            except flatconv.GuardError:
                assert batch > 1
                continue
            agree(given, net(x))


def test_an_empty_batch():
    net = filled(Block())
    x = image(0, 2, 1, 5, 6)
    flat = folded(net, x)
    assert flat(x).shape == (0, 2, 1, 5, 6)


# --- the module


@pytest.fixture
def flat():
    return flatconv.fold(filled(Block()), (image(),), dynamic="auto")


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy])
def test_copies_compute_the_same(flat, again):
    other = again(flat)
    x = image(2, 2, 1, 4, 7)
    assert torch.equal(other(x), flat(x))
    assert form(other) == form(flat)
    assert other.report.sites == flat.report.sites
    with pytest.raises(flatconv.GuardError):
        other(image(1, 2, 2, 5, 6))


def test_a_deep_copy_has_weights_of_its_own(flat):
    other = copy.deepcopy(flat)
    x = image()
    before = flat(x)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(flat(x), before)
    assert not torch.equal(other(x), before)


def test_pickling_says_what_to_do_instead(flat, tmp_path):
    with pytest.raises(flatconv.InputError, match=r"\.save\("):
        torch.save(flat, tmp_path / "flat.pt")


@pytest.mark.parametrize("weights", ["folded", "shared"])
def test_torch_compile(weights):
    net = filled(Block())
    x = image(2, 2, 1, 5, 6)
    flat = flatconv.fold(net, (x,), weights=weights)
    torch.compiler.reset()
    compiled = torch.compile(flat, backend="eager")
    with torch.no_grad():
        agree(compiled(x), net(x))
        other = image(3, 2, 1, 4, 8)
        agree(compiled(other), net(other))
    with pytest.raises(flatconv.GuardError):
        compiled(image(1, 2, 2, 5, 6))


def test_mode(flat):
    assert not flat.training
    net = filled(Block())
    net.norm = nn.Identity()
    net.train()
    assert flatconv.fold(net, (image(),), dynamic=False).training


def test_moves_to_another_device(flat):
    assert flat.to("meta").get_parameter("first.weight").is_meta


def test_the_report_prints(flat):
    text = str(flat.report)
    assert "first" in text
    assert "conv2d" in text
    assert flat.report.to_json()
    assert "conv2d" in flat.code


def test_weights_is_one_of_two_words():
    with pytest.raises(flatconv.InputError, match="weights is 'lazy'; it may be 'folded' or 'shared'"):
        flatconv.fold(conv(), (image(dtype=torch.float32),), weights="lazy")


def test_dynamic_is_one_of_three():
    with pytest.raises(flatconv.InputError, match="dynamic is 'all'; it may be 'auto', True"):
        flatconv.fold(conv(), (image(dtype=torch.float32),), dynamic="all")


@pytest.mark.parametrize("weights", ["folded", "shared"])
def test_merged_taps_that_do_not_fit_their_type_are_refused(weights):
    class Still(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 1, (2, 1, 1), bias=False)

        def forward(self, x):
            return self.conv(x.expand(-1, -1, 2, -1, -1))

    model = Still().half().eval()
    nn.init.constant_(model.conv.weight, 60000.0)
    with pytest.raises(flatconv.RefusedError, match=r"more than torch\.float16 can hold"):
        flatconv.fold(model, (torch.full((1, 1, 1, 4, 4), 1e-3).half(),), weights=weights)


def test_results_of_their_own_memory_keep_it():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 2, (3, 1, 1), padding=(1, 0, 0))

        def forward(self, x):
            y = self.conv(x)
            return y, y.flip(2), y.transpose(3, 4)

    flat = flatconv.fold(Twice().eval(), (torch.randn(1, 1, 1, 4, 5),))
    y, flipped, turned = flat(torch.randn(1, 1, 1, 4, 5))
    y.zero_()
    assert flipped.abs().max() > 0
    assert turned.abs().max() == 0


def test_zeros_of_both_signs_are_told_apart_where_it_matters():
    class Signs(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 1, (2, 1, 1))

        def forward(self, x):
            y = x + 1
            return self.conv(torch.cat([torch.copysign(y, torch.full_like(y, s)) for s in (0.0, -0.0)], 2))

    model, x = Signs().eval(), torch.randn(1, 1, 1, 4, 5)
    assert flatconv.audit(model, (x,)).sites[0].merged_taps == ()
    torch.testing.assert_close(flatconv.fold(model, (x,))(x), model(x))
