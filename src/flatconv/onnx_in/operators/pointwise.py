"""Operators on single elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flatconv.onnx_in.step import Known, Step, Value

Call = Callable[[Step, Sequence[Value]], Any]

# The types of ONNX by their numbers in its format.
DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip
ARRAYS = {
    torch.float32: np.float32, torch.int32: np.int64, torch.int64: np.int64, torch.bool: np.bool_, torch.float64: np.float64,
}  # fmt: skip
"""Those that known numbers may have. Sizes of 32 bits are kept as wider ones: they do not get near the end of either."""


def one(function: Callable[[Tensor], Tensor]) -> Call:
    """An operator of one input and no attributes."""
    return lambda step, values: function(step.tensor(values, 0))


def two(function: Callable[[Tensor, Tensor], Tensor]) -> Call:
    """An operator of two inputs, which are of one type and broadcast as torch's."""
    return lambda step, values: function(step.tensor(values, 0), step.tensor(values, 1))


def many(function: Callable[[Tensor, Tensor], Tensor]) -> Call:
    """An operator of any number of inputs."""

    def call(step: Step, values: Sequence[Value]) -> Tensor:
        found = step.tensor(values, 0)
        for i in range(1, len(values)):
            found = function(found, step.tensor(values, i))
        return found

    return call


def divide(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b) if a.dtype.is_floating_point else torch.div(a, b, rounding_mode="trunc")


def power(step: Step, values: Sequence[Value]) -> Tensor:
    x, exponent = step.tensor(values, 0), values[1]
    if isinstance(exponent, Known) and exponent.array.size == 1 and exponent.array.ndim <= x.dim():
        number = exponent.numbers()[0]
        return torch.pow(x, int(number) if float(number).is_integer() else number).to(x.dtype)
    return torch.pow(x, step.tensor(values, 1)).to(x.dtype)


def modulo(step: Step, values: Sequence[Value]) -> Tensor:
    function = torch.fmod if step.get("fmod", 0) else torch.remainder
    return function(step.tensor(values, 0), step.tensor(values, 1))


def mean(step: Step, values: Sequence[Value]) -> Tensor:
    total: Tensor = many(torch.add)(step, values)
    return total / len(values)


def where(step: Step, values: Sequence[Value]) -> Tensor:
    return torch.where(step.tensor(values, 0), step.tensor(values, 1), step.tensor(values, 2))


def clip(step: Step, values: Sequence[Value]) -> Tensor:
    x = step.tensor(values, 0)
    if any(isinstance(v, Tensor) for v in values[1:]):
        least, most = step.optional(values, 1), step.optional(values, 2)
        x = x if least is None else torch.maximum(x, least)
        return x if most is None else torch.minimum(x, most)
    low, high = (_bound(step, values, i, n) for i, n in ((1, "min"), (2, "max")))
    if low is None and high is None:
        return x
    return torch.clamp(x, low, high)


def _bound(step: Step, values: Sequence[Value], place: int, name: str) -> Any:
    found = step.numbers(values, place, name)
    return None if found is None else found[0]


def cast(step: Step, values: Sequence[Value]) -> Tensor | Known:
    to = step.get("to")
    if to not in DTYPES:
        step.refuse(f"type {to} of ONNX is not supported")
    return _converted(step, values, DTYPES[to])


def cast_like(step: Step, values: Sequence[Value]) -> Tensor | Known:
    like = values[1]
    return _converted(step, values, like.dtype if isinstance(like, Known) else step.tensor(values, 1).dtype)


def _converted(step: Step, values: Sequence[Value], to: torch.dtype) -> Tensor | Known:
    given = values[0]
    if isinstance(given, Known):
        if given.free and to in (torch.int32, torch.int64):
            return Known(given.array, kind=to)
        if not given.free and to in ARRAYS and (given.held is None or given.integral):
            return Known(given.array.astype(ARRAYS[to]), kind=to)
    return step.tensor(values, 0).to(to)


