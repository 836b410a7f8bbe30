"""What is learned from is never asked about, and every run has its own images."""

import pytest
import torch

from flatconv.study import data, labelled


@pytest.fixture(autouse=True)
def _packages():
    pytest.importorskip("sklearn")
    pytest.importorskip("skimage")


@pytest.mark.parametrize("name", labelled.SETS)
def test_shapes_and_seeds(name):
    split = labelled.side_by_side(name, (4, 5), 40, 30)
    assert split.train[0].shape == (40, 2, 8, 8)
    assert split.test[0].shape == (30, 2, 8, 8)
    assert split.train[1].shape == (40, 2)
    assert split.test[1].shape == (30, 2)
    assert set(split.train[1].flatten().tolist()) == set(range(split.classes))
    assert not torch.equal(split.train[0][:, 0], split.train[0][:, 1])
    again = labelled.side_by_side(name, (5,), 40, 30)
    assert torch.equal(again.train[0][:, 0], split.train[0][:, 1])
    assert torch.equal(again.test[1][:, 0], split.test[1][:, 1])


def test_no_digit_is_both_learned_and_asked_about():
    (learned, _), (asked, _) = labelled.digits(0, 1200, 597)
    inputs, _ = data.digits()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    assert len(set(order[:1200].tolist()) & set(order[1200:].tolist())) == 0
    everything = torch.cat([learned, asked])
    assert len(everything) == len(inputs)
    assert float(everything.mean()) == pytest.approx(0, abs=1e-5)
    assert float(everything.std()) == pytest.approx(1, abs=1e-4)
    restored = everything * inputs.std() + inputs.mean()
    torch.testing.assert_close(restored, inputs[order])


def test_textures_are_cut_from_different_halves(monkeypatch):
    """The left half of a made-up photograph is dark and the right half bright: each window says where it is from."""
    picture = torch.rand(64, 64, generator=torch.Generator().manual_seed(0)) * 0.1
    picture[:, 32:] += 1
    monkeypatch.setattr(data, "textures", lambda: (picture,) * 3)
    (learned, _), (asked, _) = labelled.textures(0, 50, 50)
    assert float(learned.max()) < float(asked.min())
    assert learned.shape == (50, 1, 8, 8)
