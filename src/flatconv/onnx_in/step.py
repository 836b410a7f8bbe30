"""One node of an ONNX graph, and the values that go between nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np
import torch
from torch import Tensor

from flatconv.errors import RefusedError


class FreeSizeError(ValueError):
    """Something that can be computed only where all sizes are fixed."""


@dataclass(frozen=True)
class Known:
    """An array whose numbers are known while the graph is read: sizes, axes, scales. Sizes that are free are symbols in it.

    Attributes:
        array: of int64, bool or a float type, or of objects where some numbers are symbols.
        held: the same as a tensor of the model, where it is one of its constants.
        kind: its type in the file, where the array's is a wider one.
    """

    array: np.ndarray[Any, Any]
    held: Tensor | None = None
    kind: torch.dtype | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Its type in the file."""
        if self.held is not None:
            return self.held.dtype
        if self.kind is not None:
            return self.kind
        return torch.int64 if self.free else torch.from_numpy(np.empty(0, self.array.dtype)).dtype

    @property
    def free(self) -> bool:
        """Whether there are symbols in it."""
        return bool(self.array.dtype == object)

    @property
    def integral(self) -> bool:
        """Whether it holds integers or truth values."""
        return self.free or self.array.dtype.kind in "iub"

    def tensor(self) -> Tensor:
        """As data.

        Raises:
            FreeSizeError: some number is a symbol.
        """
        if self.held is not None:
            return self.held
        if self.free:
            raise FreeSizeError("a free size is used as data")
        return torch.tensor(self.array.copy(), dtype=self.dtype)  # a copy: an array may run backwards

    def numbers(self) -> list[Any]:
        """Its numbers in order, as Python has them; symbols stay symbols."""
        return [n.item() if isinstance(n, np.generic) else n for n in self.array.reshape(-1)]


Value: TypeAlias = "Tensor | Known | None"


def sizes(numbers: Sequence[Any] | Any) -> Known:
    """Known integers; a single one has no axis."""
    many = isinstance(numbers, list | tuple)
    symbols = any(isinstance(n, torch.SymInt) for n in (numbers if many else [numbers]))
    made = np.empty(len(numbers) if many else (), dtype=object if symbols else np.int64)
    made[...] = numbers
    return Known(made)


@dataclass(frozen=True)
class Step:
    """A node.

    Attributes:
        op: its operator, of ONNX's own domain.
        name: of the node in the file, or made up.
        version: of the operator set.
        attributes: as Python values; tensors are numpy arrays.
        inputs: names of values, empty where an optional one is left out.
        outputs: the same.
    """

    op: str
    name: str
    version: int
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def refuse(self, why: str) -> NoReturn:
        """Say why this node is not read.

        Raises:
            RefusedError: always.
        """
        raise RefusedError(f"the ONNX file's {self.op} '{self.name}' is not read: {why}")

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def only(self, **wanted: Any) -> None:
        """Refuse attributes that have other values; those that are left out have the first given."""
        for name, values in wanted.items():
            allowed = values if isinstance(values, tuple) else (values,)
            if self.get(name, allowed[0]) not in allowed:
                self.refuse(f"{name}={self.get(name)!r} is not supported, only {', '.join(map(repr, allowed))}")

    def one_result(self) -> None:
        """Refuse further results."""
        if any(self.outputs[1:]):
            self.refuse(f"its result '{self.outputs[1] or self.outputs[-1]}' is not supported, only the first is")

    def tensor(self, values: Sequence[Value], place: int) -> Tensor:
        """An input as data."""
        found = values[place] if place < len(values) else None
        if found is None:
            self.refuse(f"input {place} is missing")
        return found.tensor() if isinstance(found, Known) else found

    def optional(self, values: Sequence[Value], place: int) -> Tensor | None:
        """An input as data, or None where it is left out."""
        return self.tensor(values, place) if place < len(values) and values[place] is not None else None

    def known(self, values: Sequence[Value], place: int) -> Known | None:
        """An input whose numbers must be known, or None where it is left out."""
        found = values[place] if place < len(values) else None
        if found is None or isinstance(found, Known):
            return found
        return self.refuse(f"input {place} ({self.inputs[place]}) is computed from data, and must be known")

    def numbers(self, values: Sequence[Value], place: int, attribute: str | None = None) -> list[Any] | None:
        """Known numbers from an input, or from the attribute that older versions have instead; None where left out."""
        found = self.known(values, place)
        if found is not None:
            return found.numbers()
        given = self.get(attribute) if attribute else None
        return None if given is None else list(given) if isinstance(given, list | tuple) else [given]

    def needed(self, values: Sequence[Value], place: int, attribute: str | None = None) -> list[Any]:
        """Known numbers as by ``numbers``, refused where they are left out."""
        found = self.numbers(values, place, attribute)
        if found is None:
            self.refuse(f"{attribute or f'input {place}'} is missing")
        return found


@dataclass(frozen=True)
class Branch:
    """One side of a condition: it reads values from outside, and has constants among the graph's own.

    Attributes:
        steps: of it.
        outputs: names of what it gives.
    """

    steps: tuple[Step, ...]
    outputs: tuple[str, ...]


def nested(steps: Sequence[Step]) -> list[Step]:
    """Steps, and those of branches within them."""
    found = []
    for step in steps:
        inner = [b for b in step.attributes.values() if isinstance(b, Branch)]
        found += [step, *(s for b in inner for s in nested(b.steps))]
    return found


def reads(step: Step) -> set[str]:
    """The values that a step needs, those of its branches among them."""
    return {n for s in nested([step]) for n in s.inputs} | {
        n for b in step.attributes.values() if isinstance(b, Branch) for n in b.outputs
    }


def axis_of(step: Step, axis: int, rank: int) -> int:
    """An axis counted from the front."""
    if not -rank <= axis < rank:
        step.refuse(f"axis {axis} of a tensor with {rank} axes")
    return axis % rank


def moved_last(axes: Sequence[int], rank: int) -> list[int]:
    """An order of axes in which two that are not among ``axes``, or as many as there are, stand in front of all others."""
    kept = [a for a in range(rank) if a not in axes][:2]
    return [*kept, *(a for a in range(rank) if a not in kept)]


def moved_back(x: Tensor, order: Sequence[int]) -> Tensor:
    """A tensor whose axes are in an order, with the axes as they were."""
    return x.permute([order.index(a) for a in range(x.dim())])
