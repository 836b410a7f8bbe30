"""Bands have an order, content moves along it, and the test is never in training."""

import pytest
import torch

from flatconv.study import bands
from flatconv.study.bands import Patches


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def test_scales_add_up_to_the_patch_without_its_coarsest_part():
    patches = torch.rand(2, 16, 16, generator=random())
    found = bands.scales(patches, 4)
    assert found.shape == (2, 4, 16, 16)
    finest, coarsest = (bands._blur(patches, bands.FIRST * bands.FACTOR**s) for s in (0, 4))
    torch.testing.assert_close(found.sum(1), finest - coarsest)


def test_a_flat_patch_has_no_scales():
    assert bands.scales(torch.full((1, 12, 12), 0.7), 3).abs().max() < 1e-6


@pytest.mark.parametrize("octave", [1, -1])
def test_content_moves_along_the_scales(octave):
    # A wave of twice the length is strongest two bands further on: the spreads grow by the root of 2.
    x = torch.arange(64.0)
    waves = [torch.sin(2 * torch.pi * x / length).expand(1, 64, 64) for length in (8, 8 * 2.0**octave)]
    strongest = [int(bands.scales(w, 7).std((2, 3)).argmax()) for w in waves]
    assert strongest[1] - strongest[0] == 2 * octave


def test_twice_the_light_is_one_exposure_on():
    light = torch.rand(1, 4, 4, generator=random()) / 4
    once, twice = (bands.exposures(x, 5, 0.0, random()) for x in (light, 2 * light))
    torch.testing.assert_close(once[:, 1:], twice[:, :-1])
    assert once.min() >= -0.5
    assert twice.max() <= 0.5
    torch.testing.assert_close(once[:, 2] + 0.5, light)


def test_halves_do_not_meet():
    photograph = torch.arange(20.0).expand(3, 20)
    (left,), (right,) = bands.halves([photograph], 4)
    assert left.max() + 4 < right.min()
    assert left.shape == right.shape == (3, 8)


def test_neighbours_do_not_stay_neighbours():
    for seed in range(5):
        order = bands.apart(7, random(seed))
        assert sorted(order.tolist()) == list(range(7))
        assert int((order[1:] - order[:-1]).abs().min()) > 1


@pytest.mark.parametrize("kind", bands.KINDS)
def test_examples_depend_on_the_seed_alone(kind):
    how = Patches(kind, 5, 8, 0.1, (0.0, 1.0), (1.0, 2.0))
    photographs = [torch.rand(40, 40, generator=random(s)) for s in (1, 2)]
    a, b, c = (bands.examples(photographs, 6, how, how.seen, random(s)) for s in (3, 3, 4))
    assert a.inputs.shape == (6, 1, 5, 8, 8)
    assert torch.equal(a.inputs, b.inputs)
    assert not torch.equal(a.inputs, c.inputs)
    assert a.labels.tolist() == [0, 1, 0, 1, 0, 1]
