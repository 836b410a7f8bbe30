"""What a folded program assumes of its inputs, checked on every call."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from flatconv.errors import GuardError

_SIZE = re.compile(r"L\['tensors'\]\[(\d+)\]\.size\(\)\[(\d+)\]")
_NAMES = {"max": max, "min": min, "abs": abs, "math": math, "__builtins__": {}}


@dataclass(frozen=True)
class InputGuard:
    """One tensor input.

    Attributes:
        name: of the argument.
        shape: sizes, None where free.
        dtype: as captured.
        ranges: (least, most) for every axis, for the sizes that are free.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype
    ranges: tuple[tuple[int, int | None], ...]

    def words(self) -> str:
        """The shape as people write it."""
        return "(" + ", ".join("any" if s is None else str(s) for s in self.shape) + ")"


@dataclass(frozen=True)
class Guards:
    """All assumptions about the inputs.

    Attributes:
        inputs: one for each tensor.
        conditions: relations between free sizes that the captured code decided on, as Python over ``s[input][axis]``.
    """

    inputs: tuple[InputGuard, ...]
    conditions: tuple[str, ...]

    def __post_init__(self) -> None:
        source = " and ".join(f"({c})" for c in self.conditions) or "True"
        # A function, so that torch.compile can trace through it.
        object.__setattr__(self, "_holds", eval(f"lambda s: {source}", dict(_NAMES)))

    def _all_hold(self, sizes: Sequence[tuple[int, ...]]) -> bool:
        try:
            return bool(self._holds(sizes))  # type: ignore[attr-defined]
        except ArithmeticError:  # a batch of none is divided by, say
            return False

    def __reduce__(self) -> tuple[object, ...]:
        return Guards, (self.inputs, self.conditions)

    def words(self, condition: str) -> str:
        """A condition in the names of the inputs."""
        return re.sub(r"s\[(\d+)\]\[(\d+)\]", lambda m: f"{self.inputs[int(m[1])].name}.shape[{m[2]}]", condition)

    def fit(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether inputs are as they are needed."""
        try:
            self.check(tensors)
        except GuardError:
            return False
        return True

    def check(self, tensors: Sequence[torch.Tensor]) -> None:
        """Raise GuardError, saying what was given and what was needed, if the inputs do not fit."""
        for guard, tensor in zip(self.inputs, tensors, strict=True):
            if tensor.dim() != len(guard.shape):
                raise GuardError(
                    f"'{guard.name}' has {tensor.dim()} axes, shape {tuple(tensor.shape)}; "
                    f"the model was folded for {len(guard.shape)}, shape {guard.words()}: fold again for this shape"
                )
            if tensor.layout != torch.strided or tensor.is_quantized:
                kind = "quantised" if tensor.is_quantized else str(tensor.layout)
                raise GuardError(
                    f"'{guard.name}' is {kind}, and the model was folded for dense tensors: convert it first"
                )
            if not is_plain(tensor):
                raise GuardError(
                    f"'{guard.name}' is a {type(tensor).__name__}, a tensor class with operators of its own, and the model was "
                    "folded for plain tensors: pass tensor.as_subclass(torch.Tensor)"
                )
            if tensor.dtype != guard.dtype:
                raise GuardError(
                    f"'{guard.name}' is {tensor.dtype}, the model was folded for {guard.dtype}: "
                    "convert the input, or fold the model in that dtype"
                )
            for axis, (wanted, (least, most)) in enumerate(zip(guard.shape, guard.ranges, strict=True)):
                size = tensor.shape[axis]
                if wanted is not None and size != wanted:
                    raise GuardError(
                        f"'{guard.name}' has shape {tuple(tensor.shape)}; the model was folded for {guard.words()} "
                        f"and axis {axis} must be {wanted}, not {size}: fold again for this shape"
                    )
                if wanted is None and (size < least or (most is not None and size > most)):
                    bounds = f"at least {least}" if most is None else f"from {least} to {most}"
                    raise GuardError(
                        f"'{guard.name}' has shape {tuple(tensor.shape)}; axis {axis} must be {bounds}, not {size}: "
                        "fold again for this shape"
                    )
        sizes = [tuple(t.shape) for t in tensors]
        if self.conditions and not self._all_hold(sizes):
            failed = next(c for c in self.conditions if not holds(c, sizes))
            raise GuardError(
                f"shapes {sizes} do not meet a condition of the captured code: {self.words(failed)}. "
                "The original model may take another path there: fold again for this shape"
            )


def _function(kind: type[torch.Tensor]) -> object:
    return getattr(kind.__torch_function__, "__func__", kind.__torch_function__)


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether operators do on it what they do on any tensor; fake tensors count as plain here."""
    kind = type(tensor)
    if kind in (torch.Tensor, torch.nn.Parameter) or "torch._subclasses" in kind.__module__:
        return True
    usual = (_function(torch.Tensor), torch._C._disabled_torch_function_impl)
    return _function(kind) in usual and kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__


def holds(condition: str, sizes: Sequence[tuple[int, ...]]) -> bool:
    """Whether one condition is true of the given sizes. Where it cannot be computed it is not."""
    try:
        return bool(eval(condition, dict(_NAMES), {"s": sizes}))
    except ArithmeticError:
        return False


def translate(code: str) -> str:
    """A condition as torch.export words it, over ``s[input][axis]``."""
    return _SIZE.sub(r"s[\1][\2]", code)


def safe(condition: str) -> bool:
    """Whether a condition is made of sizes, numbers and arithmetic only."""
    rest = re.sub(
        r"s\[\d+\]\[\d+\]|\bmax\b|\bmin\b|\babs\b|math\.\w+|\band\b|\bor\b|\bnot\b|\bTrue\b|\bFalse\b", "", condition
    )
    return re.fullmatch(r"[\d\s+\-*/%<>=!().,e]*", rest) is not None
