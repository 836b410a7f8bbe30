"""torch.export, as flatconv uses it: sizes left free soundly, two captures compared, in-place operators written out."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import sympy
import torch
from torch import fx, nn

from flatconv import ops
from flatconv.gradients import without_autocast

QUIET = ("torch.export", "torch.fx", "torch._export", "torch.__trace", "torch._subclasses.fake_tensor")


def export(module: nn.Module, tensors: Sequence[torch.Tensor], dims: Any) -> torch.export.ExportedProgram:
    """``torch.export`` of a module that takes ``*tensors``.

    Every branch on a free size becomes a condition of the result, on sizes of 0 and 1 too; torch calls this mode
    size-oblivious.

    Args:
        module: called as it is.
        tensors: an example.
        dims: for each tensor, the axes whose sizes stay free; None if none do.
    """
    # Where it fails, torch prints what it had of the graph.
    silent = contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), torch.no_grad(), without_autocast(), quiet(), _oblivious(), silent:
        warnings.simplefilter("ignore")
        shapes = None if dims is None else {"tensors": tuple(dims)}
        return torch.export.export(module, tuple(tensors), dynamic_shapes=shapes, strict=False)


def _oblivious() -> contextlib.AbstractContextManager[None]:
    from torch.fx.experimental import _config

    patch: contextlib.AbstractContextManager[None] = _config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    return patch


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch.export logs what it will raise anyway."""
    loggers = [logging.getLogger(n) for n in QUIET]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


def same_graph(free: fx.Graph, fixed: fx.Graph, example: Sequence[torch.Tensor]) -> bool:
    """Whether two captures call the same operators with the same arguments, free sizes standing for their values."""
    sizes: dict[sympy.Symbol, int] = {}
    users = [n for n in free.nodes if n.op == "placeholder" and isinstance(n.meta.get("val"), torch.Tensor)]
    for node, tensor in zip(users[-len(example) :], example, strict=True):
        for size, value in zip(node.meta["val"].shape, tensor.shape, strict=True):
            if isinstance(size, torch.SymInt) and isinstance(size.node.expr, sympy.Symbol):
                sizes[size.node.expr] = value

    def is_size(node: fx.Node) -> bool:
        return node.op == "call_function" and isinstance(
            node.meta.get("val"), int | torch.SymInt | bool | torch.SymBool
        )

    def number(node: fx.Node) -> Any:
        value = node.meta["val"]
        return value if isinstance(value, int) else value.node.expr.subs(sizes)

    def source(node: fx.Node) -> fx.Node:
        while _whole(node):
            node = node.all_input_nodes[0]
        return node

    left = [n for n in free.nodes if not is_size(n) and not _whole(n)]
    right = [n for n in fixed.nodes if not is_size(n) and not _whole(n)]
    if len(left) != len(right):
        return False
    twin = dict(zip(left, right, strict=True))

    def equal(a: Any, b: Any) -> bool:
        if isinstance(a, fx.Node):
            return (
                number(a) == (number(b) if isinstance(b, fx.Node) else b)
                if is_size(a)
                else twin.get(source(a)) is source(b)
            )
        if isinstance(a, list | tuple):
            return isinstance(b, list | tuple) and len(a) == len(b) and all(map(equal, a, b))
        return type(a) is type(b) and bool(a == b)

    def same_shape(a: fx.Node, b: fx.Node) -> bool:
        x, y = a.meta.get("val"), b.meta.get("val")
        if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor):
            return type(x) is type(y)
        sized = [s if isinstance(s, int) else s.node.expr.subs(sizes) for s in x.shape]
        return x.dtype == y.dtype and sized == list(y.shape)

    for a, b in twin.items():
        if a.op != b.op or (a.op == "call_function" and a.target != b.target) or not same_shape(a, b):
            return False
        if a.kwargs.keys() != b.kwargs.keys() or not equal(list(a.args), list(b.args)):
            return False
        if not all(equal(a.kwargs[k], b.kwargs[k]) for k in a.kwargs):
            return False
    return True


