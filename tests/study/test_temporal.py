"""Tasks in time: what is held out."""

import pytest
import torch

from flatconv.study import data, temporal
from flatconv.study.temporal import Task, examples
from flatconv.study.windows import Window

WINDOW = Window(frames=7, size=8, speeds=(1, 2), noise=0.0)


@pytest.fixture
def pictures(monkeypatch):
    """Eight pictures and three films, each with brightness of its own, so that a clip tells where it was cut."""
    temporal._stills.cache_clear()
    temporal._videos.cache_clear()
    monkeypatch.setattr(temporal, "_stills", lambda: tuple((torch.full((1, 20, 20), float(i)),) for i in range(8)))
    monkeypatch.setattr(
        temporal, "_videos", lambda shortest, frames: tuple((torch.full((20, 20, 20), float(i)),) for i in range(3))
    )
    shown = []

    def spy(films, n, how, random, *rest):
        shown.append({float(film.mean()) for film in films})
        return (films, n, how, rest)

    monkeypatch.setattr(temporal, "moving", spy)
    monkeypatch.setattr(temporal, "ordered", spy)
    return shown


@pytest.mark.parametrize("name", ["photographs", "videos", "order", "moment"])
def test_training_and_test_share_no_picture(pictures, name):
    held = []
    for seed in range(6):
        pictures.clear()
        examples(Task(name, 0.1), WINDOW, seed, 8, 8, 20)
        train, *tests = pictures
        assert all(not (train & test) for test in tests)
        assert all(len(test) == (2 if name in ("photographs", "moment") else 1) for test in tests)
        assert len(tests) == len(Task(name, 0.1).situations)
        held.append(tests[0])
    assert set().union(*held) == set(map(float, range(8 if name in ("photographs", "moment") else 3)))


def test_later_moves_come_when_nothing_moved_in_training(pictures):
    drawn = examples(Task("moment", 0.1), WINDOW, 0, 8, 8, 20)
    times = {name: rest for name, (_, _, _, rest) in drawn.tests.items()}
    (early, steps), (late, _) = times.values()
    assert drawn.train[3] == (early, steps)
    assert max(early) + steps <= min(late)
    assert max(late) + steps < WINDOW.frames
    assert drawn.train[2].noise == 0.1


def test_real_pictures():
    pytest.importorskip("skimage")
    assert [film.shape[:2] for (film,) in temporal._stills()] == [(1, 96)] * len(data.PHOTOGRAPHS)
