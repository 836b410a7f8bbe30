"""The construction of the tasks in time: what one frame, and a set of frames, can say."""

import pytest
import torch

from flatconv.study.windows import DIRECTIONS, Window, moving, ordered, path, scenes, shuffled, torus

T, H, W = 3, 5, 7
HOW = Window(frames=T, size=2, speeds=(1, 2), noise=0.0)


def windows(direction, speed):
    """All clips of one direction, one for each start on the torus of a small picture: (starts, T, 2, 2)."""
    world = torus(torch.arange(H * W).float().reshape(1, H, W))[0]
    start = torch.cartesian_prod(torch.arange(2 * H), torch.arange(2 * W))
    n = len(start)
    moved = torch.arange(T).expand(n, -1)
    corner = path(start, torch.full((n,), direction), torch.full((n,), speed), moved, (2 * H, 2 * W))
    rows = (corner[..., 0, None] + torch.arange(2)) % (2 * H)
    columns = (corner[..., 1, None] + torch.arange(2)) % (2 * W)
    return world[rows[..., :, None], columns[..., None, :]]


def sorted_rows(x):
    return sorted(map(tuple, x.flatten(1).tolist()))


@pytest.mark.parametrize("moment", range(T))
def test_one_frame_has_the_same_distribution_in_every_direction(moment):
    seen = [sorted_rows(windows(d, s)[:, moment]) for d in range(8) for s in (1, 2)]
    assert all(s == seen[0] for s in seen)


def test_a_set_of_frames_does_not_tell_a_direction_from_its_opposite():
    def sets(direction):
        return sorted(tuple(sorted(map(tuple, clip.flatten(1).tolist()))) for clip in windows(direction, 1))

    for d in range(4):
        assert sets(d) == sets(d + 4)
        assert DIRECTIONS[d] == tuple(-s for s in DIRECTIONS[d + 4])
    assert sets(0) != sets(2)  # the axis can be told


def test_clips_of_different_directions_differ():
    found = {tuple(sorted_rows(windows(d, 1))) for d in range(8)}
    assert len(found) == 8


def test_the_torus_has_no_seam():
    film = torch.rand(2, H, W)
    world = torus(film)
    assert world.shape == (2, 2 * H, 2 * W)
    assert world[:, 0].equal(world[:, -1])
    assert world[:, :, 0].equal(world[:, :, -1])
    assert world[:, :H, :W].equal(film)


def test_a_window_to_the_right_sees_the_picture_go_left():
    picture = torch.zeros(1, 40, 40)
    picture[0, :, 20] = 1  # one vertical line, and one in the mirror image
    clips = moving([picture], 64, Window(frames=3, size=8, speeds=(1,), noise=0.0), torch.Generator().manual_seed(0))
    seen = 0
    for clip, label in zip(clips.inputs[:, 0], clips.labels, strict=True):
        at = clip.mean(1).argmax(-1)
        if clip.max() > 0 and DIRECTIONS[label][0] == 0 and 2 < at[0] < 6:
            assert at[1] - at[0] == -DIRECTIONS[label][1]
            seen += 1
    assert seen


def test_labels_are_balanced_and_each_clip_is_centred():
    clips = moving([torch.rand(1, 9, 9)], 160, HOW, torch.Generator().manual_seed(0))
    assert torch.bincount(clips.labels).tolist() == [20] * 8
    assert clips.inputs.shape == (160, 1, T, 2, 2)
    torch.testing.assert_close(clips.inputs.mean((1, 2, 3, 4)), torch.zeros(160), atol=1e-5, rtol=0)


def test_a_window_moves_only_when_it_may():
    random = torch.Generator().manual_seed(0)
    how = Window(frames=7, size=6, speeds=(1,), noise=0.0)
    clips = moving([torch.rand(1, 30, 30)], 40, how, random, moves=(3, 4), steps=2).inputs[:, 0]
    changed = (clips[:, 1:] != clips[:, :-1]).flatten(2).any(2)
    assert not changed[:, :3].any()
    assert changed.sum(1).tolist() == [2] * 40


def test_shuffled_clips_keep_the_middle_frame_and_the_set():
    random = torch.Generator().manual_seed(0)
    for _ in range(50):
        order = shuffled(7, random)
        assert order[3] == 3
        assert sorted(order.tolist()) == list(range(7))
        assert order.tolist() not in (list(range(7)), list(range(6, -1, -1)))


def test_the_order_of_a_film_is_kept_in_label_0_only():
    film = torch.arange(30.0)[:, None, None].expand(30, 6, 6)
    clips = ordered([film], 60, Window(frames=5, size=4, speeds=(1, 2), noise=0.0), torch.Generator().manual_seed(0))
    rising = (clips.inputs[:, 0, 1:, 0, 0] > clips.inputs[:, 0, :-1, 0, 0]).all(1)
    assert rising.equal(clips.labels == 0)


def test_scenes_are_cut_at_cuts_and_short_ones_left_out():
    film = torch.cat([torch.full((4, 2, 2), 0.0), torch.full((2, 2, 2), 0.5), torch.full((5, 2, 2), 1.0)])
    found = scenes(film, 0.1, 3)
    assert [len(f) for f in found] == [4, 5]
    assert found[1].eq(1).all()
