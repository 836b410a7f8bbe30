"""Weights of a model that nothing reads any more but folded programs, which have their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from flatconv.errors import GuardError

LOOKS = frozenset({"size", "dim", "numel", "nelement", "element_size", "is_floating_point", "is_complex", "stride"})
"""What may be asked of a weight that is gone, beside its attributes: how large it was and of which type."""
VALUES = frozenset({"data", "grad", "T", "mT", "H", "mH", "real", "imag"})
"""Attributes that are its values."""


class Freed(nn.Parameter):
    """Stands where a weight was: it still has shape, type and device, and using it is an error that says what happened.

    Anything less would be worse: without a weight a normalisation silently leaves its scale out, and a tensor on the meta
    device makes results that look like results.
    """

    path_in_model: str

    @staticmethod
    def of(tensor: torch.Tensor, name: str) -> Freed:
        """For a tensor, with one element of memory."""
        held = torch.zeros((), dtype=tensor.dtype, device=tensor.device).expand(tensor.shape)
        learns = tensor.requires_grad and isinstance(tensor, nn.Parameter)
        made: Freed = torch.Tensor._make_subclass(Freed, held, learns)
        made.path_in_model = name
        return made

    def __repr__(self, *_: Any, **__: Any) -> str:  # type: ignore[override]
        """Not its values, which are gone."""
        return f"Freed({self.path_in_model}, {'×'.join(map(str, self.shape))})"

    def __deepcopy__(self, memo: Any) -> Any:
        self.refuse()

    def __reduce_ex__(self, protocol: Any) -> Any:
        self.refuse()

    def refuse(self) -> Any:
        """Say that it is gone.

        Raises:
            GuardError: always.
        """
        raise GuardError(
            f"'{self.path_in_model}' was freed by flatconv.patch(drop_original=True): only calls that the folded programs were "
            "made for can be computed. Load the model again for all else, or patch it without drop_original"
        )

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        attribute = getattr(getattr(func, "__self__", None), "__name__", "")
        if (name == "__get__" and attribute not in VALUES) or name in LOOKS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        gone = next((t for t in _tensors(args, kwargs or {}) if isinstance(t, Freed)), None)
        if gone is None:  # the class itself is asked
            return NotImplemented
        return gone.refuse()


def _tensors(args: Any, kwargs: Any) -> Iterable[Any]:
    for value in (*args, *kwargs.values()):
        if isinstance(value, list | tuple):
            yield from _tensors(value, {})
        else:
            yield value


def free(root: nn.Module, read: Iterable[torch.Tensor]) -> int:
    """Put ``Freed`` in the place of all parameters and buffers that are among ``read``, wherever they are registered.

    Returns:
        The bytes that this frees, where nobody else holds the tensors.
    """
    gone = {id(t): t for t in read}
    bytes_ = sum(t.numel() * t.element_size() for t in gone.values())
    for path, module in root.named_modules():
        for held in (module._parameters, module._buffers):
            for key, tensor in held.items():
                if tensor is not None and id(tensor) in gone:
                    held[key] = Freed.of(tensor, f"{path}.{key}".lstrip("."))
    return bytes_
