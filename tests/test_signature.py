"""How calls are recorded and results put back together."""

import dataclasses
import inspect
from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import flatconv
from flatconv.errors import GuardError, InputError, RefusedError
from flatconv.modelstate import Modes
from flatconv.signature import Adapter, Inputs, Outputs

Pair = namedtuple("Pair", "a b")
X, Y = torch.arange(3.0), torch.ones(2)


def method(x, scale=2.0, *rest, flag=False, **more):
    return x, scale, rest, flag, more


# --- inputs


def test_tensors_are_found_and_named():
    inputs, tensors = Inputs.read(method, (X, 3.0, Y), {"flag": True, "other": {"deep": [Y, X]}})
    assert [t is u for t, u in zip(tensors, (X, Y, Y, X), strict=True)] == [True] * 4
    assert inputs.names[0] == "x"
    assert inputs.names[2:] == ("other['deep'][0]", "other['deep'][1]")
    assert sorted(map(str, inputs.constants.values())) == ["3.0", "True"]


def test_defaults_are_filled_in():
    inputs, _ = Inputs.read(method, (X,), {})
    args, kwargs = inputs.arguments([Y])
    assert args[0] is Y
    assert args[1:] == [2.0]
    assert kwargs == {"flag": False}


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((Y,), {}), ((Y, 2.0), {}), ((), {"x": Y}), ((Y,), {"flag": False}), ((), {"scale": 2.0, "x": Y, "flag": False})],
)
def test_the_same_call_in_other_words(args, kwargs):
    inputs, _ = Inputs.read(method, (X,), {})
    (tensor,) = inputs.flatten(args, kwargs)
    assert tensor is Y


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((Y, 2), {}, r"folded with the argument 2\.0, called with 2: "),
        ((Y,), {"flag": 0}, r"folded with the argument False, called with 0: "),
        ((Y, 2.0, Y), {}, "folded for a call of the form"),
        (([Y],), {}, "folded for a call of the form"),
        ((3,), {}, "folded with a tensor as 'x', called with int"),
        ((), {}, "missing a required argument: 'x'"),
        ((None,), {}, "folded"),
    ],
)
def test_another_call(args, kwargs, said):
    inputs, _ = Inputs.read(method, (X,), {})
    with pytest.raises(GuardError, match=said):
        inputs.flatten(args, kwargs)


def test_arguments_that_do_not_fit():
    with pytest.raises(InputError, match=r"the arguments do not fit the model's signature \(x, y\): missing .* 'y'"):
        Inputs.read(lambda x, y: None, (X,), {})


def test_no_tensor():
    with pytest.raises(InputError, match=r"the example call holds no tensor: pass the inputs as args=\(x, …\)"):
        Inputs.read(method, (1,), {})


def test_round_trip_of_nested_arguments():
    inputs, tensors = Inputs.read(lambda batch: None, ({"a": (X, 1), "b": [Pair(Y, "w")]},), {})
    args, kwargs = inputs.arguments([t + 1 for t in tensors])
    (batch,) = args
    assert kwargs == {}
    assert torch.equal(batch["a"][0], X + 1)
    assert batch["a"][1] == 1
    assert type(batch["b"][0]) is Pair
    assert batch["b"][0].b == "w"


# --- results


def rebuilt(value):
    outputs = Outputs()
    tensors = outputs.record(value)
    return tensors, outputs.rebuild([t * 10 for t in tensors])


@dataclasses.dataclass
class Result:
    sample: torch.Tensor
    label: str = "none"


@dataclasses.dataclass(frozen=True)
class Frozen:
    sample: torch.Tensor


class Plain:
    def __init__(self, x):
        self.x = x
        self.inner = Result(x + 1)


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x


def test_a_tensor():
    tensors, again = rebuilt(X)
    assert len(tensors) == 1
    assert torch.equal(again, X * 10)


def test_containers():
    tensors, again = rebuilt({"a": [X, None, 3], "b": (Y, "w"), "c": Pair(X, OrderedDict(z=Y))})
    assert len(tensors) == 4
    assert list(again) == ["a", "b", "c"]
    assert again["a"][1:] == [None, 3]
    assert again["b"][1] == "w"
    assert type(again["c"]) is Pair
    assert type(again["c"].b) is OrderedDict
    assert torch.equal(again["c"].b["z"], Y * 10)


