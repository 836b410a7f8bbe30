"""One model on a window and on one image."""

import torch
from torch import nn

import flatconv
from flatconv.depths import compare, useful


def test_the_centre_tap_alone_is_used_on_one_image():
    model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 1, (1, 3, 3)))
    x = torch.randn(1, 1, 4, 9, 9)
    found = compare(model, flatconv.audit(model, (x,)), "time:4", [x], {}, "forward")
    assert found.depth == 4
    assert [s.live_taps for s in found.stacked] == [(0, 1, 2), (0,)]
    assert [s and s.live_taps for s in found.single] == [(1,), (0,)]
    assert [useful(s) for s in found.single if s] == [1 / 3, 1]
    assert found.useful[0] == 1
    assert 1 / 3 < found.useful[1] < 1
    assert found.refusal == ""
    assert found.to_dict()["sites"][0]["live_taps"] == {"stacked": (0, 1, 2), "single": (1,)}


def test_a_model_that_needs_its_depth():
    model = nn.Conv3d(1, 2, 3)
    x = torch.randn(1, 1, 4, 9, 9)
    found = compare(model, flatconv.audit(model, (x,)), "time:4", [x], {}, "forward")
    assert found.single == (None,)
    assert found.useful == (1.0, None)
    assert found.refusal
    assert found.to_dict()["sites"][0]["useful"] == {"stacked": 1.0, "single": None}
