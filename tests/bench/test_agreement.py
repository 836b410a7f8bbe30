"""What counts as the same: rounding does, another function does not."""

import math

import pytest
import torch
from torch import nn

from flatconv.bench.agreement import Agreement
from flatconv.bench.sides import Side
from tests.bench import made

TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def agreement(dtype=torch.float32, model=None):
    model = (model or made.Taps()).to(dtype).eval()
    side = Side("original", model, (made.image().to(dtype),))
    with torch.no_grad():
        return Agreement.of(side, dtype), side()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_original_agrees_with_itself_and_a_wrong_tap_does_not(dtype):
    found, output = agreement(dtype)
    assert found.how == "float64"
    assert found.error(output) == found.own <= found.tolerance
    case = made.case(tap=0).placed("cpu", dtype)
    with torch.no_grad():
        assert found.error(case.side("reference")()) > 10 * found.tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_wrong_border_is_seen(dtype):
    found, output = agreement(dtype)
    output = output.clone()
    output[..., 0] = 0
    assert found.error(output) > found.tolerance


def test_axes_of_size_one_may_be_left_out():
    found, output = agreement()
    assert found.error(output.squeeze(2)) == found.own
    assert found.error(output.transpose(3, 4)) == math.inf
    assert found.error(output.reshape(-1)) == math.inf


def test_missing_outputs_and_nothing_finite():
    found, output = agreement()
    assert found.error((output, output)) == math.inf
    assert found.error(output * math.nan) == math.inf
    assert found.error(output / 0) == math.inf


def test_infinities_at_the_same_place_are_the_same():
    class Divides(nn.Module):
        def forward(self, x):
            return torch.cat([x, x / 0.0])

    found, output = agreement(model=Divides())
    assert found.error(output) <= found.tolerance


def test_a_model_that_has_one_type_only():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = made.Taps()

        def forward(self, x):
            if x.dtype != torch.float32:
                raise TypeError("float32 only")
            return self.inner(x)

    found, output = agreement(model=Single())
    assert found.how == "own type"
    assert found.own is None
    assert found.error(output) == 0
    assert found.error(output * (1 + 1e-5)) < found.tolerance < found.error(output * 1.01)


def test_an_original_that_overflows_is_compared_in_its_own_type():
    class Large(nn.Module):
        def forward(self, x):
            return x * 1e30 * 1e30

    assert agreement(model=Large())[0].how == "own type"


def test_an_output_of_zeros():
    class Zeros(nn.Module):
        def forward(self, x):
            return x * 0

    found, output = agreement(model=Zeros())
    assert found.error(output) == 0
    assert found.error(output + 1) == 1


def test_buffers_are_put_back():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return x + 0 * self.calls

    model = Counts()
    Agreement.of(Side("original", model, (made.image(),)), torch.float32)
    assert model.calls == 0