@pytest.mark.parametrize("kind", [Result, Frozen])
def test_dataclasses(kind):
    _, again = rebuilt(kind(X))
    assert type(again) is kind
    assert torch.equal(again.sample, X * 10)


def test_plain_objects():
    value = Plain(X)
    _, again = rebuilt(value)
    assert type(again) is Plain
    assert again is not value
    assert torch.equal(again.x, X * 10)
    assert torch.equal(again.inner.sample, (X + 1) * 10)
    assert torch.equal(value.x, X)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "the model returns no tensor but int: fold a method that returns one"),
        ({}, "the model returns no tensor but dict"),
        ((X, nn.Linear(1, 1)), r"the output\[1\] is a torch\.nn\.modules\.linear\.Linear, which cannot be rebuilt"),
        ((X, lambda: X), r"the output\[1\] is a builtins\.function, which cannot be rebuilt"),
        ([Slotted(X)], r"the output\[0\] is a .*Slotted, which cannot be rebuilt around other tensors: fold a method"),
        ({"a": Plain}, r"the output\[0\] is a builtins\.type, which cannot be rebuilt"),
    ],
)
def test_what_cannot_be_rebuilt(value, said):
    with pytest.raises(RefusedError, match=said):
        Outputs().record(value)


# --- the adapter


def test_the_adapter_is_a_function_of_tensors():
    class Model(nn.Module):
        def forward(self, x, by, *, sign=1):
            return {"y": x * by["n"] * sign}

    model = Model()
    inputs, tensors = Inputs.read(model.forward, (X, {"n": torch.tensor(2.0)}), {"sign": -1})
    outputs = Outputs()
    (given,) = Adapter(model, "forward", inputs, outputs, Modes())(*tensors)
    assert torch.equal(given, -2 * X)
    assert list(outputs.rebuild([given])) == ["y"]
    assert list(inspect.signature(Adapter.forward).parameters) == ["self", "tensors"]


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 1, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x, by=1.0):
        return self.conv(x) * (by if isinstance(by, float) else by.scale)


def test_an_argument_that_may_change_unnoticed_is_refused():
    # It was compared with itself, and a new scale in it was not noticed.
    settings = SimpleNamespace(scale=2.0)
    with pytest.raises(flatconv.RefusedError, match=r"argument by is a types\.SimpleNamespace.*pass tensors, numbers"):
        flatconv.fold(Scaled().eval(), (torch.randn(1, 1, 1, 4, 5), settings))
    with pytest.raises(flatconv.RefusedError, match=r"numpy\.ndarray"):
        flatconv.fold(Scaled().eval(), (torch.randn(1, 1, 1, 4, 5), np.ones(2)))


def test_nan_is_the_same_argument_and_minus_zero_is_not():
    x = torch.randn(1, 1, 1, 4, 5)
    flat = flatconv.fold(Scaled().eval(), (x, float("nan")), verify=False)
    assert flat(x, float("nan")).isnan().all()
    flat = flatconv.fold(Scaled().eval(), (x, 0.0), verify=False)
    with pytest.raises(flatconv.GuardError, match=r"called with -0\.0"):
        flat(x, -0.0)


class Attributes(dict):
    def __init__(self, **held):
        super().__init__(**held)
        self.__dict__ = self


@pytest.mark.parametrize(("kind", "refused"), [(SimpleNamespace, False), (Attributes, True)])
def test_an_output_object_comes_back_whole_or_is_refused(kind, refused):
    class Answering(Scaled):
        def forward(self, x):
            return kind(y=self.conv(x))

    model, x = Answering().eval(), torch.randn(1, 1, 1, 4, 5)
    if refused:
        with pytest.raises(flatconv.RefusedError, match="Attributes, which cannot be rebuilt"):
            flatconv.fold(model, (x,))
    else:
        found = flatconv.fold(model, (x,))(x)
        assert isinstance(found, SimpleNamespace)
        torch.testing.assert_close(found.y, model(x).y)
