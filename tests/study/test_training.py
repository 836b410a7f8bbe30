"""The shared loop: what a seed decides, what the optimizers are, what is told after each step."""

import pytest
import torch
from torch import nn

from flatconv.study.training import Training, accuracy, fit, optimizer_of, predict


def problem():
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(90, 4, generator=random)
    return inputs, (inputs[:, 0] > 0).long()


def model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))


@pytest.mark.parametrize("optimizer", ["sgd", "sgd with decay", "adam", "adam with decay", "adamw"])
def test_it_learns(optimizer):
    net, (inputs, labels) = model(), problem()
    losses = fit(net, inputs, labels, Training(30, 30, 2e-2, optimizer), seed=0)
    assert len(losses) == 30
    assert losses[-1] < losses[0]
    assert accuracy(net, inputs, labels) > 0.85


def test_the_seed_decides_the_order_and_nothing_else():
    def final(seed):
        net, (inputs, labels) = model()[0:2].append(nn.Linear(8, 2, bias=False)), problem()
        with torch.no_grad():
            net[2].weight.fill_(0.1)
        fit(net, inputs, labels, Training(2, 30), seed)
        return net[0].weight.detach().clone()

    first = final(3)
    torch.rand(5)
    assert torch.equal(first, final(3))
    assert not torch.equal(first, final(4))


def test_every_step_is_told_with_gradients_at_hand():
    net, (inputs, labels) = model(), problem()
    seen = []
    fit(
        net, inputs, labels, Training(2, 40), 0,
        each_step=lambda step, loss: seen.append((step, loss, net[0].weight.grad is not None)),
    )  # fmt: skip
    assert [s for s, _, _ in seen] == list(range(6))  # 90 inputs in parts of 40, twice
    assert all(grad for _, _, grad in seen)


@pytest.mark.parametrize(
    ("name", "kind", "decay"),
    [
        ("sgd", torch.optim.SGD, 0.0),
        ("sgd with decay", torch.optim.SGD, 0.3),
        ("adam", torch.optim.Adam, 0.0),
        ("adam with decay", torch.optim.Adam, 0.3),
        ("adamw", torch.optim.AdamW, 0.3),
    ],
)
def test_optimizers_are_what_their_names_say(name, kind, decay):
    made = optimizer_of(model(), Training(1, optimizer=name, decay=0.3, rate=0.25))
    assert type(made) is kind
    assert (made.defaults["weight_decay"], made.defaults["lr"]) == (decay, 0.25)


def test_predictions_come_in_parts_and_without_dropout():
    net, (inputs, _) = model(), problem()
    net.train()
    whole = predict(net, inputs)
    assert torch.allclose(whole, predict(net, inputs, batch=7))
    assert not net.training
