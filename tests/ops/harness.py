"""Property tests of slice facts: sample facts, sample tensors that satisfy them, run the operators, check every claim.

A claim is a number: a slice numbered ``ZERO`` must be zero, and slices with equal numbers must be equal, within a tensor
and across all tensors of a program. ``check_facts`` holds every claim of every node against the values that the original
operators compute; ``check_lowering`` holds the results of the rewritten program against the original's.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import fx, nn

from flatconv.analyse import Analysis, analyse
from flatconv.capture import capture
from flatconv.facts import ZERO, Slices
from flatconv.interpret import run_graph, widen
from flatconv.lower import Lowered, lower
from flatconv.program import Node, Program, build, transform

torch.set_num_threads(1)

aten = torch.ops.aten
Shape = tuple[int, ...]
Given = dict[tuple[Node, int], Slices]


def profile(max_examples: int) -> settings:
    """Settings of every property test: the same examples on every run, no deadline."""
    unchecked = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(
        max_examples=max(1, int(max_examples * FACTOR)),
        deadline=None,
        derandomize=FACTOR == 1,
        database=None,
        suppress_health_check=unchecked,
    )


FACTOR = float(__import__("os").environ.get("FLATCONV_EXAMPLES", "1"))
"""Examples are multiplied by this, and drawn anew on every run if it is not 1: FLATCONV_EXAMPLES=20 hunts for bugs."""


# --- programs


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        for i, module in enumerate(getattr(function, "modules", ())):
            self.add_module(f"m{i}", module)

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self.function(*tensors)


@dataclass(eq=False)
class Case:
    """A spelling of an operator, with the shapes it is called on.

    Attributes:
        name: for test ids.
        function: a function of tensors, or a module.
        shapes: of its inputs.
        dtypes: of its inputs; float64 where nothing is said.
        exact: equal slices must be bit-equal (data movement only).
    """

    name: str
    function: Callable[..., Any]
    shapes: tuple[Shape, ...]
    dtypes: tuple[torch.dtype, ...] = ()
    exact: bool = False

    @cached_property
    def program(self) -> Program:
        """The captured program, made once."""
        module = self.function if isinstance(self.function, nn.Module) else Call(self.function)
        example = [torch.ones(s, dtype=d) for s, d in zip(self.shapes, self.all_dtypes, strict=True)]
        return capture(module.double().eval(), tuple(example), dynamic=False).program

    @property
    def all_dtypes(self) -> tuple[torch.dtype, ...]:
        return self.dtypes or (torch.float64,) * len(self.shapes)

    def __repr__(self) -> str:
        return self.name


def cases(table: Mapping[str, tuple[Any, ...]], **common: Any) -> list[Case]:
    """Cases from ``{name: (function, *shapes)}``."""
    return [Case(name, function, shapes, **common) for name, (function, *shapes) in table.items()]


class Graph:
    """A program written node by node, without a capture: quick enough for sampled arguments."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.weights: dict[str, torch.Tensor] = {}
        self.literals: set[str] = set()

    def input(self, *shape: int, dtype: torch.dtype = torch.float64) -> fx.Node:
        return self._placeholder(f"x{len(self.graph.nodes)}", torch.zeros(shape, dtype=dtype))

    def weight(self, value: torch.Tensor, literal: bool = False) -> fx.Node:
        name = f"w{len(self.graph.nodes)}"
        self.weights[name] = value
        if literal:
            self.literals.add(name)
        return self._placeholder(name, value)

    def _placeholder(self, name: str, value: torch.Tensor) -> fx.Node:
        node = self.graph.placeholder(name)
        node.meta["val"] = value
        return node

    def call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """Add a node; raises what the operator itself raises on such arguments."""
        real = fx.node.map_arg((args, kwargs), lambda n: n.meta["val"])
        value = target(*real[0], **real[1])
        node = self.graph.call_function(target, args, kwargs)
        node.meta["val"] = value
        return node

    def program(self, *outputs: fx.Node) -> Program:
        self.graph.output(tuple(outputs))
        names = {n: n for n in self.weights}
        return Written(**vars(build(self.graph, self.weights, names, frozenset(self.literals), lambda n: "")))


class Written(Program):
    """A program that prints as one line a node, for the reports of failures."""

    def __repr__(self) -> str:
        lines = [f"{n.name}{list(n.shape or ())} = {n.op}{_short(list(n.args.values()))}" for n in self.nodes]
        return "\n".join(["", *lines, f"return {_short(self.outputs)}", ""])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


