"""How a model is called and what it returns, apart from the tensors.

A captured graph takes and returns flat lists of tensors. The rest of a call (nested containers, numbers, flags, the
classes of outputs) is recorded here once, checked on every later call, and put back around the results.
"""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from flatconv.errors import GuardError, InputError, RefusedError
from flatconv.modelstate import Modes

PLAIN = (int, float, str, bool, complex, type(None), torch.dtype, torch.device, torch.memory_format, bytes)
FIXED = (*PLAIN, enum.Enum, np.generic, range, slice, torch.layout)
"""What an argument may be beside a tensor or something that is called: nothing in it can change."""


@dataclass(frozen=True)
class Inputs:
    """The shape of a call: which leaves are tensors, and what the others are.

    Attributes:
        parameters: of the method, to sort a call's arguments by name.
        spec: nesting of the arguments.
        constants: the leaves that are not tensors, by position.
        tensors: positions of the tensor leaves.
        names: of the tensor leaves, for messages.
    """

    parameters: inspect.Signature
    spec: pytree.TreeSpec
    constants: Mapping[int, Any]
    tensors: tuple[int, ...]
    names: tuple[str, ...]

    @staticmethod
    def read(
        method: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Inputs, list[torch.Tensor]]:
        """Record an example call.

        Raises:
            InputError: the arguments do not fit the method, or hold no tensor.
        """
        parameters = inspect.signature(method)
        bound = _bind(parameters, args, kwargs, InputError)
        paths, spec = pytree.tree_flatten_with_path((list(bound.args), dict(bound.kwargs)))
        leaves = [leaf for _, leaf in paths]
        tensors = tuple(i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor))
        if not tensors:
            raise InputError("the example call holds no tensor: pass the inputs as args=(x, …) or kwargs={'x': …}")
        names = tuple(_name(paths[i][0], list(bound.arguments)) for i in tensors)
        constants = {i: leaf for i, leaf in enumerate(leaves) if i not in tensors}
        for i, leaf in constants.items():
            if not isinstance(leaf, FIXED) and not callable(leaf):
                raise RefusedError(
                    f"the argument {_name(paths[i][0], list(bound.arguments))} is a {type(leaf).__module__}."
                    f"{type(leaf).__qualname__}, which may change between calls without being noticed: pass tensors, numbers, "
                    "strings and containers of them"
                )
        return Inputs(parameters, spec, constants, tensors, names), [leaves[i] for i in tensors]

    @cached_property
    def by_position(self) -> int | None:
        """How many tensors a call takes, if it takes nothing else and each by its position: such calls need no sorting."""
        count = len(self.tensors)
        plain = not self.constants and self.spec == pytree.tree_structure(([0] * count, {}))
        return count if plain else None

    def arguments(self, tensors: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """The call with the given tensors in place."""
        leaves: list[Any] = [None] * (len(self.constants) + len(self.tensors))
        for i, constant in self.constants.items():
            leaves[i] = constant
        for i, tensor in zip(self.tensors, tensors, strict=True):
            leaves[i] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return args, kwargs

    def flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
        """The tensors of a later call.

        Raises:
            GuardError: the call is not of the recorded form.
        """
        if not kwargs and len(args) == self.by_position and all(isinstance(a, torch.Tensor) for a in args):
            return list(args)
        bound = _bind(self.parameters, args, kwargs, GuardError)
        leaves, spec = pytree.tree_flatten((list(bound.args), dict(bound.kwargs)))
        if spec != self.spec:
            raise GuardError(f"folded for a call of the form {self.spec}, called with {spec}: fold again for this form")
        for i, constant in self.constants.items():
            if not _same(leaves[i], constant):
                raise GuardError(
                    f"folded with the argument {constant!r}, called with {leaves[i]!r}: fold again with it"
                )
        for i, name in zip(self.tensors, self.names, strict=True):
            if not isinstance(leaves[i], torch.Tensor):
                raise GuardError(f"folded with a tensor as '{name}', called with {type(leaves[i]).__name__}")
        return [leaves[i] for i in self.tensors]


def _same(given: Any, constant: Any) -> bool:
    """Whether two constants are one: NaN is NaN, and a zero has a sign."""
    if type(given) is not type(constant):
        return False
    return repr(given) == repr(constant) if isinstance(constant, float | complex) else bool(given == constant)


def _bind(
    parameters: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any], error: type[Exception]
) -> inspect.BoundArguments:
    try:
        bound = parameters.bind(*args, **kwargs)
    except TypeError as e:
        raise error(f"the arguments do not fit the model's signature {parameters}: {e}") from e
    bound.apply_defaults()
    return bound


def _name(path: tuple[Any, ...], arguments: list[str]) -> str:
    keys = [getattr(k, "idx", getattr(k, "key", k)) for k in path]
    head = (
        arguments[keys[1]] if keys[0] == 0 and isinstance(keys[1], int) and keys[1] < len(arguments) else str(keys[1])
    )
    return head + "".join(f"[{k!r}]" for k in keys[2:])


@dataclass
class Outputs:
    """What the model returns around its tensors; filled while the model is captured."""

    rebuild: Callable[[Sequence[torch.Tensor]], Any] | None = field(default=None)

    def record(self, value: Any) -> tuple[torch.Tensor, ...]:
        """Take the tensors out of a result and remember the rest.

        Raises:
            RefusedError: the result holds something that cannot be put back around other tensors.
        """
        tensors: list[torch.Tensor] = []
        try:
            rebuild = _take(value, tensors, "the output")
        except RecursionError as e:
            raise RefusedError(
                f"the output is a {type(value).__name__} that holds itself, which cannot be rebuilt around other tensors: fold "
                "a method that returns tensors"
            ) from e
        if not tensors:
            raise RefusedError(
                f"the model returns no tensor but {type(value).__name__}: fold a method that returns one"
            )
        self.rebuild = rebuild
        return tuple(tensors)


