"""From facts and plans to a new graph.

Every value is stored without the axes that are dropped for it. Which axes those are is decided once, for all values that
pass an axis on to each other: a convolution that drops an axis drops it for everything connected to it, so that a region
is of lower rank from its entry to its exit and no view is left inside. An operator without a lower-rank twin gets its axis
back by a view, for just that step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import fx

from flatconv import aliases, forms, ops
from flatconv.analyse import Analysis
from flatconv.errors import RefusedError
from flatconv.facts import ZERO
from flatconv.interpret import evaluate
from flatconv.ops.base import NONE, Axes, after
from flatconv.ops.conv import FORMATS, Site, reduce_weight, repeated
from flatconv.ops.shape import Reshape
from flatconv.program import Node, Program

aten = torch.ops.aten

STRIDED = ("as_strided", "as_strided_copy", "as_strided_scatter")

Weights = Literal["folded", "shared"]


def run(target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call an operator on tensors."""
    return target(*args, **kwargs)


@dataclass(frozen=True)
class Constant:
    """A tensor of the new program made from the original's weights.

    Attributes:
        name: in the new program's state.
        sources: the values in the original program that it is made from; they depend on weights alone.
        make: turns these values into this one.
        key: what it is made of and how; equal keys are equal tensors, in all lowerings of one program.
    """

    name: str
    sources: tuple[Node, ...]
    make: Callable[..., torch.Tensor]
    key: str = ""

    def value(self, weights: Mapping[Node, torch.Tensor], wide: bool = False) -> torch.Tensor:
        """The tensor, made from the given weights, in float64 if ``wide``."""
        return self.make(*(evaluate(source, weights, wide) for source in self.sources))


@dataclass
class Lowered:
    """A new graph.

    Attributes:
        graph: placeholders for the inputs, ``get_attr`` for the weights.
        constants: every tensor that the graph reads by name.
        emitted: the new node of every convolution.
    """

    graph: fx.Graph
    constants: dict[str, Constant]
    emitted: dict[Node, fx.Node] = field(default_factory=dict)


def lower(program: Program, analysis: Analysis, weights: Weights = "folded") -> Lowered:
    """Carry out the plans of an analysis."""
    return _Lowering(program, analysis, weights).run()


def dropped_axes(program: Program, analysis: Analysis) -> dict[Node, Axes]:
    """For every value, the axes to store it without.

    Axes that are passed on from value to value form sets; a set in which a convolution drops its axis is dropped whole.
    """
    parent: dict[tuple[Node, int], tuple[Node, int]] = {}

    def find(x: tuple[Node, int]) -> tuple[Node, int]:
        while parent.setdefault(x, x) != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x

    seeds: list[tuple[Node, int]] = []
    passed: set[tuple[Node, int, Node]] = set()
    for node in program.nodes:
        room = ops.room(node)
        if room is None:
            continue
        for source, source_axis, axis in room.links(node, analysis.facts):
            parent[find((source, source_axis))] = find((node, axis))
            passed.add((source, source_axis, node))
        if isinstance(room, Reshape):
            for axis, size in enumerate(node.shape or ()):
                if size == 1:
                    find((node, axis))
        here = analysis.sites.get(node)
        for axis in here.dropped if here else NONE:
            seeds.append((node, axis))
            given = analysis.facts.along(here.source, axis) if here else None
            if here and given is not None and given.only is not None:
                parent[find((here.source, axis))] = find((node, axis))
    chosen = {find(s) for s in seeds}
    if chosen:
        chosen |= _free(program, analysis, [(k, find(k)) for k in list(parent)], passed) - chosen
    found: dict[Node, set[int]] = {}
    for node, axis in list(parent):
        if find((node, axis)) in chosen:
            found.setdefault(node, set()).add(axis)
    return {node: frozenset(axes) for node, axes in found.items()}


def _free(
    program: Program,
    analysis: Analysis,
    members: list[tuple[tuple[Node, int], tuple[Node, int]]],
    passed: set[tuple[Node, int, Node]],
) -> set[tuple[Node, int]]:
    """Sets of axes of size 1 that begin and end at reshapes: they can be dropped at no cost, with nothing put back."""
    sets: dict[tuple[Node, int], list[tuple[Node, int]]] = {}
    for member, root in members:
        sets.setdefault(root, []).append(member)

    def ends_well(node: Node, axis: int) -> bool:
        room = ops.room(node)
        if (node.shape or ())[axis] != 1 or room is None or node in program.outputs:
            return False
        if axis not in room.twin(node, frozenset({axis}), analysis.facts):
            return False
        return all((node, axis, u) in passed or isinstance(ops.room(u), Reshape) for u in node.users)

    return {root for root, axes in sets.items() if all(ends_well(n, a) for n, a in axes)}


