"""What a room of operators provides, and the carrying of slices that most rooms share.

An ``Operator`` answers three questions about a node:

* ``facts``: which slices of the result are zero or equal, along each axis of known size;
* ``links``: which axis of an input becomes which axis of the result, so that both are dropped or neither;
* ``emit``: the node again with some axes dropped (its lower-rank twin), in the new program.

An axis is *dropped* when all its non-zero slices are equal: the one slice is stored without the axis, and the axis is
known from the facts alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import fx

from flatconv.facts import ZERO, Numbering, Slices
from flatconv.program import Node, Size

Axes = frozenset[int]
NONE: Axes = frozenset()


class Facts:
    """The slice identities of every tensor of a program, filled in program order."""

    def __init__(self) -> None:
        self.numbering = Numbering()
        self.of: dict[Node, tuple[Slices | None, ...]] = {}

    def along(self, node: Node, axis: int) -> Slices | None:
        """Identities along an axis; None where its size is not known."""
        known = self.of.get(node)
        return known[axis] if known else None

    def fresh(self, node: Node, axis: int) -> Slices | None:
        """All slices distinct: right for any tensor."""
        size = (node.shape or ())[axis]
        return Slices(self.numbering.block(("value", node.index, axis), size)) if isinstance(size, int) else None

    def constant(self, value: object, size: Size) -> Slices | None:
        """Every slice the same constant, or zero."""
        if not isinstance(size, int):
            return None
        number = ZERO if value == 0 else self.numbering.number(("constant", repr(value)))
        return Slices((number,) * size, "" if value else "zeros")


class Lowering(Protocol):
    """The new program under construction, as the rooms see it."""

    facts: Facts
    reordered: bool
    """Whether values may have channels last in memory where the original's have not, in PyTorch's own kernels."""

    def get(self, node: Node, drop: Axes = NONE) -> fx.Node:
        """The value without the axes ``drop``."""

    def stored(self, node: Node) -> Axes:
        """The axes that the value is stored without."""

    def call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """Add a node."""

    def size(self, node: Node, axis: int) -> int | fx.Node:
        """The size of an axis: a number, or a node that computes it."""

    def scalar(self, value: Any) -> Any:
        """An argument that holds no tensors, with size nodes replaced."""


@dataclass(frozen=True)
class Carry:
    """Slice i of the result along ``out`` is a function of slice i of every source, and of nothing else along that axis.

    Attributes:
        out: axis of the result.
        sources: (input, its axis), axis None where the input has no such axis and is the same for every slice.
        mixing: the function also reads the other slices (a statistic over the axis). Equal slices then stay equal, but
            zero is lost, and the axis can be dropped only if all its slices are equal.
    """

    out: int
    sources: tuple[tuple[Node, int | None], ...]
    mixing: bool = False


def call_of_first(node: Node, names: tuple[str, ...]) -> Node | None:
    """The call of which a node is the first of several results, if it is of these names."""
    call = node.args.get("0") if node.op == "getitem" and node.args.get("1") == 0 else None
    return call if isinstance(call, Node) and call.op.removeprefix("aten.").partition(".")[0] in names else None


class Operator:
    """A family of operators that read, carry facts and are lowered in the same way."""

    names: tuple[str, ...] = ()

    def accepts(self, node: Node) -> bool:
        """Whether this room knows the node."""
        return node.op.removeprefix("aten.").partition(".")[0] in self.names

    def carries(self, node: Node) -> list[Carry]:
        """The axes through which slices pass."""
        return []

    def zero(self, node: Node, zeros: Mapping[Node, bool]) -> bool:
        """Whether the result is zero where the inputs marked True are zero (and the others are anything finite)."""
        return False

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        """Identities along every axis of the result. By default: carried, or all distinct."""
        carried = {c.out: carry_facts(self, node, c, facts) for c in self.carries(node)}
        return tuple(carried.get(a) or facts.fresh(node, a) for a in range(node.rank))

    def links(self, node: Node, facts: Facts) -> Iterator[tuple[Node, int, int]]:
        """(input, its axis, axis of the result) that must be dropped together."""
        for carry in self.carries(node):
            if droppable(node, carry, facts):
                yield from ((source, axis, carry.out) for source, axis in carry.sources if axis is not None)

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        """Those of the axes ``drop`` that ``emit`` can leave out."""
        return frozenset(c.out for c in self.carries(node) if c.out in drop and droppable(node, c, facts))

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        """The node without the axes ``drop``. By default: the same call on inputs without those axes."""
        return self.call(node, low, self.dropped_inputs(node, drop, low))

    def dropped_inputs(self, node: Node, drop: Axes, low: Lowering) -> dict[Node, fx.Node]:
        """Every tensor input without the axes that ``drop`` corresponds to in it."""
        lost: dict[Node, set[int]] = {n: set() for n in node.tensors}
        for carry in self.carries(node):
            if carry.out in drop:
                for source, axis in carry.sources:
                    if axis is not None:
                        lost[source].add(axis)
        return {n: low.get(n, frozenset(axes)) for n, axes in lost.items()}

    def call(self, node: Node, low: Lowering, tensors: Mapping[Node, fx.Node], **changed: Any) -> fx.Node:
        """The same operator with the given tensors and changed arguments."""

        def resolve(value: Any) -> Any:
            if isinstance(value, Node) and value in tensors:
                return tensors[value]
            if isinstance(value, list | tuple):
                return [resolve(v) for v in value]
            return low.scalar(value)

        return call_schema(low, node.target, {k: resolve(v) for k, v in (node.args | changed).items()})


def call_schema(low: Lowering, target: Any, arguments: Mapping[str, Any]) -> fx.Node:
    """Call an ATen overload with arguments by name, leaving out trailing defaults so that the graph reads well."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    given = list(target._schema.arguments)
    while given and given[-1].has_default_value() and _same(arguments.get(given[-1].name), given[-1].default_value):
        given.pop()
    for argument in given:
        if argument.kwarg_only:
            if not _same(arguments[argument.name], argument.default_value):
                kwargs[argument.name] = arguments[argument.name]
        else:
            args.append(arguments[argument.name])
    return low.call(target, *args, **kwargs)


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and not isinstance(value, fx.Node) and bool(value == default)


