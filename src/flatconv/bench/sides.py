"""What is compared: a model, its fold and a reference, each with its call, on one device and in one type."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from flatconv.acceptance import check_model
from flatconv.errors import InputError, first_line
from flatconv.fold import fold
from flatconv.signature import Flat, Inputs, Outputs, method_of
from flatconv.tune import Tuning

Name = Literal["original", "folded", "reference"]
SIDES: tuple[Name, ...] = get_args(Name)


@dataclass(frozen=True)
class Case:
    """A model and a call of it.

    Attributes:
        model: in eval mode.
        args: of the call.
        kwargs: of the call.
        method: that is called.
        reference: a module that is called with the same arguments and should return the same, such as a hand-written
            2-D form; None if there is none.
        dynamic: as ``flatconv.fold`` takes it.
        verify: likewise. The output of every side is compared in any case.
        tune: likewise.
    """

    model: nn.Module
    args: Sequence[Any]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    method: str = "forward"
    reference: nn.Module | None = None
    dynamic: str | bool = "auto"
    verify: bool = True
    tune: bool | Tuning = False

    def placed(self, device: str = "cpu", dtype: torch.dtype | None = None) -> Case:
        """The same on a device and in a floating-point type; the modules themselves are moved.

        Args:
            device: where.
            dtype: of weights and inputs that are real; None to leave them.

        Raises:
            InputError: there is no such device, or the model cannot be moved there.
        """
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(f"--device is '{device}', and torch finds no CUDA device here: use --device cpu")

        def moved(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return value.to(device, dtype if value.is_floating_point() else None)

        args, kwargs = pytree.tree_map(moved, (list(self.args), dict(self.kwargs)))
        try:
            for module in (self.model, self.reference):
                if module is not None:
                    module.to(device) if dtype is None else module.to(device, dtype)
        except Exception as e:
            where = f"{device}, {dtype}" if dtype else device
            raise InputError(f"the model cannot be moved to {where}: {type(e).__name__}: {first_line(e)}") from e
        return replace(self, args=args, kwargs=kwargs)

    def side(self, name: Name) -> Side:
        """One form of the model, made now.

        Raises:
            InputError: the model does not take the call, or there is no reference.
            RefusedError: the model cannot be folded.
            VerificationError: the fold is wrong.
        """
        if name == "folded":
            how = {"method": self.method, "dynamic": self.dynamic, "verify": self.verify, "tune": self.tune}
            flat = fold(self.model, self.args, self.kwargs, **how)  # type: ignore[arg-type]
            return Side(name, flat, self.args, self.kwargs)
        if name == "reference":
            if self.reference is None:
                raise InputError("there is no reference: name a factory of one with --reference SPEC")
            return Side(name, self.reference, self.args, self.kwargs)
        return Side(name, self.model, self.args, self.kwargs, self.method)

    @property
    def names(self) -> tuple[Name, ...]:
        """The sides that there are."""
        return SIDES if self.reference is not None else SIDES[:2]

    def tensors(self) -> list[tuple[str, Tensor]]:
        """The tensors of the call, by the names of their arguments.

        Raises:
            InputError: there is no such method, or the call does not fit it.
            RefusedError: the model is of a kind that cannot be folded.
        """
        inputs, tensors = Inputs.read(check_model(self.model, self.method), self.args, self.kwargs)
        return list(zip(inputs.names, tensors, strict=True))


@dataclass(frozen=True)
class Side:
    """One form of a model and its call.

    Attributes:
        name: of the form.
        module: it.
        args: of the call.
        kwargs: of the call.
        method: that is called.
    """

    name: str
    module: nn.Module
    args: Sequence[Any]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    method: str = "forward"

    @property
    def called(self) -> Callable[..., Any]:
        """What a call calls."""
        return method_of(self.module, self.method)

    def __call__(self) -> Any:
        """Call it once, in eager PyTorch."""
        return self.called(*self.args, **self.kwargs)

    def flat(self) -> tuple[nn.Module, list[Tensor]]:
        """The form as a module from tensors to tensors, which is what exporters take, and the tensors."""
        signature = self.module.forward if self.method == "forward" else self.called
        inputs, tensors = Inputs.read(signature, self.args, self.kwargs)
        return Flat(self.module, self.method, inputs), tensors

    def wide(self) -> Side:
        """A copy in float64."""

        def widened(value: Any) -> Any:
            real = isinstance(value, Tensor) and value.is_floating_point()
            return value.double() if real else value

        args, kwargs = pytree.tree_map(widened, (list(self.args), dict(self.kwargs)))
        return replace(self, module=copy.deepcopy(self.module).double(), args=args, kwargs=kwargs)


def tensors_of(result: Any) -> tuple[Tensor, ...]:
    """The tensors in what a side returns, in order."""
    return Outputs().record(result)