def _whole(node: fx.Node) -> bool:
    """A slice that takes everything, spelled as one where the size is free and as an alias where it is not."""
    if node.target == torch.ops.aten.alias.default:
        return True
    ends = (*node.args[2:4], None, None)[:2] if node.target == torch.ops.aten.slice.Tensor else (1, 1)
    return ends[0] in (None, 0) and ends[1] in (None, 2**63 - 1) and len(node.args) < 5


def user_inputs(exported: torch.export.ExportedProgram) -> list[fx.Node]:
    """The placeholders of the call's own tensors, in order."""
    nodes = {n.name: n for n in exported.graph.nodes if n.op == "placeholder"}
    return [nodes[s.arg.name] for s in exported.graph_signature.input_specs if s.kind.name == "USER_INPUT"]


def allow_one(exported: torch.export.ExportedProgram, refused: Sequence[bool]) -> None:
    """Let a batch of one through, where it is known that the program is the same for it.

    Some operators look at it while they are traced (attention chooses its kernel), and torch makes a condition of that.

    Args:
        exported: with its tensors in one argument ``tensors``.
        refused: for each tensor, whether its batch may not be one.
    """
    from torch.utils._sympy.value_ranges import ValueRanges

    for i, (node, never) in enumerate(zip(user_inputs(exported), refused, strict=True)):
        size = node.meta["val"].shape[0] if node.meta["val"].dim() else 1
        if never or not isinstance(size, torch.SymInt) or not isinstance(size.node.expr, sympy.Symbol):
            continue
        bounds = exported.range_constraints.get(size.node.expr)
        if bounds is not None and bounds.lower == 2:
            exported.range_constraints[size.node.expr] = ValueRanges(1, bounds.upper)
        condition = f"L['tensors'][{i}].size()[0] > 1"
        exported._guards_code = [c for c in getattr(exported, "_guards_code", None) or [] if c != condition]


def squeezed(exported: torch.export.ExportedProgram) -> list[str]:
    """Conditions that torch.export does not leave: a free size that a squeeze looks at is not 1.

    The captured graph keeps such an axis, and the model itself would remove it.

    Returns:
        Python over ``s[input][axis]``.
    """
    from torch.utils._sympy.printers import PythonPrinter

    names: dict[sympy.Symbol, sympy.Symbol] = {}
    for i, node in enumerate(user_inputs(exported)):
        value = node.meta.get("val")
        for axis, size in enumerate(value.shape if isinstance(value, torch.Tensor) else ()):
            if isinstance(size, torch.SymInt) and isinstance(size.node.expr, sympy.Symbol):
                names.setdefault(size.node.expr, sympy.Symbol(f"s[{i}][{axis}]", integer=True, positive=True))
    found: dict[str, None] = {}
    for node in exported.graph.nodes:
        if node.op != "call_function" or "squeeze" not in str(node.target) or "unsqueeze" in str(node.target):
            continue
        shape = node.args[0].meta["val"].shape
        given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", list(range(len(shape))))
        for axis in given if isinstance(given, list | tuple) else [given]:
            if isinstance(axis, int) and shape and isinstance(shape[axis], torch.SymInt):
                found[f"{PythonPrinter().doprint(shape[axis].node.expr.xreplace(names))} != 1"] = None
    return list(found)


def functional(exported: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Without in-place operators, so that no later line changes a slice behind a fact.

    Views of unknown spelling are written out by torch in the same pass, which costs as much as the capture itself, so it
    is done only where something asks for it.
    """
    for node in exported.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            if isinstance(node.target, torch._ops.HigherOrderOperator):
                return _decompose(exported)
            continue
        if node.target._schema.is_mutable and node.op == "call_function":
            return _decompose(exported)
        composite = torch._C._dispatch_has_kernel_for_dispatch_key(node.target._name, "CompositeImplicitAutograd")
        if composite and node.target.namespace == "aten" and not ops.spelled(str(node.target)):
            return _decompose(exported)
    return exported


def _decompose(exported: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    with warnings.catch_warnings(), without_autocast(), quiet(), _oblivious():
        warnings.simplefilter("ignore")
        functional: torch.export.ExportedProgram = exported.run_decompositions({})
        return functional