def _short(value: Any) -> str:
    return str(transform(value, lambda v: _Bare(v.name) if isinstance(v, Node) else v))


class _Bare(str):
    __repr__ = str.__str__


# --- facts of inputs, and tensors that satisfy them


@dataclass
class Known:
    """What is declared of the inputs of a program: letters along axes. 0 is zero; equal letters are equal slices.

    Attributes:
        letters: (input, axis) to one letter a slice.
        shared: inputs whose letters along an axis mean the same slices, with that axis.
    """

    letters: dict[tuple[Node, int], tuple[int, ...]] = field(default_factory=dict)
    shared: tuple[tuple[Node, ...], int] = ((), 0)

    def __repr__(self) -> str:
        known = {f"{node.name} along {axis}": letters for (node, axis), letters in self.letters.items()}
        return f"Known({known}, shared={[n.name for n in self.shared[0]]} along {self.shared[1]})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def given(self) -> Given:
        """As ``analyse`` takes it. Numbers below zero never meet the ones that it hands out."""
        found: Given = {}
        group, axis = self.shared
        for i, ((node, a), letters) in enumerate(self.letters.items(), start=1):
            start = -100 if node in group and a == axis else -1000 * i
            ids = tuple(ZERO if letter == 0 else start + letter for letter in letters)
            run = ids and ZERO not in ids and ids == tuple(range(ids[0], ids[0] + len(ids)))
            found[node, a] = Slices(range(ids[0], ids[0] + len(ids)) if run else ids)
        return found

    def sample(self, program: Program, generator: torch.Generator) -> dict[Node, torch.Tensor]:
        """Random inputs of which all of this is true."""
        found = {}
        group, axis = self.shared
        pool: torch.Tensor | None = None
        for node in program.inputs:
            shape = list(node.shape or ())
            own = {a: letters for (n, a), letters in self.letters.items() if n is node}
            if node in group:
                shape[axis] = 1 + max((max(self.letters[n, axis], default=0) for n in group), default=0)
                if pool is None:
                    pool = _random(shape, node.dtype, generator)
                value = pool[(slice(None),) * axis + (list(own[axis]),)]
            else:
                value = _random(shape, node.dtype, generator)
            for a, letters in own.items():
                if not letters:
                    continue
                value = value.index_select(a, torch.tensor([letters.index(i) for i in letters]))
                nonzero = torch.tensor([i != 0 for i in letters]).reshape(
                    [-1 if b == a else 1 for b in range(len(shape))]
                )
                value = torch.where(nonzero, value, torch.zeros((), dtype=value.dtype))
            found[node] = value
        return found


def _random(shape: Sequence[int], dtype: torch.dtype | None, generator: torch.Generator) -> torch.Tensor:
    if dtype == torch.bool:
        return torch.rand(tuple(shape), generator=generator) < 0.5
    if dtype is not None and not dtype.is_floating_point:
        return torch.randint(1, 9, tuple(shape), generator=generator, dtype=dtype)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(dtype)


def letters(size: int) -> st.SearchStrategy[tuple[int, ...]]:
    """One letter a slice: a mixture of zeros, repeats and distinct slices, with the common patterns more often."""
    mixed = st.lists(st.integers(0, 2), min_size=size, max_size=size).map(tuple)
    front = st.integers(0, size).map(lambda n: (0,) * n + tuple(range(1, size - n + 1)))
    back = st.integers(0, size).map(lambda n: tuple(range(1, size - n + 1)) + (0,) * n)
    same = st.just((1,) * size)
    reverse = st.just(tuple(range(size, 0, -1)))
    return st.one_of(mixed, front, same, back, reverse)