def _take(value: Any, tensors: list[torch.Tensor], where: str) -> Callable[[Sequence[Any]], Any]:
    """Collect the tensors in ``value``; the function returned builds it again around others."""
    if isinstance(value, torch.Tensor):
        index = len(tensors)
        tensors.append(value)
        return lambda given: given[index]
    if isinstance(value, PLAIN) or (isinstance(value, torch.Size) and all(type(v) is int for v in value)):
        return lambda given: value
    leaves, spec = pytree.tree_flatten(value)
    if not (len(leaves) == 1 and leaves[0] is value):
        parts = [_take(leaf, tensors, f"{where}[{i}]") for i, leaf in enumerate(leaves)]
        return lambda given: pytree.tree_unflatten([p(given) for p in parts], spec)
    return _take_object(value, tensors, where)


def _take_object(value: Any, tensors: list[torch.Tensor], where: str) -> Callable[[Sequence[Any]], Any]:
    """An object that holds tensors as attributes, such as a distribution of an autoencoder."""
    kind = type(value)
    attributes = getattr(value, "__dict__", None)
    if (
        isinstance(value, nn.Module | torch.SymInt | torch.SymFloat | type)
        or attributes is None
        or callable(value)
        or not _plain_class(kind)
    ):
        raise RefusedError(
            f"{where} is a {kind.__module__}.{kind.__qualname__}, which cannot be rebuilt around other tensors: "
            "fold a method that returns tensors, or containers and plain objects of tensors"
        )
    parts = {k: _take(v, tensors, f"{where}.{k}") for k, v in attributes.items()}

    def rebuild(given: Sequence[Any]) -> Any:
        made: Any = kind.__new__(kind)  # type: ignore[call-overload]
        made.__dict__.update({k: p(given) for k, p in parts.items()})
        return made

    return rebuild


def _plain_class(kind: type) -> bool:
    """Whether all that an object of a class holds are its attributes: not so for a subclass of list or dict."""
    makes: tuple[Any, ...] = (object.__new__, types.SimpleNamespace.__new__)
    slots = any(s not in ("__dict__", "__weakref__") for k in kind.__mro__ for s in _slots(k))
    return not slots and any(kind.__new__ is make for make in makes)


def _slots(kind: type) -> tuple[str, ...]:
    held = kind.__dict__.get("__slots__", ())
    return (held,) if isinstance(held, str) else tuple(held)


def method_of(model: nn.Module, method: str) -> Callable[..., Any]:
    """What a call of the method calls: for ``forward`` the module itself, with its hooks."""
    found: Callable[..., Any] = model if method == "forward" else getattr(model, method)
    return found


class Flat(nn.Module):
    """A method of a module as a function from tensors to tensors, for exporters."""

    def __init__(self, module: nn.Module, method: str, inputs: Inputs) -> None:
        super().__init__()
        self.training = module.training
        self.module = module
        self._method = method
        self._inputs = inputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the method with the recorded arguments around ``tensors``."""
        args, kwargs = self._inputs.arguments(tensors)
        return Outputs().record(method_of(self.module, self._method)(*args, **kwargs))


class Adapter(nn.Module):
    """The model as a function from tensors to tensors, for torch.export."""

    def __init__(self, model: nn.Module, method: str, inputs: Inputs, outputs: Outputs, modes: Modes) -> None:
        super().__init__()
        self.training = model.training
        self.model = model
        self._method = method
        self._inputs = inputs
        self._outputs = outputs
        self._modes = modes

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the method with the recorded arguments around ``tensors``."""
        args, kwargs = self._inputs.arguments(tensors)
        given = pytree.tree_flatten((args, kwargs))
        with self._modes.calling():
            results = self._outputs.record(method_of(self.model, self._method)(*args, **kwargs))
        check_kept(given, (args, kwargs), list(self._inputs.parameters.parameters))
        return results


def check_kept(given: tuple[list[Any], pytree.TreeSpec], call: tuple[Any, Any], parameters: Sequence[str]) -> None:
    """Refuse a call that changes a list or a dict that it is given: a graph has no way to do that.

    Args:
        given: the call's leaves and their nesting, as they were before.
        call: the same containers afterwards.
        parameters: names of the method's.

    Raises:
        RefusedError: naming the argument.
    """
    leaves, spec = pytree.tree_flatten(call)
    if spec == given[1] and all(a is b for a, b in zip(leaves, given[0], strict=True)):
        return
    before = pytree.tree_unflatten(given[0], given[1])

    def same(a: Any, b: Any) -> bool:
        (left, form), (right, other) = pytree.tree_flatten(a), pytree.tree_flatten(b)
        return form == other and all(x is y for x, y in zip(left, right, strict=True))

    named = [
        (parameters[min(i, len(parameters) - 1)], a, b) for i, (a, b) in enumerate(zip(before[0], call[0], strict=True))
    ]
    named += [(name, before[1][name], value) for name, value in call[1].items()]
    changed = ", ".join(f"'{name}'" for name, a, b in named if not same(a, b))
    raise RefusedError(
        f"a call changes the container that it is given as {changed} (a cache of features does): fold a method that returns "
        "what it computes, or a submodule whose arguments stay as they are"
    )