class _Lowering:
    """The state of one lowering; what the rooms see of it is ``flatconv.ops.base.Lowering``."""

    def __init__(self, program: Program, analysis: Analysis, weights: Weights) -> None:
        self.program = program
        self.analysis = analysis
        self.facts = analysis.facts
        self.weights = weights
        self.graph = fx.Graph()
        self.constants: dict[str, Constant] = {}
        self.forms: dict[Node, dict[Axes, fx.Node]] = {}
        self.base: dict[Node, Axes] = {}
        self.scalars: dict[Node, fx.Node] = {}
        self.drop = dropped_axes(program, analysis)
        self.moves = any(s.channels_last or not forms.form(s).views(s) for s in analysis.sites.values())
        self.reordered = analysis.engine == "eager" and any(s.channels_last for s in analysis.sites.values())
        self.emitted: dict[Node, fx.Node] = {}
        self.joint: dict[tuple[Node, ...], tuple[fx.Node, Axes]] = {}
        self.origin: Node | None = None
        self._given: dict[fx.Node, Node] = {}

    def run(self) -> Lowered:
        for node in self.program.inputs:
            self._store(node, NONE, self.graph.placeholder(node.name))
        for node in self.program.nodes:
            if node.op not in ("input", "weight") and node.shape is not None:
                self.origin = node
                self._emit(node)
        self.origin = None
        self.graph.output(tuple(self._output(o) for o in self.program.outputs))
        self.graph.eliminate_dead_code()
        self._name_constants()
        self.graph.lint()
        return Lowered(self.graph, self.constants, self.emitted)

    def _output(self, node: Node) -> fx.Node:
        """A result: memory of its own wherever the original's has it."""
        made = self.get(node)
        mine, theirs = aliases.owner(made), aliases.origin(node)
        shared = self._given.setdefault(mine, theirs) is not theirs
        if shared or (aliases.borrowed(made) and not aliases.views_input(node)):
            return self.call(aten.clone.default, made, memory_format=torch.contiguous_format)
        # Forms that move slices, and memory formats, end with the program: results lie in memory as the original's do.
        return self.call(aten.contiguous.default, made) if self.moves and node.contiguous else made

    def _name_constants(self) -> None:
        """Give the constants that are still read their final names: the original's, numbered where it is taken."""
        named: dict[str, Constant] = {}
        final: dict[str, str] = {}
        for node in self.graph.nodes:
            if node.op != "get_attr":
                continue
            if node.target not in final:
                constant = self.constants[node.target]
                name, count = constant.name, 1
                while name in named:
                    count += 1
                    name = f"{constant.name}__{count}"
                named[name] = replace(constant, name=name)
                final[node.target] = name
            node.target = final[node.target]
        self.constants = named

    def _store(self, node: Node, axes: Axes, made: fx.Node) -> None:
        self.base[node] = axes
        self.forms[node] = {axes: made}

    def _emit(self, node: Node) -> None:
        room, drop = ops.room(node), self.drop.get(node, NONE)
        here = self.analysis.sites.get(node)
        if here is not None and (here.applied or here.form or here.channels_last):
            self._emit_site(here)
        elif room is None:
            self._store(node, NONE, self._as_is(node))
        else:
            axes = room.twin(node, drop, self.facts)
            self._store(node, axes, room.emit(node, axes, self))

    def _as_is(self, node: Node) -> fx.Node:
        """An unknown operator on inputs of full rank."""
        if node.op.removeprefix("aten.").partition(".")[0] in STRIDED:
            raise RefusedError(
                f"{node.where} uses {node.op}, which reads a tensor's memory layout and not its values, and a rewrite may "
                "change layouts: write that step with slices or reshapes"
            )

        def resolve(value: Any) -> Any:
            if isinstance(value, Node):
                return self.get(value) if value.shape is not None else self._scalar(value)
            if isinstance(value, list | tuple):
                return [resolve(v) for v in value]
            return value

        return self._call_by_name(node, {k: resolve(v) for k, v in node.args.items()})

    def _call_by_name(self, node: Node, arguments: dict[str, Any]) -> fx.Node:
        if isinstance(node.target, torch._ops.OpOverload):
            return ops.base.call_schema(self, node.target, arguments)
        return self.call(node.target, *arguments.values())

    def _emit_site(self, here: Site) -> None:
        node = here.node
        made, axes = self._computed(here)
        self.emitted[node] = made
        first = [a for a in here.axes if a.first and not a.dropped]
        for a in first:
            made = self.call(
                aten.expand.default,
                made,
                [a.outputs if i == after(axes, a.axis) else -1 for i in range(node.rank - len(axes))],
            )
        for a in here.kept:
            if a.repeat is not None and a.axis not in axes:
                made = repeated(self, made, after(axes, a.axis), node.rank - len(axes), *a.repeat)
        self._store(node, axes, made)

    def _computed(self, here: Site) -> tuple[fx.Node, Axes]:
        """The result of a site in its form, and the axes it lacks."""
        how = forms.form(here)
        if not here.together:
            weight = self._reduced([here])
            return how.emit(here, self, weight, self.get(here.bias) if here.bias is not None else None)
        members = [self.analysis.sites[n] for n in here.together]
        if here.together not in self.joint:
            weight, biases = self._reduced(members), [m.bias for m in members if m.bias is not None]
            self.joint[here.together] = how.emit(here, self, weight, self._joined(biases))
        made, axes = self.joint[here.together]
        counts = [int((m.node.shape or ())[1]) for m in members]
        start = sum(counts[: here.together.index(here.node)])
        return self.call(aten.slice.Tensor, made, 1, start, start + (here.node.shape or ())[1]), axes

    def _joined(self, biases: list[Node]) -> fx.Node | None:
        """The biases of sites that are computed together, one after the other."""
        if not biases:
            return None
        if self.weights == "shared" or any(b not in self.program.constant for b in biases):
            return self.call(aten.cat.default, [self.get(b) for b in biases])
        return self._constant(self._joint_name(biases), tuple(biases), lambda *b: torch.cat(b), "joined")

    def _joint_name(self, sources: list[Node]) -> str:
        return f"{self.program.names.get(sources[0], 'joint')}__and_{len(sources) - 1}_more"

    def _reduced(self, members: list[Site]) -> fx.Node:
        """The weight of a planned site, or of several together: reduced now and for good if folded, on every call if shared."""
        here, sources = members[0], [m.weight for m in members]
        how, dtype = forms.form(here), here.weight.dtype or torch.float32
        if self.weights == "shared" or any(w not in self.program.constant for w in sources):
            each = [reduce_weight(self.get(w), here, dtype, self.call) for w in sources]
            joint = each[0] if len(each) == 1 else self.call(aten.cat.default, each)
            found: fx.Node = how.weight(joint, here, self.call)
            return found
        as_it_is = not here.form and not here.channels_last and len(members) == 1
        if as_it_is and not any(a.changed for a in here.axes) and sources[0] in self.program.names:
            return self.get(sources[0])
        name = self.program.names.get(sources[0]) or self._weight_name(sources[0], here)
        if len(members) > 1:
            name = self._joint_name(sources)
        recipe = (tuple((a.taps, a.dropped) for a in here.axes), here.form, here.channels_last)

        def make(*ws: torch.Tensor) -> torch.Tensor:
            each = [reduce_weight(w, here, w.dtype, run) for w in ws]
            w: torch.Tensor = how.weight(each[0] if len(each) == 1 else torch.cat(each), here, run).contiguous()
            return _channels_last(w, how.stacked) if here.channels_last else w

        return self._constant(name, tuple(sources), make, recipe)

    def _weight_name(self, source: Node, here: Site) -> str:
        """The one weight that a computed weight is made from, or a name after the module."""
        roots = {n for n in _ancestors(source) if n in self.program.names and n.literal is None}
        if len(roots) == 1:
            return self.program.names[roots.pop()]
        return f"{here.node.path}.weight" if here.node.path else "weight"

    def _constant(
        self, name: str, sources: tuple[Node, ...], make: Callable[..., torch.Tensor], recipe: object = None
    ) -> fx.Node:
        """Read a constant; the same recipe for the same sources is the same constant."""
        key = f"{[source.index for source in sources]}/{recipe}"
        if key not in self.constants:
            self.constants[key] = Constant(name, sources, make, key)
        return self.graph.get_attr(key)

    def call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        made = self.graph.call_function(target, args, kwargs)
        if self.origin is not None and self.origin.path:
            made.meta["path"] = self.origin.path
        return made

    def stored(self, node: Node) -> Axes:
        return self.base.get(node, NONE)

    def get(self, node: Node, drop: Axes = NONE) -> fx.Node:
        if node not in self.forms:
            self._load(node, drop)
        forms = self.forms[node]
        if drop not in forms:
            forms[drop] = self._view(node, forms[self.base[node]], self.base[node], drop)
        return forms[drop]

    def _load(self, node: Node, drop: Axes) -> None:
        """A weight, read where it is first needed; folded weights are stored without dropped axes."""
        ones = all((node.shape or ())[a] == 1 for a in drop)
        if self.weights == "folded" and drop and ones:
            dims = sorted(drop)
            made = self._constant(self.program.names[node], (node,), lambda w: w.squeeze(dims), dims)
            self._store(node, drop, made)
        else:
            self._store(node, NONE, self._constant(self.program.names[node], (node,), lambda w: w))

    def _view(self, node: Node, given: fx.Node, held: Axes, wanted: Axes) -> fx.Node:
        """The same value without other axes: drop what is held too much, put back what is held too little."""
        lost = held
        squeezed = [a for a in sorted(wanted - held) if (node.shape or ())[a] == 1]
        if squeezed:
            given = self.call(aten.squeeze.dims, given, [after(held, a) for a in squeezed])
            lost = held | set(squeezed)
        for a in sorted(wanted - lost, reverse=True):
            known = self.facts.along(node, a)
            assert known is not None and known.position is not None  # noqa: PT018 - only such axes are dropped
            given = self.call(aten.select.int, given, after(lost, a), known.position)
            lost = lost | {a}
        for a in sorted(lost - wanted):
            lost = lost - {a}
            given = self._restore(node, given, a, after(lost, a), node.rank - len(lost))
        return given

    def _restore(self, node: Node, given: fx.Node, axis: int, at: int, rank: int) -> fx.Node:
        """Put one axis back: the one slice wherever the facts say so, zeros elsewhere."""
        known = self.facts.along(node, axis)
        assert known is not None
        given = self.call(aten.unsqueeze.default, given, at)
        if len(known) == 1:
            return given
        runs: list[tuple[bool, int]] = []
        for number in known:
            zero = number == ZERO
            if runs and runs[-1][0] == zero:
                runs[-1] = (zero, runs[-1][1] + 1)
            else:
                runs.append((zero, 1))
        sizes = [-1] * rank

        def repeated(count: int) -> fx.Node:
            return (
                given if count == 1 else self.call(aten.expand.default, given, [*sizes[:at], count, *sizes[at + 1 :]])
            )

        def zeros(count: int) -> fx.Node:
            blank = self.call(aten.zeros_like.default, given)
            return (
                blank if count == 1 else self.call(aten.expand.default, blank, [*sizes[:at], count, *sizes[at + 1 :]])
            )

        parts = [zeros(count) if zero else repeated(count) for zero, count in runs]
        return parts[0] if len(parts) == 1 else self.call(aten.cat.default, parts, at)

    def size(self, node: Node, axis: int) -> int | fx.Node:
        size = (node.shape or ())[axis]
        if isinstance(size, int):
            return size
        if node not in self.forms:
            self._load(node, NONE)
        base = self.base[node]
        return self.call(aten.sym_size.int, self.forms[node][base], after(base, axis))

    def scalar(self, value: Any) -> Any:
        if isinstance(value, Node):
            return self.get(value) if value.shape is not None else self._scalar(value)
        if isinstance(value, list | tuple):
            return [self.scalar(v) for v in value]
        return value

    def _scalar(self, node: Node) -> fx.Node:
        """A node that is no tensor: a size, arithmetic on sizes, or a list of results."""
        if node not in self.scalars:
            if node.op == "aten.sym_size.int":
                made = self.size(node.args["self"], node.args["dim"])
                self.scalars[node] = made  # type: ignore[assignment]
            else:
                self.scalars[node] = self._as_is(node)
        return self.scalars[node]


def _channels_last(weight: torch.Tensor, stacked: bool) -> torch.Tensor:
    """A convolution's weight with the channels of each filter side by side; ``stacked`` holds one weight for each tap."""
    axes = weight.dim() - stacked - 2
    if axes not in FORMATS:
        return weight
    channels = 2 if stacked else 1
    return weight.movedim(channels, -1).contiguous().movedim(-1, channels)


def _ancestors(node: Node) -> set[Node]:
    found: set[Node] = set()
    todo = [node]
    while todo:
        n = todo.pop()
        if n not in found:
            found.add(n)
            todo.extend(n.inputs)
    return found
