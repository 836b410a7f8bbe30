"""Networks that read the frames of a clip in different ways, at equal cost."""

import pytest
import torch

import flatconv
from flatconv.study.networks import BUDGETS, READINGS, Network, Shape, cost, nearest, width_for

SHAPE = Shape(frames=7, size=24, classes=8)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("reading", READINGS)
def test_costs_are_equal_within_five_percent(reading, budget):
    wanted = cost("3-D", 6, SHAPE).of(budget)
    found = cost(reading, width_for(reading, budget, wanted, SHAPE), SHAPE).of(budget)
    assert abs(found / wanted - 1) < 0.05


def test_multiply_adds_by_hand():
    planes = 12 * 12 * (7 * 9 * 3) + 6 * 6 * (3 * 9 * 6) + 3 * 3 * (6 * 9 * 12)
    assert cost("channels", 3, SHAPE).macs == planes + 12 * 8
    assert cost("averaged", 3, SHAPE).macs == 7 * (planes - 12 * 12 * (6 * 9 * 3)) + 12 * 8


@pytest.mark.parametrize("reading", ["3-D", "(2+1)-D"])
def test_multiply_adds_are_those_of_the_audit(reading):
    torch.manual_seed(0)
    network = Network(reading, 3, SHAPE).eval()
    clip = torch.randn(1, 1, 7, 24, 24)
    convolutions = flatconv.audit(network, (clip,)).totals.macs
    found = cost(reading, 3, SHAPE)
    assert found.macs == convolutions + network.head.in_features * 8
    assert found.parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("reading", READINGS)
def test_what_a_reading_sees(reading):
    torch.manual_seed(0)
    network = Network(reading, 3, SHAPE).eval()
    clip = torch.randn(2, 1, 7, 24, 24)
    out = network(clip)
    assert out.shape == (2, 8)
    others = clip.clone()
    others[:, :, [0, 1, 2, 4, 5, 6]] = 0
    assert torch.equal(network(others), out) == (reading == "one frame")
    backwards = network(clip.flip(2))
    assert torch.allclose(backwards, out, atol=1e-6) == (reading in ("one frame", "averaged"))


def test_the_nearest_width():
    assert nearest(100, lambda width: round(16 * width) ** 2) == 10 / 16
    assert nearest(109, lambda width: round(16 * width) ** 2) == 10 / 16
    assert nearest(112, lambda width: round(16 * width) ** 2) == 11 / 16
