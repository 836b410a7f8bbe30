"""The real data: shapes, ranges, order, and a sentence where a package is missing."""

import pytest
import torch

from flatconv.errors import MissingExtraError
from flatconv.study import data


def test_digits():
    images, labels = data.digits()
    assert images.shape == (1797, 1, 8, 8)
    assert (float(images.min()), float(images.max())) == (0.0, 1.0)
    assert labels.unique().tolist() == list(range(10))


def test_photographs_are_whole_numbers_of_a_byte():
    found = data.photographs()
    assert len(found) == len(data.PHOTOGRAPHS)
    for picture in found:
        assert picture.shape[0] == 3
        stored = picture * 255
        assert torch.allclose(stored, stored.round(), atol=1e-4)
        assert 0 <= float(picture.min()) < float(picture.max()) <= 1


def test_clips_move():
    film = data.clip("bunny", 32, 9)
    assert film.shape[:3] == (9, 3, 32)
    assert film.shape[3] % 2 == 0
    assert float((film[0] - film[8]).abs().mean()) > 0.001


def test_slices_of_the_chest_are_in_order_and_in_hounsfield_units():
    volume = data.chest_ct(64)
    assert volume.shape[1:] == (64, 64)
    assert float(volume.min()) < -700  # air
    near = (volume[1:] - volume[:-1]).abs().mean()
    far = (volume - volume.flip(0)).abs().mean()
    assert near < far


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(MissingExtraError, match=r"'no-such'.*flatconv\[study\]"):
        data._package("no_such_package_here", "no-such")
    with pytest.raises(MissingExtraError, match=r"flatconv\[study\]"):
        data._folder("no_such_package_here", "no-such")
