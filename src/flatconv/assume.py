"""What the user knows of the inputs and the graph cannot show: declared, reported as an assumption, and guarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from flatconv.errors import GuardError, InputError
from flatconv.facts import Slices
from flatconv.program import Node, Program

Check = Literal["always", "first", "never"]


@dataclass(frozen=True)
class Repeated:
    """All slices of an input along one dimension are equal; made by ``flatconv.repeated``.

    Attributes:
        dim: the dimension; negative counts from the end.
        check: when a folded model looks whether it is true.
    """

    dim: int
    check: Check = "always"

    def __post_init__(self) -> None:
        if not isinstance(self.dim, int) or isinstance(self.dim, bool):
            raise InputError(f"repeated(dim={self.dim!r}): dim is the number of a dimension, such as 2 for depth")
        if self.check not in get_args(Check):
            raise InputError(f"repeated(check={self.check!r}): it may be 'always', 'first' or 'never'")


def repeated(dim: int, *, check: Check = "always") -> Repeated:
    """Declare that all slices of an input along ``dim`` are equal: an image repeated to several frames, say.

    ``flatconv.fold(model, (x,), assume={"x": flatconv.repeated(dim=2)})``

    The fold is exact only for such inputs, so it compares the slices when it is called.

    Args:
        dim: the dimension; its size is taken from the example and stays fixed.
        check: "always" compares on every call and raises GuardError where slices differ; "first" on the first call only;
            "never" trusts the caller, and the result for other inputs is wrong.

    Raises:
        InputError: ``dim`` is no integer, or ``check`` is none of these.
    """
    return Repeated(dim, check)


@dataclass(frozen=True)
class Assumed:
    """A declaration about one tensor of the call.

    Attributes:
        name: of the input.
        position: among the tensors.
        axis: along which slices are equal.
        size: slices along it.
        check: when to look.
    """

    name: str
    position: int
    axis: int
    size: int
    check: Check

    def words(self) -> str:
        """For reports."""
        when = {
            "always": "checked on every call",
            "first": "checked on the first call only",
            "never": "never checked: for other inputs the result is wrong",
        }[self.check]
        return f"all {self.size} slices of '{self.name}' along dimension {self.axis} are equal (declared; {when})"

    def satisfy(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor with every slice replaced by the first."""
        return tensor.narrow(self.axis, 0, 1).expand_as(tensor).contiguous() if tensor.numel() else tensor

    def require(self, tensors: Sequence[torch.Tensor]) -> None:
        """Raise GuardError if it is not true."""
        tensor = tensors[self.position]
        where = first_difference(tensor, self.axis)
        if where is not None:
            raise GuardError(
                f"'{self.name}' has other values in slice {where} along dimension {self.axis} than in slice 0; the model "
                "was folded for slices that are all equal there: fold again without this assumption, or pass one image "
                "repeated"
            )


def first_difference(tensor: torch.Tensor, axis: int) -> int | None:
    """The first slice along ``axis`` that is not slice 0, bit for bit up to the sign of zero; NaN equals NaN."""
    first = tensor.narrow(axis, 0, min(1, tensor.shape[axis]))
    for i in range(1, tensor.shape[axis]):
        here = tensor.narrow(axis, i, 1)
        if not torch.equal(first, here) and not bool(((first == here) | ((first != first) & (here != here))).all()):
            return i
    return None


def resolve(
    assume: Mapping[str, Any] | None, names: Sequence[str], example: Sequence[torch.Tensor]
) -> tuple[Assumed, ...]:
    """Read the ``assume`` argument for an example call.

    Raises:
        InputError: no input has that name, the dimension does not exist, or the example itself is otherwise.
    """
    found = []
    for name, declared in (assume or {}).items():
        if name not in names:
            raise InputError(f"assume names an input '{name}', and the call has {', '.join(names)}")
        if not isinstance(declared, Repeated):
            raise InputError(
                f"assume={{'{name}': {declared!r}}}: write flatconv.repeated(dim=2), the one declaration there is"
            )
        position = list(names).index(name)
        tensor = example[position]
        axis = declared.dim + tensor.dim() if declared.dim < 0 else declared.dim
        if not 0 <= axis < tensor.dim():
            raise InputError(
                f"'{name}' has shape {tuple(tensor.shape)} and no dimension {declared.dim}, which is assumed to be repeated"
            )
        where = first_difference(tensor, axis)
        if where is not None:
            raise InputError(
                f"assume says that all slices of '{name}' along dimension {declared.dim} are equal, and in the example "
                f"slice {where} differs from slice 0: pass an example that it is true of"
            )
        found.append(Assumed(name, position, axis, tensor.shape[axis], declared.check))
    return tuple(found)


def declared_facts(assumed: Sequence[Assumed], program: Program) -> dict[tuple[Node, int], Slices]:
    """The assumptions as facts of the program's inputs."""
    # Numbers below zero never meet the ones that an analysis hands out.
    return {
        (program.inputs[a.position], a.axis): Slices((-1 - i,) * a.size, f"all slices of '{a.name}' declared equal")
        for i, a in enumerate(assumed)
        if a.size > 1
    }
