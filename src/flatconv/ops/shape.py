"""Views: reshapes of every spelling, and permutations of axes."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator
from typing import Any

import sympy
import torch
from torch import fx

from flatconv.facts import ZERO, Slices
from flatconv.ops.base import NONE, Axes, Carry, Facts, Lowering, Operator, after, slice_kind, wrap
from flatconv.program import Node, Size

aten = torch.ops.aten

Group = tuple[tuple[int, ...], tuple[int, ...]]


def groups(before: tuple[Size, ...], behind: tuple[Size, ...]) -> list[Group]:
    """Axes of a reshape that belong together: ((in axes), (out axes)) of equal product, axes of size 1 left out.

    A single group with everything is returned where the sizes do not tell.
    """
    left = [a for a, s in enumerate(before) if s != 1]
    right = [a for a, s in enumerate(behind) if s != 1]
    found: list[Group] = []
    i = j = 0
    while i < len(left) and j < len(right):
        ins, outs = [left[i]], [right[j]]
        p, q = sympy.sympify(before[left[i]]), sympy.sympify(behind[right[j]])
        i, j = i + 1, j + 1
        while p != q:
            if _grows(p, q) and i < len(left):
                ins.append(left[i])
                p, i = p * before[left[i]], i + 1
            elif j < len(right):
                outs.append(right[j])
                q, j = q * behind[right[j]], j + 1
            elif i < len(left):
                ins.append(left[i])
                p, i = p * before[left[i]], i + 1
            else:
                return [(tuple(left), tuple(right))]
        found.append((tuple(ins), tuple(outs)))
    if i < len(left) or j < len(right):
        return [(tuple(left), tuple(right))]
    return found


def _gaps(shape: tuple[Size, ...]) -> dict[int, list[int]]:
    """The axes of size 1 in front of every other axis; −1 for those at the end."""
    found: dict[int, list[int]] = {}
    run: list[int] = []
    for a, size in enumerate(shape):
        if size == 1:
            run.append(a)
        else:
            found[a], run = run, []
    return found | {-1: run}


def _grows(p: sympy.Expr, q: sympy.Expr) -> bool:
    """Whether the left product is the one that must grow: it divides the right one."""
    if p.is_Integer and q.is_Integer:
        return bool(p < q)
    return bool(sympy.cancel(q / p).as_numer_denom()[1] == 1)


class Reshape(Operator):
    """``y.flatten() == x.flatten()``: the same elements in the same order under another shape."""

    names = (
        "view", "reshape", "_unsafe_view", "_reshape_alias", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as",
        "reshape_as", "squeeze_copy", "unsqueeze_copy", "view_copy",
    )  # fmt: skip

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and node.op != "aten.view.dtype" and node.shape is not None

    def carries(self, node: Node) -> list[Carry]:
        source = node.tensors[0]
        pairs = groups(source.shape or (), node.shape or ())
        return [Carry(outs[0], ((source, ins[0]),)) for ins, outs in pairs if len(ins) == len(outs) == 1]

    def zero(self, node: Node, zeros: Any) -> bool:
        return True

    def facts(self, node: Node, facts: Facts) -> tuple[Slices | None, ...]:
        source = node.tensors[0]
        found = list(super().facts(node, facts))
        for ins, outs in groups(source.shape or (), node.shape or ()):
            if len(ins) > 1 and len(outs) == 1:
                found[outs[0]] = self._merged(node, source, ins, facts) or found[outs[0]]
            elif len(ins) == 1 and len(outs) > 1:
                for axis, slices in self._split(node, source, ins[0], outs, facts).items():
                    found[axis] = slices
        return tuple(found)

    def _merged(self, node: Node, source: Node, ins: tuple[int, ...], facts: Facts) -> Slices | None:
        """Slice (i, j) of merged axes is fixed by what is known of i and of j: within this tensor only."""
        known = [facts.along(source, a) for a in ins]
        if any(k is None for k in known) or all(k is not None and k.all_distinct for k in known):
            return None
        ids: list[tuple[int, ...]] = [()]
        for k in known:
            ids = [(*head, number) for head in ids for number in k or ()]
        number = facts.numbering.number
        return Slices(
            tuple(ZERO if ZERO in i else number(("merged", node.index, i)) for i in ids),
            next((k.origin for k in known if k is not None and k.origin), ""),
        )

    def _split(self, node: Node, source: Node, axis: int, outs: tuple[int, ...], facts: Facts) -> dict[int, Slices]:
        """Slice i along any of the split axes: the slices of the source at the places that have i there, in order."""
        known = facts.along(source, axis)
        sizes = [s for s in ((node.shape or ())[a] for a in outs) if isinstance(s, int)]
        if (
            known is None
            or known.all_distinct
            or len(sizes) < len(outs)
            or math.prod(sizes) != len(known)
            or 0 in sizes
        ):
            return {}
        found = {}
        step = len(known)
        for out, size in zip(outs, sizes, strict=True):
            # Every run of so many places holds all i of this axis one after the other, ``step`` places each.
            run, step = step, step // size
            # Where the members lie in the result belongs to the key: the same ones can be rows here and columns there.
            key = ("split", slice_kind(node, out), outs)
            ids = []
            for i in range(size):
                starts = range(i * step, len(known), run)
                members = tuple(m for start in starts for m in known.ids[start : start + step])
                zero = all(m == ZERO for m in members)
                ids.append(ZERO if zero else facts.numbering.number((key, members)))
            # Distinct slices say no more than any axis does, beside that they may meet again in another tensor.
            if out == outs[0] or ZERO in ids or len(set(ids)) < size:
                found[out] = Slices(tuple(ids), known.origin)
        return found

    def links(self, node: Node, facts: Facts) -> Iterator[tuple[Node, int, int]]:
        yield from super().links(node, facts)
        source = node.tensors[0]
        before, behind = _gaps(source.shape or ()), _gaps(node.shape or ())
        for pair in groups(source.shape or (), node.shape or ()):
            # Axes of size 1 in front of the same other axis are taken for each other, from the left.
            yield from ((source, a, b) for a, b in zip(before[pair[0][0]], behind[pair[1][0]], strict=False))
        yield from ((source, a, b) for a, b in zip(before[-1], behind[-1], strict=False))

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        ones = {a for a in drop if (node.shape or ())[a] == 1}
        return super().twin(node, drop, facts) | ones

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        source = node.tensors[0]
        free = {a for a in low.stored(source) if (source.shape or ())[a] == 1}
        carried = {axis for c in self.carries(node) if c.out in drop for s, axis in c.sources if axis is not None}
        lost = frozenset(free | carried)
        given = low.get(source, lost)
        before = [s for a, s in enumerate(source.shape or ()) if a not in lost]
        wanted = [a for a in range(node.rank) if a not in drop]
        if before == [(node.shape or ())[a] for a in wanted]:
            return given
        sizes = [self._size(node, a, source, low) for a in wanted]
        if sizes.count(None) > 1:
            full = low.call(aten.reshape.default, low.get(source), self._listed(node, low))
            return low.call(aten.squeeze.dims, full, sorted(drop)) if drop else full
        if None in sizes and any(isinstance(s, fx.Node) for s in sizes):
            # Beside a free size that is 0 torch cannot work out another.
            axis = wanted[sizes.index(None)]
            sizes[sizes.index(None)] = self._product((node.shape or ())[axis], source, low)
        return low.call(aten.reshape.default, given, [-1 if s is None else s for s in sizes])

    def _product(self, size: Any, source: Node, low: Lowering) -> fx.Node | None:
        """A size that is the product of neighbouring axes of the source; None if it is something else."""
        shape = source.shape or ()
        for first, last in itertools.combinations(range(len(shape) + 1), 2):
            if sympy.expand(sympy.Mul(*shape[first:last]) - size) == 0:
                found: Any = low.size(source, first)
                for axis in range(first + 1, last):
                    found = low.call(operator.mul, found, low.size(source, axis))
                return found if isinstance(found, fx.Node) else None
        return None

    def _listed(self, node: Node, low: Lowering) -> list[Any]:
        """The sizes of the whole result, for a reshape that leaves torch nothing to work out."""
        if len(node.tensors) > 1:  # view_as, reshape_as
            return [low.size(node.tensors[1], a) for a in range(node.rank)]
        source, shape = node.tensors[0], node.tensors[0].shape or ()
        if "sizes" in node.args:  # unflatten
            dim = node.args["dim"] % len(shape)
            before, after = range(dim), range(dim + 1, len(shape))
            parts: list[Any] = low.scalar(node.args["sizes"])
            return [*(low.size(source, a) for a in before), *parts, *(low.size(source, a) for a in after)]
        if "size" not in node.args and "shape" not in node.args:  # flatten, squeeze and unsqueeze
            return [s if isinstance(s, int) else self._product(s, source, low) for s in node.shape or ()]
        sizes: list[Any] = low.scalar(node.args.get("size", node.args.get("shape", [])))
        return sizes

    def _size(self, node: Node, axis: int, source: Node, low: Lowering) -> Any:
        """The size of a result's axis: a number, a node, or None where torch is to work it out."""
        size = (node.shape or ())[axis]
        if isinstance(size, int):
            return size
        listed = node.args.get("size", node.args.get("shape"))
        if isinstance(listed, list) and len(listed) == node.rank and listed[axis] != -1:
            return low.scalar(listed[axis])
        for a, s in enumerate(source.shape or ()):
            if s == size:
                return low.size(source, a)
        return None