@st.composite
def knowledge(draw: Any, program: Program, axes: Iterable[int] | None = None) -> Known:
    """Facts of the inputs, along some of the axes (any, if None), sometimes with slices shared by several inputs."""
    known = Known()
    inputs = [n for n in program.inputs if n.rank]
    group: tuple[Node, ...] = ()
    shared = 0
    if len(inputs) > 1 and draw(st.booleans()):
        shared = draw(st.integers(0, inputs[0].rank - 1))
        group = tuple(n for n in inputs if _alike(n, inputs[0], shared))
        if len(group) < 2:
            group = ()
    known.shared = (group, shared)
    for node in inputs:
        for axis, size in enumerate(node.shape or ()):
            if axes is not None and axis not in axes and not (node in group and axis == shared):
                continue
            if node in group and axis != shared:
                if node is group[0] and draw(st.booleans()):
                    pattern = draw(letters(size))
                    known.letters |= {(n, axis): pattern for n in group}
            elif node in group and axis == shared:
                top = draw(st.integers(0, 2))
                known.letters[node, axis] = tuple(0 if i == 0 else i + top for i in draw(letters(size)))
            elif draw(st.booleans()):
                known.letters[node, axis] = draw(letters(size))
    return known


def _alike(a: Node, b: Node, axis: int) -> bool:
    if a.rank != b.rank or a.dtype != b.dtype:
        return False
    return all(i == axis or s == t for i, (s, t) in enumerate(zip(a.shape or (), b.shape or (), strict=True)))


# --- running programs


def run(program: Program, inputs: Mapping[Node, torch.Tensor], wide: bool = False) -> dict[Node, Any]:
    """The value of every node, computed by the operators of the captured graph themselves."""
    values: dict[Node, Any] = {}
    for node in program.nodes:
        if node.op == "input":
            values[node] = widen(inputs[node]) if wide else inputs[node]
        elif node.op == "weight":
            values[node] = widen(program.weights[node]) if wide else program.weights[node]
        else:

            def leaf(value: Any) -> Any:
                found = values[value] if isinstance(value, Node) else value
                return widen(found) if wide else found

            args = transform(node.args, leaf)
            assert node.target is not None
            by_name = isinstance(node.target, torch._ops.OpOverload)
            values[node] = _call(node.target, args) if by_name else node.target(*args.values())
    return values


def _call(target: Any, args: Mapping[str, Any]) -> Any:
    positional = [args[a.name] for a in target._schema.arguments if not a.kwarg_only]
    return target(*positional, **{a.name: args[a.name] for a in target._schema.arguments if a.kwarg_only})


def tolerance(value: torch.Tensor) -> float:
    """How far equal slices of a computed tensor may differ by rounding."""
    if not value.dtype.is_floating_point or not value.numel():
        return 0.0
    finite = torch.where(value.isfinite(), value, torch.zeros_like(value)).double()
    return 1e4 * torch.finfo(value.dtype).eps * (1 + float(finite.abs().max()))


def equal(a: torch.Tensor, b: torch.Tensor, within: float) -> bool:
    """Whether two tensors are equal up to rounding; NaN equals NaN."""
    if a.shape != b.shape:
        return False
    if a.dtype == torch.bool or b.dtype == torch.bool:
        a, b = a.to(torch.int64), b.to(torch.int64)
    return torch.allclose(a.double(), b.double(), rtol=0, atol=within, equal_nan=True)


# --- the properties


def check_facts(program: Program, known: Known | None = None, *, exact: bool = False, samples: int = 2) -> Analysis:
    """No claim that the rooms make of any node is false."""
    known = known or Known()
    analysis = analyse(program, known.given())
    for seed in range(samples):
        inputs = known.sample(program, torch.Generator().manual_seed(seed))
        hold(program, analysis, run(program, inputs), exact)
    return analysis


def hold(program: Program, analysis: Analysis, values: Mapping[Node, Any], exact: bool = False) -> None:
    """Hold every claim against the values."""
    first: dict[int, tuple[torch.Tensor, str, float]] = {}
    for node in program.nodes:
        value = values[node]
        if node.shape is None:
            continue
        sizes = [s if isinstance(s, int) else r for s, r in zip(node.shape, value.shape, strict=True)]
        assert list(value.shape) == sizes, f"{node.op} has shape {tuple(value.shape)}, not {node.shape}"
        facts = analysis.facts.of[node]
        assert len(facts) == value.dim(), f"{node.op}: facts of {len(facts)} axes for rank {value.dim()}"
        within = 0.0 if exact else tolerance(value)
        for axis, slices in enumerate(facts):
            if slices is None:
                continue
            assert len(slices) == value.shape[axis], (
                f"{node.op}: {len(slices)} numbers for axis {axis} of {value.shape}"
            )
            for i, number in enumerate(slices):
                piece, what = value.select(axis, i), f"slice {i} along axis {axis} of {node.name} ({node.op})"
                if number == ZERO:
                    assert not piece.any(), f"{what} is claimed to be zero: {piece.flatten()[:5].tolist()}"
                elif number in first:
                    other, elsewhere, slack = first[number]
                    assert equal(piece, other, max(within, slack)), f"{what} is claimed to equal {elsewhere}"
                else:
                    first[number] = (piece, what, within)


