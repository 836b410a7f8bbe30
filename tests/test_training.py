"""Training with shared weights: gradients, buffers and optimisers as with the original."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatconv
from flatconv import examples
from flatconv.errors import GuardError, RefusedError
from tests.expected import agree, filled, sample

X = sample(2, 2, 1, 6, 5)


def net():
    return filled(
        nn.Sequential(
            nn.Conv3d(2, 4, 3, padding=1),
            nn.BatchNorm3d(4),
            nn.ReLU(inplace=True),
            nn.Conv3d(4, 4, (3, 1, 1), padding=(1, 0, 0)),
            nn.BatchNorm3d(4, affine=False),
            nn.Conv3d(4, 2, 3, padding=1),
        )
    ).train()


def pair(build=net, x=X, **options):
    model = build()
    plain = copy.deepcopy(model)
    return plain, model, flatconv.fold(model, (x,), weights="shared", **options)


def same_state(a, b):
    for (name, u), (other, v) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert name == other
        agree(u, v)


def test_batch_norm_keeps_its_statistics():
    plain, model, flat = pair()
    assert all("conv2d" in str(n.target) for n in flat.graph.nodes if "conv" in str(n.target))
    same_state(model, plain)  # folding and verifying changes nothing
    for seed in range(3):
        x = sample(2, 2, 1, 6, 5, seed=seed)
        agree(flat(x), plain(x))
        same_state(model, plain)
    assert int(model[1].num_batches_tracked) == 3
    # Calls of the original and of the fold go on from each other.
    agree(model(X), plain(X))
    agree(flat(X), plain(X))
    same_state(model, plain)


def test_another_batch():
    plain, model, flat = pair()
    for n in (5, 3):
        x = sample(n, 2, 1, 7, 6)
        agree(flat(x), plain(x))
    same_state(model, plain)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 1.0])
def test_momentum(momentum):
    def build():
        model = net()
        model[1].momentum = model[4].momentum = momentum
        return model

    plain, model, flat = pair(build)
    flat(X)
    plain(X)
    same_state(model, plain)


def test_without_statistics():
    plain, _, flat = pair(
        lambda: filled(
            nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.BatchNorm3d(3, track_running_stats=False))
        ).train()
    )
    agree(flat(X), plain(X))


def test_steps_of_an_optimiser():
    plain, model, flat = pair()
    both = [torch.optim.AdamW(m.parameters(), lr=1e-2) for m in (plain, model)]
    for seed in range(4):
        x = sample(2, 2, 1, 6, 5, seed=seed)
        losses = []
        for call, optimiser in ((plain, both[0]), (flat, both[1])):
            optimiser.zero_grad()
            loss = call(x).square().mean()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        agree(*losses)
    same_state(model, plain)
    # Taps that meet only zeros get zeros.
    assert float(model[0].weight.grad[:, :, (0, 2)].abs().max()) == 0


def test_two_calls_before_one_backward():
    plain, model, flat = pair()
    for call in (plain, flat):
        (call(X).square().mean() + call(X.flip(3)).mean()).backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        agree(a.grad, b.grad)
    same_state(model, plain)


def test_gradcheck():
    model = filled(
        nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.BatchNorm3d(2), nn.Tanh(), nn.Conv3d(2, 1, 3, padding=1))
    ).train()
    flat = flatconv.fold(model, (sample(2, 1, 1, 3, 3),), weights="shared", dynamic=False)
    x = sample(2, 1, 1, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda *_: flat(x), (x, *model.parameters()), eps=1e-6, atol=1e-5)


def test_evaluation_takes_another_fold():
    plain, model, flat = pair()
    model.eval()
    with pytest.raises(flatconv.GuardError, match="folded in train mode and is called in eval mode"):
        flat.eval()(X)
    plain.eval()
    agree(flatconv.fold(model, (X,), weights="shared")(X), plain(X))
    flat.train()
    model.train()
    plain.train()
    agree(flat(X), plain(X))
    same_state(model, plain)


def test_frozen_batch_norm_beside_one_that_learns():
    def build():
        model = net()
        model[1].eval()
        return model

    plain, model, flat = pair(build)
    agree(flat(X), plain(X))
    same_state(model, plain)
    assert int(model[1].num_batches_tracked) == 0


def test_a_patched_model_trains():
    model = net()
    plain = copy.deepcopy(model)
    with flatconv.patch(model, {"forward": (X,)}) as patched:
        for x in (X, sample(2, 2, 3, 6, 5), X):
            agree(model(x), plain(x))
            same_state(model, plain)
        assert (patched.counts["forward"].folded, patched.counts["forward"].original) == (2, 1)


def test_buffers_of_the_users_own():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(2, 3, 3, padding=1)
            self.register_buffer("calls", torch.zeros((), dtype=torch.float64))
            self.register_buffer("mean", torch.zeros(3, dtype=torch.float64))

        def forward(self, x):
            y = self.conv(x)
            self.calls += 1
            self.mean.copy_(y.detach().mean((0, 2, 3, 4)))
            return y * self.calls

    plain, model, flat = pair(lambda: filled(Counting()))
    for _ in range(2):
        with torch.no_grad():
            agree(flat(X), plain(X))
        same_state(model, plain)
    # Its code detaches, and what that does to gradients does not show in the program.
    with pytest.raises(flatconv.GuardError, match="does something to gradients"):
        flat(X)


# Dropout that is switched on: from one seed the same mask, in a program of lower rank too.


class Masked(nn.Module):
    """Dropout between two convolutions, and a path that is left out for some of the batch."""

    def __init__(self, dropout, frames=1):
        super().__init__()
        self.enter, self.leave = nn.Conv3d(2, 4, 3, padding=1), nn.Conv3d(4, 2, 3, padding=1)
        self.dropout, self.frames = dropout, frames

    def forward(self, x):
        y = x.expand(-1, -1, self.frames, -1, -1)
        y = self.leave(self.dropout(torch.relu(self.enter(y))))
        if self.training:
            y = y * x.new_empty((x.shape[0], 1, 1, 1, 1)).bernoulli_(0.75) / 0.75
        return x + y


def seeded(call, x, seed):
    torch.manual_seed(seed)
    return call(x)


DROPOUTS = {
    "elements": lambda: nn.Dropout(0.3),
    "channels": lambda: nn.Dropout3d(0.5),
    "functional": lambda: lambda x: F.dropout(x, 0.4),
    "alpha": lambda: nn.AlphaDropout(0.3),
    "channels, alpha": lambda: nn.FeatureAlphaDropout(0.3),
    "none of it": lambda: nn.Dropout(0.0),
}


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropout(name):
    plain, model, flat = pair(lambda: filled(Masked(DROPOUTS[name]())).train())
    assert [s.becomes for s in flat.report.sites] == ["conv2d", "conv2d"]
    for seed, x in enumerate((X, sample(5, 2, 1, 7, 6))):
        wanted, made = seeded(plain, x, seed), seeded(flat, x, seed)
        agree(made, wanted)
        assert torch.rand(1) == (seeded(plain, x, seed), torch.rand(1))[1]  # as many numbers were drawn
        wanted.square().sum().backward()
        made.square().sum().backward()
        for a, b in zip(model.parameters(), plain.parameters(), strict=True):
            agree(a.grad, b.grad)
    assert name == "none of it" or not torch.equal(seeded(flat, X, 1), seeded(flat, X, 2))


def test_equal_slices_are_not_equal_behind_dropout():
    """Three equal frames: the first convolution may be computed less often, the second one may not."""
    plain, _, flat = pair(lambda: filled(Masked(nn.Dropout(0.5), frames=3)).train())
    for seed in range(3):
        wanted = seeded(plain, X, seed)
        agree(seeded(flat, X, seed), wanted)
        assert not torch.allclose((wanted - X)[:, :, 0], (wanted - X)[:, :, 2])


def test_a_mask_with_two_readers_is_drawn_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv3d(2, 3, 3, padding=1), nn.Conv3d(2, 3, (1, 3, 3), padding=(0, 1, 1))

        def forward(self, x):
            x = F.dropout(x, 0.5)
            return self.first(x) - self.second(x) + x.mean()

    plain, _, flat = pair(lambda: filled(Twice()).train())
    drawn = [n for n in flat.graph.nodes if "dropout" in str(n.target)]
    assert len(drawn) == 1
    for seed in range(3):
        agree(seeded(flat, X, seed), seeded(plain, X, seed))


def test_dropped_weights_are_drawn_on_every_call():
    class Connections(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(2, 3, 3, padding=1)

        def forward(self, x):
            return F.conv3d(x, F.dropout(self.conv.weight, 0.5, self.training), self.conv.bias, padding=1)

    for weights in ("shared", "folded"):
        model = filled(Connections()).train()
        try:
            flat = flatconv.fold(model, (X,), weights=weights)
        except RefusedError:
            continue
        for seed in range(3):
            agree(seeded(flat, X, seed), seeded(model, X, seed))


def test_dropout_without_learning():
    """Masks at inference (Monte Carlo dropout): nothing else is in train mode."""
    model = filled(nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.Dropout(0.5), nn.Conv3d(4, 2, 3, padding=1))).eval()
    model[1].train()
    flat = flatconv.fold(model, (X,))
    agree(seeded(flat, X, 3), seeded(model, X, 3))
    assert "conv3d" not in flat.code
    for write in (lambda: flat.export("x.onnx"), lambda: flatconv.fold(model, (X,), rank4=True)):
        with pytest.raises(RefusedError, match="random numbers"):
            write()


def test_dropout_is_of_the_mode_of_the_capture():
    _, _, flat = pair(lambda: filled(Masked(nn.Dropout(0.3))).train())
    with pytest.raises(GuardError, match="mode"):
        flat.eval()(X)
    flat.train()(X)


@pytest.mark.parametrize(
    "draw", [lambda x: x + torch.randn_like(x), lambda x: F.rrelu(x, training=True), lambda x: F.dropout(x, 1.0)]
)
def test_other_draws_are_refused(draw):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(2, 3, 3, padding=1)

        def forward(self, x):
            return draw(self.conv(x))

    with pytest.raises(RefusedError, match="draws random numbers"):
        flatconv.fold(filled(Noisy()).train(), (X,), weights="shared")


def test_a_patched_model_drops_out():
    plain = filled(Masked(nn.Dropout(0.3))).train()
    model = copy.deepcopy(plain)
    patched = flatconv.patch(model, {"forward": (X,)})
    for seed in range(3):
        agree(seeded(model, X, seed), seeded(plain, X, seed))
    assert patched.counts["forward"].folded == 3
    agree(model.eval()(X), plain.eval()(X))
    assert patched.counts["forward"].original == 1


def test_folded_copies_are_refused():
    with pytest.raises(flatconv.RefusedError, match=r"1\.running_mean, 1\.running_var, .*weights='shared'"):
        flatconv.fold(net(), (X,))


def test_nothing_is_written_of_a_model_that_changes_buffers(tmp_path):
    _, _, flat = pair()
    for save in (flat.save, flat.export):
        with pytest.raises(flatconv.InputError, match="batch norm in train mode"):
            save(tmp_path / "x.pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_real_network():
    model = examples.r3d18(width=4).train()
    plain = copy.deepcopy(model)
    x = sample(2, 3, 1, 32, 32, dtype=torch.float32)
    flat = flatconv.fold(model, (x,), weights="shared")
    for call in (plain, flat):
        call(x).square().mean().backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-2, atol=1e-4)
    for a, b in zip(model.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