class Permute(Operator):
    """``y[i_p(0), i_p(1), …] = x[i_0, i_1, …]``."""

    names = ("permute", "transpose", "t", "movedim", "moveaxis", "swapaxes", "swapdims", "numpy_T", "mT", "adjoint")

    def order(self, node: Node) -> tuple[int, ...]:
        """Axis of the input for every axis of the result."""
        rank, base = node.rank, node.op.removeprefix("aten.").partition(".")[0]
        order = list(range(rank))
        if base == "permute":
            return tuple(wrap(d, rank) for d in node.args["dims"])
        if base in ("movedim", "moveaxis"):
            moved = [node.args["source"], node.args["destination"]]
            source, target = ([wrap(d, rank) for d in ([v] if isinstance(v, int) else v)] for v in moved)
            rest = iter(a for a in order if a not in source)
            return tuple(source[target.index(a)] if a in target else next(rest) for a in order)
        if base in ("mT", "adjoint"):
            a, b = rank - 2, rank - 1
        elif base == "t":
            a, b = (0, 1) if rank == 2 else (0, 0)
        elif base == "numpy_T":
            return tuple(reversed(order))
        else:
            dims = [v for k, v in node.args.items() if k != "self"]
            a, b = (wrap(d, rank) for d in dims)
        order[a], order[b] = order[b], order[a]
        return tuple(order)

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and node.rank > 0 and node.dtype is not None and not node.dtype.is_complex

    def carries(self, node: Node) -> list[Carry]:
        return [Carry(out, ((node.tensors[0], axis),)) for out, axis in enumerate(self.order(node))]

    def zero(self, node: Node, zeros: Any) -> bool:
        return True

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        source, order = node.tensors[0], self.order(node)
        lost = frozenset(order[a] for a in drop)
        given = low.get(source, lost)
        left = [after(lost, a) for a in order if a not in lost]
        if left == sorted(left):
            return given
        if drop == NONE:
            return self.call(node, low, {source: given})
        return low.call(aten.permute.default, given, left)