def check_lowering(program: Program, known: Known | None = None, *, samples: int = 1) -> Lowered:
    """The rewritten program computes what the original computes, on tensors that satisfy the declared facts."""
    known = known or Known()
    analysis = analyse(program, known.given())
    for weights in ("shared", "folded"):
        lowered = lower(program, analysis, weights)
        for seed in range(samples):
            inputs = known.sample(program, torch.Generator().manual_seed(seed))
            values = run(program, inputs, wide=True)
            state = {name: c.value(program.weights, wide=True) for name, c in lowered.constants.items()}
            found = run_graph(lowered.graph, {n.name: inputs[n] for n in program.inputs}, state, wide=True)
            for output, new in zip(program.outputs, found, strict=True):
                old = values[output]
                assert new.shape == old.shape, (
                    f"{weights}: {tuple(new.shape)} instead of {tuple(old.shape)}\n{lowered.graph}"
                )
                assert new.dtype == old.dtype, f"{weights}: {new.dtype} instead of {old.dtype}"
                assert equal(new, old, 1e2 * tolerance(old)), f"{weights}: other values\n{lowered.graph}"
    return lowered


def check(program: Program, known: Known | None = None, *, exact: bool = False) -> Analysis:
    """Both properties."""
    analysis = check_facts(program, known, exact=exact)
    check_lowering(program, known)
    return analysis


# --- what is expected to be found


def pattern(slices: Slices | None) -> str | None:
    """Identities with names in order of appearance: '00ab' for two slices of zeros and two different ones.

    None where the size is not known.
    """
    if slices is None:
        return None
    names: dict[int, str] = {ZERO: "0"}
    for number in slices:
        names.setdefault(number, chr(ord("a") + len(names) - 1))
    return "".join(names[number] for number in slices)


def found(function: Callable[..., Any], *given: str | Shape, axis: int = 2, rank: int = 5) -> str | None:
    """The pattern along ``axis`` of the result of a function, for inputs with patterns along it.

    Args:
        function: of as many tensors as there are patterns.
        given: patterns such as '0ab' along ``axis``, or whole shapes.
        axis: the axis looked at.
        rank: of the inputs; the other sizes are 2, 4, 6, 5, 3 in order (4 and 6 channels fit most groupings).
    """
    others = (2, 4, 6, 5, 3)[:rank]
    shapes = [
        tuple(len(g) if a == axis else s for a, s in enumerate(others)) if isinstance(g, str) else g for g in given
    ]
    program = Case("", function, tuple(shapes)).program
    known = Known()
    for node, g in zip(program.inputs, given, strict=True):
        if (isinstance(g, str) and g != "".join(dict.fromkeys(g))) or (isinstance(g, str) and "0" in g):
            known.letters[node, axis] = tuple("0abcdefgh".index(c) for c in g)
    analysis = check_facts(program, known)
    return pattern(analysis.facts.along(program.outputs[0], axis))


# --- between two convolutions of depth 1


