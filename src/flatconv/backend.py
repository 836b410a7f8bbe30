"""``torch.compile(model, backend="flatconv")``: every graph that Dynamo finds is folded, verified, and handed to Inductor.

    compiled = torch.compile(model, backend="flatconv")
    compiled = torch.compile(model, backend="flatconv", options={"report": print})

Dynamo guards the shapes, flags and types that a graph was made for, so a graph is folded for exactly these; sizes that it
leaves free must be free in the fold too. Weights are inputs of such a graph: they are reduced in it on every call, gradients
reach them, and nothing goes stale. A graph that cannot be folded is compiled as it is. Options beside ``report`` and ``verify``
go to Inductor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from flatconv import gradients
from flatconv.errors import FlatconvError, RefusedError, VerificationError, first_line
from flatconv.fold import fold
from flatconv.guards import holds
from flatconv.modelstate import Declared
from flatconv.module import Folded
from flatconv.state import as_module

log = logging.getLogger("flatconv")
Compiled = Callable[..., Any]


def backend(
    graph: fx.GraphModule, inputs: Sequence[Any], *, options: Mapping[str, Any] | None = None, **more: Any
) -> Compiled:
    """Compile one graph of Dynamo.

    Args:
        graph: of torch functions.
        inputs: what it is called with: tensors, fake ones mostly, and free sizes.
        options: ``report``: is called with the report of each fold, or with the reason why there is none. ``verify=False``
            leaves out the comparison of each fold with its graph. All others are Inductor's.
        more: what else torch.compile passes on, for Inductor.

    Returns:
        The compiled graph, called as the graph is.

    Raises:
        VerificationError: a fold is wrong.
    """
    from torch._inductor import compile_fx as inductor

    compile_fx: Any = inductor.compile_fx
    rest = dict(options or {})
    report, verify = rest.pop("report", None), rest.pop("verify", True)
    patches: dict[str, Any] = {"config_patches": rest} if rest else {}
    try:
        flat = _folded(graph, inputs, verify)
    except VerificationError:
        raise
    except Exception as e:
        why = str(e) if isinstance(e, FlatconvError) else f"{type(e).__name__}: {first_line(e)}"
        log.info("a graph of %d operators is compiled as it is: %s", len(graph.graph.nodes), why)
        if report is not None:
            report(why)
        compiled: Compiled = compile_fx(graph, list(inputs), **patches)
        return compiled
    log.info("a graph of %d operators is folded", len(graph.graph.nodes))
    if report is not None:
        report(flat.report)
    state = dict(flat.named_parameters()) | dict(flat.named_buffers())
    module = as_module(flat.graph, lambda name: state[name].detach())
    _take_sizes(module, inputs)
    made: Compiled = compile_fx(module, list(inputs), **patches)
    return made


def _placeholders(module: fx.GraphModule) -> list[fx.Node]:
    return [n for n in module.graph.nodes if n.op == "placeholder"]


def _take_sizes(module: fx.GraphModule, inputs: Sequence[Any]) -> None:
    """Let a program of tensors take the free sizes too that stand between them, which it reads off the tensors."""
    left = iter(_placeholders(module))
    before = next(left)
    for i, given in enumerate(inputs):
        if isinstance(given, torch.SymInt):
            with module.graph.inserting_before(before):
                module.graph.placeholder(f"size_{i}")
        else:
            before = next(left, before.next)
    module.recompile()


def _folded(graph: fx.GraphModule, inputs: Sequence[Any], verify: bool) -> Folded:
    """The fold of a graph.

    Raises:
        RefusedError: it cannot be folded, or nothing would be gained.
    """
    outputs = graph.graph.output_node().args[0]
    for node in outputs if isinstance(outputs, list | tuple) else [outputs]:
        value = node.meta.get("example_value") if isinstance(node, fx.Node) else None
        if not isinstance(value, torch.Tensor):
            raise RefusedError("the graph returns something that is no tensor")
    if not _volumes(graph):
        raise RefusedError("there is no convolution over three axes in it")
    # What Dynamo notes of its inputs has free sizes where the tensors of the call have numbers.
    inputs = [n.meta.get("example_value", i) for n, i in zip(_placeholders(graph), inputs, strict=True)]
    tensors = [i for i in inputs if isinstance(i, torch.Tensor)]
    places = [_place(i, tensors) if isinstance(i, torch.SymInt) else None for i in inputs]
    if not all(isinstance(i, torch.Tensor | torch.SymInt) for i in inputs):
        raise RefusedError("the graph takes something that is no tensor")
    free = any(isinstance(s, torch.SymInt) for t in tensors for s in t.shape)
    with torch._guards.tracing(None):  # what follows is no part of Dynamo's own tracing
        example = tuple(_real(t) for t in tensors)
        fixed = frozenset(
            (i, a) for i, t in enumerate(tensors) for a, s in enumerate(t.shape) if not isinstance(s, torch.SymInt)
        )
        flat = fold(_Graph(graph, places, fixed), example, dynamic="auto" if free else False, tune=False, verify=verify)
    _check_free(flat, tensors)
    if not any(site.rule for site in flat.report.sites):
        raise RefusedError("nothing in it can be folded")
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        if free:
            raise RefusedError(
                "Inductor cannot order symbolic strides of the gradient of its two-dimensional convolutions"
            )
        _check_backward(graph, flat)
    return flat


def _check_backward(graph: fx.GraphModule, flat: Folded) -> None:
    """Refuse graphs whose gradients a fold does not have, and what Inductor fails on as of torch 2.13.

    The layout that it expects of the gradient of such a pad is not the one that it gets.

    Raises:
        RefusedError: naming what it is.
    """
    for node in graph.graph.nodes:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        if node.op in ("call_function", "call_method") and (name in gradients.NAMES or "autograd_function" in name):
            raise RefusedError(f"it does something to gradients that a program of its values does not show ({name})")
    for node in flat.graph.nodes:
        if (
            node.target == torch.ops.aten.pad.default
            and len(node.args) > 2
            and node.args[2] in ("replicate", "reflect")
        ):
            raise RefusedError(f"Inductor fails on the gradient of a {node.args[2]} pad in two dimensions")


def _place(size: torch.SymInt, tensors: Sequence[torch.Tensor]) -> tuple[int, int]:
    """The tensor and the axis that have a free size.

    Raises:
        RefusedError: it is the size of none.
    """
    for i, tensor in enumerate(tensors):
        for axis, own in enumerate(tensor.shape):
            if isinstance(own, torch.SymInt) and own.node.expr == size.node.expr:
                return i, axis
    raise RefusedError(f"the graph takes a free size ({size}) that no tensor has")


def _check_free(flat: Folded, tensors: Sequence[torch.Tensor]) -> None:
    """Refuse a fold that holds for fewer sizes than Dynamo lets through: nobody would notice the others.

    Raises:
        RefusedError: naming the axis, or the condition.
    """
    for guard, tensor in zip(flat.guards.inputs, tensors, strict=True):
        for axis, (own, size) in enumerate(zip(tensor.shape, guard.shape, strict=True)):
            if not isinstance(own, torch.SymInt):
                continue
            least, most = guard.ranges[axis]
            bounds = own.node.shape_env.bound_sympy(own.node.expr)
            if size is not None or bounds.lower < least or (most is not None and bounds.upper > most):
                raise RefusedError(
                    f"{guard.name}.shape[{axis}] is free in the graph, and a fold is only for some of its sizes"
                )
    # Axes that have one symbol in Dynamo are as long as each other; nothing else is known of them.
    given = [tuple(s.node.expr if isinstance(s, torch.SymInt) else s for s in t.shape) for t in tensors]
    broken = [c for c in flat.guards.conditions if not _known(c, given)]
    if broken:
        raise RefusedError(
            f"the fold is for sizes of which {flat.guards.words(broken[0])}, and Dynamo leaves them free"
        )


def _known(condition: str, sizes: Sequence[tuple[Any, ...]]) -> bool:
    """Whether a condition is true whatever the symbols stand for."""
    try:
        return holds(condition, sizes)
    except TypeError:  # it depends on them
        return False


def _volumes(graph: fx.GraphModule) -> bool:
    """Whether a convolution of the graph gets a weight of rank five."""
    for node in graph.graph.nodes:
        if "conv" not in str(node.target).lower():
            continue
        for given in node.all_input_nodes:
            value = given.meta.get("example_value")
            if isinstance(value, torch.Tensor) and value.dim() == 5:
                return True
    return False


def _real(fake: torch.Tensor) -> torch.Tensor:
    """Random values in the place of a tensor without any; small whole numbers where it holds whole ones."""
    noise = torch.Generator().manual_seed(0)
    sizes, strides = ([_hint(s) for s in held] for held in (fake.shape, fake.stride()))
    if fake.dtype.is_floating_point:
        made = torch.rand(sizes, generator=noise).to(fake.dtype)  # positive, since it may be a variance
    elif fake.dtype == torch.bool:
        made = torch.randint(0, 2, sizes, generator=noise).bool()
    elif fake.dtype.is_complex:
        raise RefusedError("the graph takes a complex tensor")
    else:
        made = torch.randint(0, 2, sizes, generator=noise).to(fake.dtype)
    # In the order in memory of the real one, which operators look at.
    return torch.empty_strided(sizes, strides, dtype=fake.dtype, device=fake.device).copy_(made)


def _hint(size: int | torch.SymInt) -> int:
    """A size as it is in the call that is being compiled; asking a free one itself would fix it."""
    return int(size.node.hint) if isinstance(size, torch.SymInt) else size


class _Graph(Declared):
    """A graph as a module whose call names its tensors, and which finds free sizes in their shapes."""

    def __init__(
        self, graph: fx.GraphModule, places: Sequence[tuple[int, int] | None], fixed: frozenset[tuple[int, int]]
    ) -> None:
        super().__init__()
        self.fixed_axes = fixed
        self.graph_module = graph
        self.places = tuple(places)
        self.eval()

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The graph's outputs."""
        left = iter(tensors)
        given = [next(left) if place is None else tensors[place[0]].shape[place[1]] for place in self.places]
        found = self.graph_module(*given)
        return tuple(found) if isinstance(found, list | tuple) else (found,)
