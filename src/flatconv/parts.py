"""The largest submodules that can be folded, of a model that cannot be captured whole.

The example call is run once to see which modules hold a convolution over three axes, whatever their types are, and once more
to record what these are called with. From the root downwards each is tried; where one is refused, those that it calls are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from flatconv.errors import RefusedError
from flatconv.modelstate import unchanged
from flatconv.route import NOTHING, Call, Route, routed, run

FORMS = 4
"""Calls of one module that are folded, where they differ in their sizes; further ones take the original."""


def parts(
    model: nn.Module, method: str, examples: Sequence[Call], how: Mapping[str, Any], alone: bool = False
) -> tuple[dict[str, Route], dict[str, str]]:
    """The submodules that are folded, and why others are not, both by ``path.forward``.

    Args:
        model: the root, whose method was refused.
        method: it.
        examples: calls of it.
        how: for ``fold``.
        alone: as for ``routed``.

    Raises:
        VerificationError: a folded part differs from the original.
    """
    calls = recorded(model, method, examples)
    paths = {id(m): path for path, m in model.named_modules()}
    found: dict[str, Route] = {}
    left: dict[str, str] = {}
    todo = _below(model, calls)
    while todo:
        module = todo.pop(0)
        name = f"{paths[id(module)]}.forward"
        try:
            route = routed(module, "forward", calls[module], how, alone)
        except RefusedError as e:
            left[name] = str(e)
            todo += _below(module, calls)
            continue
        if route is None:
            left[name] = NOTHING
        else:
            found[name] = route
    return found, left


def _below(module: nn.Module, calls: Mapping[nn.Module, Sequence[Call]]) -> list[nn.Module]:
    """The nearest modules below that hold convolutions and were called."""
    near: list[nn.Module] = []
    for child in module.children():
        near += [child] if child in calls else _below(child, calls)
    return near


def recorded(model: nn.Module, method: str, examples: Sequence[Call]) -> dict[nn.Module, list[Call]]:
    """What the modules that hold a convolution over three axes are called with, one call for each form of it."""

    def record() -> None:
        for call in examples:
            run(model, method, call)

    seen: set[nn.Module] = set()
    stack: list[nn.Module] = []
    with _quietly(model), _around(model, stack.append, lambda m: stack.pop()), _Convolutions(stack, seen):
        record()
    found: dict[nn.Module, list[Call]] = {}
    forms: dict[nn.Module, set[str]] = {}

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        if module not in seen:
            return
        form = _form((args, kwargs))
        if form in forms.setdefault(module, set()) or len(forms[module]) >= FORMS:
            return
        forms[module].add(form)
        args, kwargs = pytree.tree_map_only(torch.Tensor, lambda t: t.detach().clone(), (list(args), dict(kwargs)))
        found.setdefault(module, []).append(Call(*args, **kwargs))

    with _quietly(model), contextlib.ExitStack() as hooks:
        for module in model.modules():
            hooks.callback(module.register_forward_pre_hook(note, with_kwargs=True, prepend=True).remove)
        record()
    return found


def _form(call: Any) -> str:
    leaves, spec = pytree.tree_flatten(call)
    told = [(tuple(v.shape), v.dtype) if isinstance(v, torch.Tensor) else v for v in leaves]
    return f"{spec} {told}"


@contextlib.contextmanager
def _quietly(model: nn.Module) -> Iterator[None]:
    with torch.no_grad(), torch.random.fork_rng(devices=[]), unchanged(model):
        yield


@contextlib.contextmanager
def _around(model: nn.Module, enter: Any, leave: Any) -> Iterator[None]:
    """Call functions when a module is entered and left."""
    with contextlib.ExitStack() as hooks:
        for module in model.modules():
            hooks.callback(module.register_forward_pre_hook(lambda m, a: enter(m), prepend=True).remove)
            hooks.callback(module.register_forward_hook(lambda m, a, r: _nothing(leave(m)), always_call=True).remove)
        yield


def _nothing(value: Any) -> None:
    """A hook that returns something would replace the result."""


class _Convolutions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notices the modules within which a convolution over three axes runs."""

    def __init__(self, stack: Sequence[nn.Module], seen: set[nn.Module]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack = stack
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "convolution" in str(func) and args[1].dim() == 5:
            self.seen.update(self.stack)
        return func(*args, **(kwargs or {}))
