"""Combinations are as accurate as the original, or not taken."""

import torch
from torch import nn

from flatconv.capture import capture
from flatconv.tune.accurate import Accuracy
from tests.expected import filled, sample

X = sample(1, 2, 3, 6, 7).float()


def net():
    return filled(nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 1))).float()


def test_rounding_is_allowed_and_more_is_not():
    model = net()
    accuracy = Accuracy(capture(model, (X,)), lambda: model(X))
    assert accuracy.holds(lambda: model(X))
    assert accuracy.holds(lambda: model(X) * (1 + 1e-7))
    assert not accuracy.holds(lambda: model(X) * (1 + 1e-5))
    assert not accuracy.holds(lambda: model(X).half().float())


def test_an_engine_may_err_as_much_as_it_does_on_the_original():
    model = net()
    accuracy = Accuracy(capture(model, (X,)), lambda: model(X) * (1 + 1e-5))
    assert accuracy.holds(lambda: model(X) * (1 - 1.5e-5))
    assert not accuracy.holds(lambda: model(X) * (1 + 3e-5))


def test_an_original_that_is_wide_itself():
    model = net().double()
    accuracy = Accuracy(capture(model, (X.double(),)), lambda: model(X.double()))
    assert accuracy.holds(lambda: model(X.double()))
    assert not accuracy.holds(lambda: model(X.double()) * (1 + 1e-9))


def test_group_norm_of_a_channels_last_volume_is_noticed():
    """Torch's kernel for it sums squares in one pass."""
    model = nn.Sequential(nn.Conv3d(2, 8, 1), nn.GroupNorm(8, 8)).eval()
    x = torch.randn(1, 2, 32, 64, 64)
    accuracy = Accuracy(capture(model, (x,)), lambda: model(x))

    def last():
        return model[1](model[0](x).contiguous(memory_format=torch.channels_last_3d))

    assert accuracy.holds(lambda: model(x))
    assert not accuracy.holds(last)


def test_a_model_that_does_not_run_in_float64_tells_nothing(monkeypatch):
    from flatconv.tune import accurate

    model = net()
    made = capture(model, (X,))

    def fails(*args, **kwargs):
        raise RuntimeError("not implemented for 'Double'")

    monkeypatch.setattr(accurate, "run_graph", fails)
    assert Accuracy(made, lambda: model(X)).holds(lambda: model(X) + 1)