def representative(node: Node, axis: int, facts: Facts) -> int | None:
    """A position of the slice that is stored when the axis is dropped."""
    known = facts.along(node, axis)
    return None if known is None else known.position


def droppable(node: Node, carry: Carry, facts: Facts) -> bool:
    """Whether the one slice of the result can be computed from the one stored slice of each source."""
    known = facts.along(node, carry.out)
    if known is None or known.position is None:
        return False
    for source, axis in carry.sources:
        if axis is None:
            continue
        given = facts.along(source, axis)
        if given is None or given.only is None:
            return False
        if carry.mixing and not (given.uniform and known.uniform):
            return False
        at = known.position if len(given) == len(known) else 0
        if given[at] != given.only:
            return False
    return True


def carry_facts(room: Operator, node: Node, carry: Carry, facts: Facts) -> Slices | None:
    """Identities of the result along a carried axis."""
    size = (node.shape or ())[carry.out]
    if not isinstance(size, int):
        return None
    tracked = [(s, facts.along(s, a)) for s, a in carry.sources if a is not None]
    if any(known is None for _, known in tracked):
        return facts.fresh(node, carry.out)
    known = [(s, k) for s, k in tracked if k is not None]
    # ZERO says nothing of a slice's shape, which may matter to what is made of it: it belongs to the key.
    kinds = tuple(slice_kind(s, a) for s, a in carry.sources if a is not None)
    key = ("carry", node.key(tuple(s for s, _ in known)), carry.out, kinds, node.index if carry.mixing else None)
    # One source with all slices distinct says no more about the result; only size-1 sources repeat.
    if all(k.all_distinct for _, k in known) and (size == 1 or any(len(k) == size for _, k in known)):
        # A source of one slice gives the same to every position, so its length tells two results apart.
        starts = tuple((k.ids[0] if len(k) else 0, len(k)) for _, k in known)
        return Slices(facts.numbering.block((key, starts), size))
    ids = []
    for i in range(size):
        read = tuple(k[i] if len(k) == size else k[0] for _, k in known)
        zeros = {s: number == ZERO for (s, _), number in zip(known, read, strict=True)}
        lost = carry.mixing or not any(zeros.values()) or not room.zero(node, zeros)
        ids.append(facts.numbering.number((key, read)) if lost else ZERO)
    return Slices(tuple(ids), next((k.origin for _, k in known if k.origin), ""))


def slice_kind(node: Node, axis: int) -> tuple[object, ...]:
    """Shape and type of a slice."""
    shape = node.shape or ()
    return (*shape[:axis], None, *shape[axis + 1 :], node.dtype)


def ints(value: Any, rank: int) -> tuple[int, ...] | None:
    """An int or list argument as one int for each of ``rank`` axes; None if it is not made of plain ints."""
    values = [value] if isinstance(value, int) else list(value or ())
    if not all(isinstance(v, int) for v in values):
        return None
    return tuple(values * rank if len(values) == 1 else values)


def wrap(dim: int, rank: int) -> int:
    """A dimension counted from the front."""
    return dim + rank if dim < 0 else dim


def after(axes: Axes, axis: int) -> int:
    """The index of ``axis`` once ``axes`` are gone."""
    return axis - sum(a < axis for a in axes)
