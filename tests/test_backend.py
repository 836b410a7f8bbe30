"""torch.compile(model, backend="flatconv"): folded where it can be, right everywhere."""

import copy

import pytest
import torch
from torch import nn

import flatconv
from flatconv import backend as room
from tests.expected import filled, sample

X = sample(2, 2, 1, 6, 5, dtype=torch.float32)


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(model, **options):
    """The compiled model, and the list of what was said of each graph."""
    said = []
    how = {k: options.pop(k) for k in ("dynamic", "fullgraph") if k in options}
    return torch.compile(model, backend="flatconv", options={"report": said.append} | options, **how), said


def net(*middle):
    layers = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), *middle, nn.ReLU(inplace=True), nn.Conv3d(4, 2, 3, padding=1))
    return filled(layers, dtype=torch.float32)


def near(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def near_at(run, model, shapes):
    """Both on noise of each shape in turn."""
    with torch.no_grad():
        for shape in shapes:
            x = sample(*shape, dtype=torch.float32)
            near(run(x), model(x))


def folded(said):
    return [s for s in said if not isinstance(s, str)]


def test_it_has_a_name():
    assert "flatconv" in torch._dynamo.list_backends(exclude_tags=())


def test_a_graph_is_folded_and_verified():
    model = net(nn.GroupNorm(2, 4))
    run, said = compiled(model, dynamic=False, fullgraph=True)
    with torch.no_grad():
        near(run(X), model(X))
    (report,) = said
    assert all(site.rule for site in report.sites)
    assert report.evidence.float64_error < 1e-10
    # Frames are another graph, in which every tap meets data.
    frames = sample(2, 2, 4, 6, 5, dtype=torch.float32)
    with torch.no_grad():
        near(run(frames), model(frames))


def test_new_weights_are_followed():
    model = net()
    run, said = compiled(model, dynamic=False)
    with torch.no_grad():
        run(X)
        model[0].weight.mul_(-2)
        near(run(X), model(X))
        model.load_state_dict({k: v.flip(0) for k, v in model.state_dict().items()})
        near(run(X), model(X))
    assert len(said) == 1


def test_training():
    model = net(nn.GroupNorm(2, 4))
    other = copy.deepcopy(model)
    run, said = compiled(model, dynamic=False)
    both = [torch.optim.SGD(m.parameters(), lr=1e-3) for m in (model, other)]
    for _ in range(3):
        for call, optimiser in ((run, both[0]), (other, both[1])):
            optimiser.zero_grad()
            call(X).square().mean().backward()
            optimiser.step()
    assert folded(said)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        near(a, b)
        assert a.grad is not None
    # Dead taps get zeros.
    assert model[0].weight.grad[:, :, 0].abs().max() == 0
    assert model[0].weight.grad[:, :, 1].abs().max() > 0


def test_batch_norm_in_train_mode_is_compiled_as_it_is():
    model = net(nn.BatchNorm3d(4)).train()
    other = copy.deepcopy(model)
    run, said = compiled(model, dynamic=False)
    near(run(X), other(X))
    near(model[1].running_mean, other[1].running_mean)
    assert not folded(said)
    assert "in place" in said[0]


def test_a_pad_whose_gradient_inductor_fails_on():
    model = filled(nn.Conv3d(2, 2, 3, padding=1, padding_mode="replicate"), dtype=torch.float32)
    run, said = compiled(model, dynamic=False)
    run(X).sum().backward()
    assert "Inductor fails on the gradient of a replicate pad" in said[0]
    with torch.no_grad():
        near(run(X), model(X))
    assert len(folded(said)) == 1


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return 2 * g


class Stopping(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.conv = nn.Conv3d(2, 2, 3, padding=1)
        self.how = how

    def forward(self, x):
        y = self.conv(x)
        if self.how == "detach":
            return y.detach() + self.conv(x)
        if self.how == "no_grad":
            with torch.no_grad():
                z = self.conv(x)
            return y + z
        return Doubled.apply(y)


@pytest.mark.parametrize("how", ["detach", "no_grad", "a function"])
def test_gradients_that_the_code_stops_or_changes(how):
    model = filled(Stopping(how), dtype=torch.float32)
    other = copy.deepcopy(model)
    run, said = compiled(model, dynamic=False)
    for call in (run, other):
        call(X).square().sum().backward()
    assert not folded(said)
    near(model.conv.weight.grad, other.conv.weight.grad)


def test_results_in_the_memory_of_inputs():
    class Returning(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(2, 2, 3, padding=1)

        def forward(self, x):
            return self.conv(x), x.contiguous()

    run, said = compiled(Returning(), dynamic=False)
    x = torch.zeros(1, 1, 5, 6, 2).permute(0, 4, 1, 2, 3)
    with torch.no_grad():
        run(x)[1].add_(1)
    assert float(x.abs().sum()) == 0
    assert said


def test_graph_breaks():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = net(), net()

        def forward(self, x):
            y = self.first(x)
            return self.second(y) if y.sum() < 1e9 else y

    model = Broken()
    run, said = compiled(model, dynamic=False)
    with torch.no_grad():
        near(run(X), model(X))
    assert len(folded(said)) == 2


SIZES = ((2, 2, 1, 6, 5), (3, 2, 1, 8, 7), (5, 2, 1, 6, 9))


def test_free_sizes():
    model = net()
    run, said = compiled(model, dynamic=True)
    with torch.no_grad():
        for shape in SIZES:
            x = sample(*shape, dtype=torch.float32)
            torch._dynamo.mark_static(x, (1, 2))  # it would free channels and depth too
            near(run(x), model(x))
    assert folded(said) == said
    assert all(site.rule for report in said for site in report.sites)
    assert len(said) < len(SIZES)  # a graph for several sizes


def test_sizes_that_become_free_on_the_second_call():
    model = net()
    run, said = compiled(model)
    near_at(run, model, SIZES)
    assert len(said) == len(folded(said)) == 2


def test_sizes_that_the_code_computes_with():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = filled(nn.Conv3d(2, 2, 3, padding=1), dtype=torch.float32)

        def forward(self, x):
            n, c, _, h, w = x.shape
            y = torch.nn.functional.interpolate(self.conv(x)[:, :, 0], (h * 2, w * 2))
            return y[..., : h + 1, : w // 2].reshape(n, c, -1) * h

    model = Half()
    run, said = compiled(model)
    near_at(run, model, SIZES)
    assert folded(said)


def test_free_sizes_in_training():
    """Inductor fails on the gradient, as of torch 2.13: the first graph is folded, and that for all sizes is not."""
    plain, model = net(nn.GroupNorm(2, 4)), net(nn.GroupNorm(2, 4))
    run, said = compiled(model)
    for shape in SIZES:
        x = sample(*shape, dtype=torch.float32)
        for m, call in ((plain, plain), (model, run)):
            m.zero_grad()
            call(x).square().mean().backward()
        for a, b in zip(model.parameters(), plain.parameters(), strict=True):
            near(a.grad, b.grad)
    assert len(folded(said)) == 1
    assert "symbolic strides" in said[-1]


def test_a_free_depth_is_compiled_as_it_is():
    model = net()
    run, said = compiled(model, dynamic=True)
    near_at(run, model, [(2, 2, depth, 6, 5) for depth in (3, 4, 7)])
    assert not folded(said)
    assert "only for some of its sizes" in said[0] or "nothing in it can be folded" in said[0]


def test_conditions_that_dynamo_does_not_check():
    """The fold of this needs an even height, and the graph is for all."""

    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = filled(nn.Conv3d(2, 2, 3, padding=1), dtype=torch.float32)

        def forward(self, x):
            y = self.conv(x)[:, :, 0]
            return torch.nn.functional.pixel_unshuffle(y, 2)

    model = Blocks()
    run, said = compiled(model)
    near_at(run, model, [(2, 2, 1, h, w) for h, w in ((6, 4), (8, 6), (10, 4))])
    assert said


@pytest.mark.parametrize(
    ("model", "x", "words"),
    [
        (nn.Conv2d(2, 2, 3), X[:, :, 0], "no convolution over three axes"),
        (nn.Sequential(nn.Conv3d(2, 2, 3, padding=1), nn.RReLU()).train(), X, "draws random numbers"),
    ],
)
def test_what_is_compiled_as_it_is(model, x, words):
    run, said = compiled(model, dynamic=False)
    with torch.no_grad():
        assert run(x).shape == model(x).shape
    assert words in said[0]


def test_a_wrong_fold_is_not_run(monkeypatch):
    def wrong(*args, **options):
        raise flatconv.VerificationError("it differs")

    monkeypatch.setattr(room, "fold", wrong)
    run, _ = compiled(net(), dynamic=False)
    with pytest.raises(Exception, match="it differs"), torch.no_grad():
        run(X)


def test_options_of_inductor_go_on():
    run, said = compiled(net(), dynamic=False, max_autotune=False, verify=False)
    with torch.no_grad():
        run(X)
    assert folded(said)[0].evidence.float64_error is None
    run, _ = compiled(net(), dynamic=False, no_such_option=1)
    with pytest.raises(Exception, match="no_such_option"), torch.no_grad():
        run(X)
