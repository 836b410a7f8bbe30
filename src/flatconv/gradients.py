"""What a model's code does and a graph of values does not show: it stops, changes or hears gradients, or asks for types.

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
TYPES = (
    "to", "float", "half", "bfloat16", "double", "type", "type_as", "element_size", "result_type", "can_cast",
)  # fmt: skip
"""What asks for a tensor's type or for another one; nothing is left of it in a graph where it was the same."""
TYPE_ATTRIBUTES = ("dtype", "itemsize", "nbytes")
ALONE = (
    "relu_", "relu6_", "leaky_relu_", "elu_", "selu_", "celu_", "silu_", "mish_", "gelu_", "hardtanh_", "hardswish_",
    "hardsigmoid_", "sigmoid_", "tanh_", "clamp_", "clamp_min_", "clamp_max_", "add_", "sub_", "mul_", "div_", "neg_", "abs_",
    "zero_", "fill_", "copy_", "squeeze_", "unsqueeze_", "transpose_", "t_", "detach_", "requires_grad_",
)  # fmt: skip
"""Changes in place that are the same written out, whatever the tensor's type, if no other tensor takes part."""
AUTOCAST = (
    "is_autocast_enabled", "get_autocast_dtype", "is_autocast_cpu_enabled", "get_autocast_cpu_dtype", "get_autocast_gpu_dtype",
)  # fmt: skip
"""Functions of torch that tell whether autocast is on, which autocast itself asks too."""


@contextlib.contextmanager
def without_autocast() -> Iterator[None]:
    """Autocast off, so that what is captured has no casts of its own."""
    with contextlib.ExitStack() as off:
        for kind in ("cpu", "cuda", "xpu", "mps"):
            if torch.is_autocast_enabled(kind):
                off.enter_context(torch.autocast(kind, enabled=False))
        yield


class _Noting(TorchFunctionMode):
    def __init__(self, found: dict[str, None], layouts: dict[str, None]) -> None:
        super().__init__()
        self.found = found
        self.layouts = layouts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in NAMES:
            self.found[NAMES[name]] = None
        elif name in LAYOUT or name in TYPES:
            self.layouts[name] = None
        elif name in ("__get__", "__set__"):
            attribute = getattr(getattr(func, "__self__", None), "__name__", "")
            if attribute in ATTRIBUTES:
                self.found[f"tensor.{attribute}"] = None
            elif attribute in TYPE_ATTRIBUTES:
                self.layouts[f"tensor.{attribute}"] = None
        if _keeps_type(name, args, kwargs or {}):
            self.layouts[name] = None
        return func(*args, **(kwargs or {}))


def _keeps_type(name: str, args: Any, kwargs: Any) -> bool:
    """Whether a call writes into a tensor, whose type the result keeps, what would have another type written out."""
    if kwargs.get("out") is not None:
        return True
    if name.startswith("__"):
        return name.startswith("__i") and name not in ("__index__", "__int__", "__invert__")
    if not name.endswith("_") or name.startswith("_"):
        return False
    tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]
    return name not in ALONE or (len(tensors) > 1 and name != "copy_")


@contextlib.contextmanager
def noted(found: dict[str, None], layouts: dict[str, None]) -> Iterator[None]:
    """Note in ``found`` what code does to gradients, and in ``layouts`` what it asks of tensors beside their values."""
    function = torch.autograd.Function
    before = function.__dict__["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        found[f"{cls.__name__}, a function with a backward pass of its own"] = None
        return before.__func__(cls, *args, **kwargs)

    def asking(name: str, ask: Any) -> Any:
        def asked(*args: Any, **kwargs: Any) -> Any:
            layouts[f"torch.{name}"] = None
            return ask(*args, **kwargs)

        return asked

    asks = {name: getattr(torch, name) for name in AUTOCAST}
    for name, ask in asks.items():
        setattr(torch, name, asking(name, ask))
    function.apply = classmethod(apply)  # type: ignore[assignment, method-assign]
    try:
        with _Noting(found, layouts):
            yield
    finally:
        function.apply = before  # type: ignore[method-assign]
        for name, ask in asks.items():
            setattr(torch, name, ask)
