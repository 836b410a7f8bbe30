"""What the user knows of the inputs and the graph cannot show: declared, reported as an assumption, and guarded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from flatconv.errors import GuardError, InputError
from flatconv.facts import Slices
from flatconv.program import Node, Program

Check = Literal["always", "first", "never"]
Otherwise = Literal["refuse", "full"]


@dataclass(frozen=True)
class Repeated:
    """All slices of an input along one dimension, or along a part of it, are equal; made by ``flatconv.repeated``.

    Attributes:
        dim: the dimension; negative counts from the end.
        within: the sizes that were laid out flat in the dimension; None where it was not.
        axis: which of them repeats; negative counts from the end.
        check: when a folded model looks whether it is true.
        otherwise: what a call does of which it is not true.
    """

    dim: int
    within: tuple[int, ...] | None = None
    axis: int | None = None
    check: Check = "always"
    otherwise: Otherwise = "refuse"

    def __post_init__(self) -> None:
        if not _whole(self.dim):
            raise InputError(f"repeated(dim={self.dim!r}): dim is the number of a dimension, such as 2 for depth")
        if self.check not in get_args(Check):
            raise InputError(f"repeated(check={self.check!r}): it may be 'always', 'first' or 'never'")
        if self.otherwise not in get_args(Otherwise):
            raise InputError(f"repeated(otherwise={self.otherwise!r}): it may be 'refuse' or 'full'")
        if self.otherwise == "full" and self.check != "always":
            raise InputError(
                f"repeated(check={self.check!r}, otherwise='full'): what a call does is decided by looking at its slices, "
                "so they are compared on every call: leave check out"
            )
        if self.within is not None or self.axis is not None:
            self._check_within()

    def _check_within(self) -> None:
        if self.within is None or self.axis is None:
            raise InputError(
                f"repeated(within={self.within!r}, axis={self.axis!r}): the sizes in a dimension and the number of the one "
                "that repeats go together, such as within=(3, 2, 14, 14), axis=1"
            )
        listed = isinstance(self.within, list | tuple) and len(self.within) > 0
        if not listed or not all(_whole(s) and s > 0 for s in self.within):
            raise InputError(
                f"repeated(within={self.within!r}): a tuple of the sizes that were laid out flat is needed, such as "
                "(3, 2, 14, 14)"
            )
        if not _whole(self.axis) or not -len(self.within) <= self.axis < len(self.within):
            raise InputError(
                f"repeated(axis={self.axis!r}): it numbers one of the {len(self.within)} sizes in "
                f"within={tuple(self.within)}, from 0"
            )
        object.__setattr__(self, "within", tuple(self.within))
        object.__setattr__(self, "axis", self.axis % len(self.within))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def repeated(
    dim: int,
    *,
    within: Sequence[int] | None = None,
    axis: int | None = None,
    check: Check = "always",
    otherwise: Otherwise = "refuse",
) -> Repeated:
    """Declare that all slices of an input along ``dim`` are equal: an image repeated to several frames, say.

    ``flatconv.fold(model, (x,), assume={"x": flatconv.repeated(dim=2)})``

    Where a preprocessor has laid several axes out flat, ``within`` has their sizes and ``axis`` is the one that repeats.
    The patches of a still image, two equal frames each, as Qwen2-VL takes them:

    ``flatconv.repeated(dim=1, within=(3, 2, 14, 14), axis=1)``

    The fold is exact only for such inputs, so it compares the slices when it is called.

    Shapes: with ``within``, (L, 1176) is seen as (L, 3, 2, 14, 14), and ``axis=1`` is the one of size 2.

    Args:
        dim: the dimension; its size is taken from the example and stays fixed.
        within: sizes that ``dim`` is made of, the last one fastest; their product is its size.
        axis: which of those repeats, counted from 0 within ``within``.
        check: "always" compares on every call; "first" on the first call only; "never" trusts the caller, and the result
            for other inputs is wrong.
        otherwise: what a call does whose slices differ. "refuse" raises GuardError. "full" computes it with the model
            folded without this assumption, which is made and verified beside the other; weights that both forms read
            alike are held once. It needs check="always".

    Raises:
        InputError: ``dim`` is no integer, ``within`` and ``axis`` do not fit each other, or ``check`` or ``otherwise`` is
            none of these.
    """
    return Repeated(dim, within, axis, check, otherwise)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Assumed:
    """A declaration about one tensor of the call.

    Attributes:
        name: of the input.
        position: among the tensors.
        axis: the dimension along which slices are equal, or in which the axis lies along which they are.
        size: slices that are equal.
        check: when to look.
        within: sizes of the axes laid out flat in the dimension; empty where there is one.
        inner: the one of those that repeats.
        otherwise: what a call does of which it is not true.
    """

    name: str
    position: int
    axis: int
    size: int
    check: Check
    within: tuple[int, ...] = ()
    inner: int = 0
    otherwise: Otherwise = "refuse"

    @property
    def where(self) -> str:
        """The axis, for sentences."""
        if not self.within:
            return f"dimension {self.axis}"
        return f"axis {self.inner} of dimension {self.axis} seen as {'×'.join(map(str, self.within))}"

    def words(self) -> str:
        """For reports."""
        when = {
            "always": "checked on every call",
            "first": "checked on the first call only",
            "never": "never checked: for other inputs the result is wrong",
        }[self.check]
        if self.otherwise == "full":
            when += "; a call whose slices differ takes the full form, folded without this"
        return f"all {self.size} slices of '{self.name}' along {self.where} are equal (declared; {when})"

    def seen(self, tensor: torch.Tensor) -> torch.Tensor:
        """A view of the tensor in which the repeating axis is one of its own."""
        shape = tensor.shape
        return tensor.reshape(*shape[: self.axis], *self.within, *shape[self.axis + 1 :]) if self.within else tensor

    @property
    def along(self) -> int:
        """The repeating axis of that view."""
        return self.axis + self.inner

    def satisfy(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor with every slice replaced by the first."""
        if not tensor.numel():
            return tensor
        seen = self.seen(tensor)
        return seen.narrow(self.along, 0, 1).expand_as(seen).reshape(tensor.shape).contiguous()

    def same(self, tensor: torch.Tensor) -> torch.Tensor:
        """Whether it is true, as a tensor: for graphs."""
        seen = self.seen(tensor)
        return (seen == seen.narrow(self.along, 0, 1)).all()

    def difference(self, tensor: torch.Tensor) -> int | None:
        """The first slice that is not slice 0; None if it is true."""
        return first_difference(self.seen(tensor), self.along)

    def require(self, tensors: Sequence[torch.Tensor]) -> None:
        """Raise GuardError if it is not true."""
        where = self.difference(tensors[self.position])
        if where is not None:
            raise GuardError(
                f"'{self.name}' has other values in slice {where} along {self.where} than in slice 0; the model was folded "
                "for slices that are all equal there: fold again without this assumption or with otherwise='full', or pass "
                "one image repeated"
            )

    def places(self, size: int) -> tuple[int, ...]:
        """For each of ``size`` slices along the dimension the number of its value: equal numbers are declared equal."""
        sizes = self.within or (size,)
        step = math.prod(sizes[self.inner + 1 :])
        return tuple(p // (self.size * step) * step + p % step for p in range(size))


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
        InputError: it is no mapping, no input has that name, the dimension does not exist or is not of the size that was laid
            out in it, or the example itself is otherwise.
    """
    if assume is not None and not isinstance(assume, Mapping):
        raise InputError(
            f"assume is of type {type(assume).__name__}; a mapping from names of inputs to what is declared of them is needed, "
            "such as {'x': flatconv.repeated(dim=2)}"
        )
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
        if declared.within is not None and math.prod(declared.within) != tensor.shape[axis]:
            raise InputError(
                f"'{name}' has size {tensor.shape[axis]} along dimension {declared.dim}, and within={declared.within} "
                f"makes {math.prod(declared.within)}: the sizes of all that was laid out flat there are needed"
            )
        within, inner = declared.within or (), declared.axis or 0
        size = within[inner] if within else tensor.shape[axis]
        one = Assumed(name, position, axis, size, declared.check, within, inner, declared.otherwise)
        where = one.difference(tensor)
        if where is not None:
            named = one.where if within else f"dimension {declared.dim}"
            raise InputError(
                f"assume says that all slices of '{name}' along {named} are equal, and in the example slice {where} differs "
                "from slice 0: pass an example that it is true of"
            )
        found.append(one)
    return tuple(found)


def declared_facts(assumed: Sequence[Assumed], program: Program) -> dict[tuple[Node, int], Slices]:
    """The assumptions as facts of the program's inputs."""
    found: dict[tuple[Node, int], Slices] = {}
    last = 0
    for a in assumed:
        node = program.inputs[a.position]
        size = (node.shape or ())[a.axis]
        if a.size > 1 and isinstance(size, int):
            # Numbers below zero never meet the ones that an analysis hands out.
            ids = tuple(last - 1 - place for place in a.places(size))
            found[node, a.axis] = Slices(ids, f"all slices of '{a.name}'{_part(a)} declared equal")
            last = min(ids, default=last)
    return found


def _part(assumed: Assumed) -> str:
    return f" along {assumed.where}" if assumed.within else ""