class Between(nn.Module):
    """conv3d, an operator, conv3d: what the axis that they drop meets on the way.

    Args:
        op: the operator, a function of one tensor or a module.
        channels: that it makes of 4.
        after: padding of the second convolution.
    """

    def __init__(self, op: Callable[..., Any], channels: int = 4, after: Any = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Conv3d(2, 4, 3, padding=1)
        self.op = op if isinstance(op, nn.Module) else Call(op)
        self.last = nn.Conv3d(channels, 2, 3, padding=after)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))
            for b in self.buffers():
                if b.dtype.is_floating_point:
                    b.copy_(torch.rand(b.shape, generator=generator) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.op(self.first(x))
        return self.last(x)


IMAGE = (2, 2, 1, 7, 6)
"""Batch 2, so that N and D cannot be confused; H ≠ W for the same reason."""


@dataclass
class Form:
    """What a lowered graph consists of.

    Attributes:
        ops: names of the operators, in order, without overloads.
        ranks: rank of every operator's result.
    """

    ops: list[str]
    ranks: list[int]

    @property
    def inside(self) -> list[str]:
        """The operators between the first and the last convolution."""
        places = [i for i, op in enumerate(self.ops) if op.startswith("conv")]
        return self.ops[places[0] + 1 : places[-1]]


def form(program: Program, lowered: Lowered, inputs: Mapping[Node, torch.Tensor]) -> Form:
    """Run a lowered graph and write down what was called, and the ranks of the results."""
    ops, ranks = [], []
    state = {name: c.value(program.weights, wide=True) for name, c in lowered.constants.items()}
    by_name = {n.name: inputs[n] for n in program.inputs}

    class Watch(fx.Interpreter):
        def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
            return widen(by_name[target])

        def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
            return widen(state[target])

        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            value = target(*fx.node.map_aggregate(args, widen), **fx.node.map_aggregate(kwargs, widen))
            if isinstance(value, torch.Tensor):
                ops.append(target.__name__.partition(".")[0] if target is not operator.getitem else "getitem")
                ranks.append(value.dim())
            return value

    Watch(nn.Module(), graph=lowered.graph).run()
    return Form(ops, ranks)


def between(op: Callable[..., Any], channels: int = 4, after: Any = 1) -> Form:
    """Fold ``conv3d → op → conv3d`` at depth 1, check the result, and return the form of the new graph."""
    program = Case("", Between(op, channels, after), (IMAGE,)).program
    check_facts(program)
    check_lowering(program)
    lowered = lower(program, analyse(program), "folded")
    return form(program, lowered, Known().sample(program, torch.Generator().manual_seed(0)))


def assert_flat(made: Form, *inside: str) -> None:
    """Between the convolutions stand exactly these operators, and nothing is of rank 5 but what enters and leaves."""
    assert made.inside == list(inside)
    assert not [op for op in made.ops if op in ("conv3d", "conv_transpose3d")]
    places = [i for i, op in enumerate(made.ops) if op.startswith("conv")]
    assert all(rank <= 4 for rank in made.ranks[places[0] : places[-1] + 1]), list(
        zip(made.ops, made.ranks, strict=True)
    )


# --- operators with sampled arguments, alone and between convolutions


def alone(draw: Any, op: Callable[[Graph, fx.Node], fx.Node], *shape: int, exact: bool = False) -> None:
    """Check an operator on one input of which anything may be known."""
    graph = Graph()
    program = graph.program(op(graph, graph.input(*shape)))
    check(program, draw(knowledge(program)), exact=exact)


def sandwich(draw: Any, op: Callable[[Graph, fx.Node], fx.Node | None], spatial: int | None = None) -> None:
    """Check an operator between two convolutions that drop axes: each reads one slice of its depth, height or width."""
    graph = Graph()
    spatial = spatial or draw(st.sampled_from((3, 3, 2)))
    shape = (2, 2, draw(st.sampled_from((1, 1, 2, 3))), draw(st.sampled_from((4, 1))), draw(st.sampled_from((1, 3))))
    shape = shape[: 2 + spatial]
    x = graph.input(*shape)
    made = op(graph, _small_conv(draw, graph, x))
    if made is None:
        return
    if made.meta["val"].dim() == x.meta["val"].dim() and draw(st.booleans()):
        made = _small_conv(draw, graph, made)
    program = graph.program(made)
    axes = [a for a in range(2, 2 + spatial) if draw(st.booleans())]
    check(program, Known({(program.inputs[0], a): draw(single(shape[a])) for a in axes}))


def single(size: int) -> st.SearchStrategy[tuple[int, ...]]:
    """One slice, repeated, with zeros here and there."""
    return st.lists(st.sampled_from((1, 1, 0)), min_size=size, max_size=size).map(tuple)


def _small_conv(draw: Any, graph: Graph, x: fx.Node) -> fx.Node:
    value = x.meta["val"]
    n = value.dim() - 2
    kernel = draw(st.sampled_from(((1, 1, 1), (3, 1, 1), (1, 3, 1), (3, 3, 1))))[:n]
    weight = torch.randn(2, value.shape[1], *kernel, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    bias = graph.weight(torch.tensor([0.5, -2.0], dtype=torch.float64)) if draw(st.booleans()) else None
    target = {1: aten.conv1d.default, 2: aten.conv2d.default, 3: aten.conv3d.default}[n]
    return graph.call(target, x, graph.weight(weight), bias, [1] * n, [k // 2 for k in kernel])
