"""What a model's code does to gradients and a graph of values does not show: it stops them, changes them, or listens to them.

A graph is captured without gradients, so that ``detach``, ``no_grad`` and functions with a backward pass of their own leave no
trace in it. While the code is traced, its calls of these are noted; a program of such a model is for calls without gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

NAMES = {
    "detach": "detach",
    "detach_": "detach_",
    "_set_grad_enabled": "a change of the gradient mode",
    "set_grad_enabled": "a change of the gradient mode",
    "requires_grad_": "requires_grad_",
    "register_hook": "a hook on a tensor",
    "register_post_accumulate_grad_hook": "a hook on a tensor",
    "retain_grad": "retain_grad",
    "backward": "backward",
    "grad": "torch.autograd.grad",
}
ATTRIBUTES = ("data", "grad", "grad_fn", "requires_grad", "is_leaf")
"""Of tensors, read or set."""
LAYOUT = ("is_contiguous", "stride", "storage_offset", "data_ptr", "storage", "untyped_storage")
"""What tells how a tensor lies in memory."""


class _Noting(TorchFunctionMode):
    def __init__(self, found: dict[str, None], layouts: dict[str, None]) -> None:
        super().__init__()
        self.found = found
        self.layouts = layouts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in NAMES:
            self.found[NAMES[name]] = None
        elif name in LAYOUT:
            self.layouts[name] = None
        elif name in ("__get__", "__set__"):
            attribute = getattr(getattr(func, "__self__", None), "__name__", "")
            if attribute in ATTRIBUTES:
                self.found[f"tensor.{attribute}"] = None
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def noted(found: dict[str, None], layouts: dict[str, None]) -> Iterator[None]:
    """Note in ``found`` what code does to gradients, and in ``layouts`` what it asks of the order in memory."""
    function = torch.autograd.Function
    before = function.__dict__["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        found[f"{cls.__name__}, a function with a backward pass of its own"] = None
        return before.__func__(cls, *args, **kwargs)

    function.apply = classmethod(apply)  # type: ignore[assignment, method-assign]
    try:
        with _Noting(found, layouts):
            yield
    finally:
        function.apply = before  # type: ignore[method-assign]