def dropout(step: Step, values: Sequence[Value]) -> Tensor:
    step.one_result()
    mode = step.known(values, 2)
    if mode is not None and any(mode.numbers()):
        step.refuse("it is in training mode")
    return step.tensor(values, 0)


def identity(step: Step, values: Sequence[Value]) -> Value:
    return values[0]


def gelu(step: Step, values: Sequence[Value]) -> Tensor:
    step.only(approximate=("none", "tanh"))
    return F.gelu(step.tensor(values, 0), approximate=step.get("approximate", "none"))


def selu(step: Step, values: Sequence[Value]) -> Tensor:
    x = step.tensor(values, 0)
    alpha, gamma = step.get("alpha", 1.67326319217681884765625), step.get("gamma", 1.05070102214813232421875)
    made: Tensor = gamma * torch.where(x > 0, x, alpha * torch.expm1(x))
    return made


def prelu(step: Step, values: Sequence[Value]) -> Tensor:
    x, slope = step.tensor(values, 0), step.tensor(values, 1)
    return torch.where(x < 0, slope * x, x)


def hard_sigmoid(step: Step, values: Sequence[Value]) -> Tensor:
    return torch.clamp(step.get("alpha", 0.2) * step.tensor(values, 0) + step.get("beta", 0.5), 0, 1)


def swish(step: Step, values: Sequence[Value]) -> Tensor:
    x, alpha = step.tensor(values, 0), step.get("alpha", 1.0)
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


def parametric(function: Callable[[Tensor, float], Tensor], name: str, default: float) -> Call:
    """An operator of one input and one number."""
    return lambda step, values: function(step.tensor(values, 0), step.get(name, default))


def thresholded(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x > alpha, x, torch.zeros_like(x))


OPERATORS: dict[str, Call] = {
    "Abs": one(torch.abs), "Acos": one(torch.acos), "Acosh": one(torch.acosh), "Asin": one(torch.asin),
    "Asinh": one(torch.asinh), "Atan": one(torch.atan), "Atanh": one(torch.atanh), "Ceil": one(torch.ceil),
    "Cos": one(torch.cos), "Cosh": one(torch.cosh), "Erf": one(torch.erf), "Exp": one(torch.exp),
    "Floor": one(torch.floor), "HardSwish": one(F.hardswish), "IsNaN": one(torch.isnan), "Log": one(torch.log),
    "Mish": one(F.mish), "Neg": one(torch.neg), "Not": one(torch.logical_not), "Reciprocal": one(torch.reciprocal),
    "Relu": one(F.relu), "Round": one(torch.round), "Sigmoid": one(torch.sigmoid), "Sign": one(torch.sign),
    "Sin": one(torch.sin), "Sinh": one(torch.sinh), "Softplus": one(F.softplus), "Softsign": one(F.softsign),
    "Sqrt": one(torch.sqrt), "Tan": one(torch.tan), "Tanh": one(torch.tanh),
    "Add": two(torch.add), "Sub": two(torch.sub), "Mul": two(torch.mul), "Div": two(divide), "Equal": two(torch.eq),
    "Greater": two(torch.gt), "GreaterOrEqual": two(torch.ge), "Less": two(torch.lt), "LessOrEqual": two(torch.le),
    "And": two(torch.logical_and), "Or": two(torch.logical_or), "Xor": two(torch.logical_xor),
    "Max": many(torch.maximum), "Min": many(torch.minimum), "Sum": many(torch.add), "Mean": mean, "Pow": power,
    "Mod": modulo, "Where": where, "Clip": clip, "Cast": cast, "CastLike": cast_like, "Dropout": dropout,
    "Identity": identity, "Gelu": gelu, "Selu": selu, "PRelu": prelu, "HardSigmoid": hard_sigmoid, "Swish": swish,
    "LeakyRelu": parametric(F.leaky_relu, "alpha", 0.01), "Elu": parametric(F.elu, "alpha", 1.0),
    "Celu": parametric(F.celu, "alpha", 1.0), "ThresholdedRelu": parametric(thresholded, "alpha", 1.0),
}  # fmt: skip
