"""Dead taps in training: the forecast against torch's own optimizers, what is watched, and the rule of the verdict."""

import dataclasses

import pytest
import torch
from torch import nn

from flatconv.findings import Estimate
from flatconv.study.claims import c2_dead_taps_in_training as c2
from flatconv.study.training import Training, optimizer_of

WAYS = [dataclasses.replace(way, decay=way.decay * 20, epochs=2) for way in c2.FULL.ways]


@pytest.mark.parametrize("how", WAYS, ids=lambda how: how.optimizer)
def test_the_forecast_is_what_torch_does_with_a_gradient_of_zero(how):
    steps = 60
    first = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 5
    held = nn.ParameterList([nn.Parameter(first.clone())])
    optimizer = optimizer_of(held, how)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        held[0].grad = torch.zeros_like(first)
        optimizer.step()
        schedule.step()
    found = c2.forecast(first, how, steps)
    assert torch.allclose(found, held[0].detach(), rtol=1e-9, atol=1e-12)
    assert torch.equal(found, first) == (how.decay == 0)


def test_training_watches_the_right_taps():
    inputs = torch.randn(40, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 10
    found = c2.train(Training(2, 8, 5e-2, "sgd", 0.0), 0, inputs, labels, images=32)
    assert len(found.dead) == len(found.live) == 2 * 4 + 1
    assert found.gradient == 0
    assert found.live_gradient > 0
    assert found.unchanged
    assert set(found.dead) == {1.0}
    assert found.live[-1] != 1
    decayed = c2.train(Training(2, 8, 5e-2, "sgd with decay", 0.1), 0, inputs, labels, images=32)
    assert not decayed.unchanged
    assert decayed.dead[-1] < 1
    assert decayed.dead[-1] == pytest.approx(decayed.forecast, rel=1e-5)
    assert decayed.off < 1e-5


def test_taps_that_meet_data_do_get_a_gradient(monkeypatch):
    def network():
        return nn.Sequential(nn.Conv3d(1, 2, 3, padding=1, padding_mode="replicate"), nn.Flatten(), nn.Linear(128, 10))

    monkeypatch.setattr(c2, "network", network)
    inputs = torch.randn(16, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = c2.train(Training(1, 8, 5e-2, "sgd", 0.0), 0, inputs, torch.arange(16) % 10, images=12)
    assert found.gradient > 0
    assert not found.unchanged


@pytest.mark.parametrize(
    ("how", "steps"),
    [
        (Training(1, optimizer="sgd"), None),
        (Training(1, optimizer="adam"), None),
        (Training(1, optimizer="adamw", rate=0.1, decay=1.0), 22),  # 0.9 ** 22 is the first below 0.1
    ],
)
def test_steps_until_near(how, steps):
    assert c2.steps_until_near(how) == steps


@pytest.mark.parametrize("name", ["sgd with decay", "adam with decay"])
def test_steps_until_near_is_the_first_step_below(name):
    how = Training(1, optimizer=name, rate=0.02, decay=0.1)
    found = c2.steps_until_near(how)
    held = nn.ParameterList([nn.Parameter(torch.tensor([0.1], dtype=torch.float64))])
    optimizer = optimizer_of(held, how)
    for step in range(1, found + 1):
        assert (float(held[0]) >= 0.01) == (step <= found)
        held[0].grad = torch.zeros(1, dtype=torch.float64)
        optimizer.step()
    assert abs(float(held[0])) < 0.01
    assert c2.steps_until_near(how, most=found - 1) is None


def end(low, high):
    return Estimate("x", (low + high) / 2, low, high)


NEAR, FAR, BETWEEN = end(0.01, 0.05), end(0.9, 1.0), end(0.05, 0.2)


@pytest.mark.parametrize(
    ("ends", "gradient", "verdict"),
    [
        ([NEAR, NEAR], 1e-3, "confirmed"),
        ([NEAR, NEAR], 0.0, "corrected"),  # near zero, but not learned
        ([NEAR, FAR], 0.0, "corrected"),
        ([NEAR, FAR], 1e-3, "corrected"),
        ([FAR, FAR], 0.0, "refuted"),
        ([FAR, FAR], 1e-3, "refuted"),
        ([FAR, BETWEEN], 0.0, "undecided"),
        ([], 0.0, "undecided"),
    ],
)
def test_judge(ends, gradient, verdict):
    assert c2.judge(ends, gradient) == verdict
