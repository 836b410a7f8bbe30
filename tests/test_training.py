"""Training with shared weights: gradients, buffers and optimisers as with the original."""

import copy

import pytest
import torch
from torch import nn

import flatconv
from flatconv import examples
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
