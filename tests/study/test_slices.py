"""Tasks on slices: what is held out, what a network may read, and equal costs."""

import pytest
import torch

from flatconv.study.slices import REACH, READINGS, UNIT, Restorer, cost, first_guess, patches, split, whole, width_for

CT = torch.randn(12, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.1


def read(positions):
    return {z + d for z in positions for d in range(-REACH, REACH + 1)}


@pytest.mark.parametrize("block", range(6))
def test_no_slice_of_the_test_was_seen_in_training(block):
    held = split(64, 6, block)
    assert not read(held.train) & read(held.test)
    assert held.train
    assert read(held.train) | read(held.test) <= set(range(64))


def test_blocks_cover_all_slices_that_have_neighbours():
    tests = [z for block in range(6) for z in split(64, 6, block).test]
    assert tests == list(range(REACH, 64 - REACH))


def test_a_missing_slice_is_not_among_its_inputs():
    stacks = whole("missing", CT, (5,), 60.0, torch.Generator())
    assert stacks.inputs[0].equal(CT[[3, 4, 6, 7]])
    assert stacks.targets[0, 0].equal(CT[5])
    assert first_guess("missing", "2-D", stacks.inputs)[0, 0].equal(CT[4])
    torch.testing.assert_close(first_guess("missing", "3-D", stacks.inputs)[0, 0], (CT[4] + CT[6]) / 2)


def test_a_slice_has_the_same_noise_in_every_stack():
    stacks = whole("denoise", CT, (5, 6), 60.0, torch.Generator().manual_seed(0))
    assert stacks.inputs[0, 3].equal(stacks.inputs[1, 2])
    assert 40 < float((stacks.inputs[0] - CT[3:8]).std()) * UNIT < 80


def test_patches_are_cut_where_their_targets_are():
    found = patches("missing", CT, (4, 5), 20, 6, 0.0, torch.Generator().manual_seed(0))
    assert found.inputs.shape[1:] == (4, 6, 6)
    for stack, target in zip(found.inputs, found.targets, strict=True):
        places = [
            (z, y, x)
            for z in (4, 5)
            for y in range(11)
            for x in range(11)
            if CT[z, y : y + 6, x : x + 6].equal(target[0])
        ]
        ((z, y, x),) = places
        assert stack.equal(CT[[z - 2, z - 1, z + 1, z + 2], y : y + 6, x : x + 6])


def test_air_does_not_count():
    air = torch.full((12, 16, 16), -1000 / UNIT)
    assert not whole("denoise", air, (5,), 0.0, torch.Generator()).counts.any()
    assert whole("denoise", air + 150 / UNIT, (5,), 0.0, torch.Generator()).counts.all()


@pytest.mark.parametrize("task", ["denoise", "missing"])
@pytest.mark.parametrize("reading", READINGS)
def test_parameters_are_equal_within_five_percent(task, reading):
    wanted = cost(task, "3-D", 12, 8).parameters
    assert abs(cost(task, reading, width_for(task, reading, wanted), 8).parameters / wanted - 1) < 0.05


@pytest.mark.parametrize("task", ["denoise", "missing"])
@pytest.mark.parametrize("reading", READINGS)
def test_only_a_network_without_neighbours_ignores_them(task, reading):
    torch.manual_seed(0)
    network = Restorer(task, reading, 4).eval()
    stacks = whole(task, CT, (4, 5, 6), 60.0, torch.Generator().manual_seed(0)).inputs
    assert network(stacks).equal(first_guess(task, reading, stacks))  # before training
    torch.nn.init.normal_(network.layers[-1].weight)
    out = network(stacks)
    assert out.shape == (3, 1, 16, 16)
    changed = stacks.clone()
    own = REACH if task == "denoise" else REACH - 1
    changed[:, [i for i in range(stacks.shape[1]) if i != own]] += 1
    assert torch.equal(network(changed), out) == (reading == "2-D")
