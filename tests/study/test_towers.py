"""Runs side by side compute what each computes alone, and variants differ in their start only."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatconv
from flatconv.study.towers import VARIANTS, Shape, beginning, convolutions, copy_live, loss, side_by_side, tower
from flatconv.study.training import Training, fit
from tests.expected import sample

torch.set_num_threads(1)
NORMS = pytest.mark.parametrize("norm", [False, True], ids=["without norm", "with norm"])


def shape(norm=False, layers=3, width=4):
    return Shape(layers, width, norm, 8, 5)


def labels(n, runs):
    return torch.randint(5, (n, runs), generator=torch.Generator().manual_seed(3))


@NORMS
@pytest.mark.parametrize("variant", VARIANTS)
def test_side_by_side_is_one_by_one(variant, norm):
    towers = [tower(variant, shape(norm), seed).double() for seed in (0, 1, 2)]
    x = sample(6, 3, 8, 8)
    many = side_by_side(towers).double()(x)
    assert many.shape == (6, 3, 5)
    for i, one in enumerate(towers):
        given = x[:, i : i + 1] if variant == "2-D" else x[:, i : i + 1, None]
        torch.testing.assert_close(many[:, i], one(given).flatten(1))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_side_by_side_trains_as_one_by_one(optimizer):
    how = Training(2, 4, 1e-2, optimizer)
    towers = [tower("direct 3-D", shape(True), seed).double() for seed in (0, 1)]
    x, y = sample(12, 2, 8, 8), labels(12, 2)
    together = side_by_side(towers).double()
    fit(together, x, y, how, 0, loss)
    for i, one in enumerate(towers):
        alone = nn.Sequential(one, nn.Flatten())
        fit(alone, x[:, i : i + 1, None], y[:, i], how, 0, F.cross_entropy)
        torch.testing.assert_close(together.eval()(x)[:, i], alone.eval()(x[:, i : i + 1, None]))


def test_the_loss_is_a_sum():
    outputs, targets = sample(6, 3, 5), labels(6, 3)
    alone = sum(F.cross_entropy(outputs[:, i], targets[:, i]) for i in range(3))
    torch.testing.assert_close(loss(outputs, targets), alone)


def test_seeds_differ_and_repeat():
    one, two, again = (tower("2-D", shape(), seed)[0].weight for seed in (0, 1, 0))
    assert torch.equal(one, again)
    assert not torch.equal(one, two)


def test_the_caller_keeps_its_random_numbers():
    before = torch.random.get_rng_state()
    tower("direct 3-D", shape(), 0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_head_is_the_same_for_all():
    heads = [convolutions(tower(v, shape(), 0))[-1].weight.flatten() for v in VARIANTS]
    assert all(torch.equal(head, heads[0]) for head in heads)


def test_unit_depth_draws_what_2d_draws():
    for flat, deep in zip(*(convolutions(tower(v, shape(), 0)) for v in ("2-D", "unit depth")), strict=True):
        assert torch.equal(flat.weight, deep.weight[:, :, 0])
        assert torch.equal(flat.bias, deep.bias)


@NORMS
def test_with_the_same_live_weights_the_variants_are_the_same(norm):
    x = sample(5, 2, 8, 8)
    flat = side_by_side([tower("2-D", shape(norm), s) for s in (0, 1)]).double()
    for variant in VARIANTS[1:]:
        deep = side_by_side([tower(variant, shape(norm), s + 9) for s in (0, 1)]).double()
        copy_live(flat, deep)
        torch.testing.assert_close(deep(x), flat(x))


def test_the_correction_reaches_every_convolution_but_the_head():
    net = side_by_side([tower("corrected 3-D", shape(True, 3, 8), s) for s in (0, 1)])
    found = flatconv.reinit(net, (sample(2, 2, 8, 8, dtype=torch.float32),))
    assert [s.done for s in found.sites] == ["scaled"] * 3 + ["right"]
    assert {round(s.factor, 6) for s in found.of("scaled")} == {round(math.sqrt(3), 6)}


def test_the_signal_is_what_differs_between_images():
    net = side_by_side([tower("2-D", shape(), s) for s in (0, 1)]).double()
    same = sample(1, 2, 8, 8).expand(4, -1, -1, -1)
    assert float(beginning(net, same, labels(4, 2)).signal.max()) < 1e-12
    x, y = sample(4, 2, 8, 8), labels(4, 2)
    found = beginning(net, x, y)
    assert found.signal.shape == found.gradient.shape == (3, 2)
    first = net[0](x)[:, 4:]  # the second run's channels
    assert float(found.signal[0, 1]) == pytest.approx(first.var(0).mean().sqrt().item())
    assert all(p.grad is None for p in net.parameters())
    # Of a run's own loss, as if it were alone.
    alone = tower("2-D", shape(), 1).double()
    F.cross_entropy(alone(x[:, 1:]).flatten(1), y[:, 1]).backward()
    assert float(found.gradient[0, 1]) == pytest.approx(alone[0].weight.grad.norm().item())


def test_a_direct_layer_starts_smaller_by_the_root_of_its_taps():
    runs = range(24)
    x = sample(16, len(runs), 8, 8, dtype=torch.float32)
    y = labels(16, len(runs))
    flat, deep = (beginning(side_by_side([tower(v, shape(), s) for s in runs]), x, y) for v in ("2-D", "direct 3-D"))
    ratio = (flat.signal[0].log().mean() - deep.signal[0].log().mean()).exp()
    assert float(ratio) == pytest.approx(math.sqrt(3), rel=0.15)
