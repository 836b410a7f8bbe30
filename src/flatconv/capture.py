"""From a model and an example call to a functional program.

The model is captured with ``torch.export`` as a function of its tensor inputs. Batch, height and width stay free where
the model allows it. Every branch that the captured code takes on a free size is recorded by torch as a condition, and is
checked on every call of the folded model.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import fx, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from flatconv import ops
from flatconv.errors import InputError, RefusedError
from flatconv.guards import Guards, InputGuard, holds, safe, translate
from flatconv.program import Program, build
from flatconv.signature import Adapter, Inputs, Outputs

AUTO = torch.export.Dim.AUTO
PREFIX = "model."
QUIET = ("torch.export", "torch.fx", "torch._export", "torch.__trace", "torch._subclasses.fake_tensor")
OLDEST_TORCH = (2, 10)


@dataclass
class Capture:
    """A captured model.

    Attributes:
        model: the original.
        method: the method captured.
        program: its functional graph.
        inputs: form of the call.
        outputs: form of the result.
        guards: what the graph assumes of its inputs.
        example: the tensors of the user's example call.
        graph: the functional graph as torch.export made it, to run the original in other types.
        weights: tensor of every weight placeholder of ``graph``, by placeholder name.
        seconds: wall time of torch.export, for reports.
        notes: what did not stay free, and why.
    """

    model: nn.Module
    method: str
    program: Program
    inputs: Inputs
    outputs: Outputs
    guards: Guards
    example: list[torch.Tensor]
    graph: fx.GraphModule
    weights: dict[str, torch.Tensor]
    seconds: float
    notes: tuple[str, ...] = ()


def capture(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    method: str = "forward",
    dynamic: str | bool = "auto",
) -> Capture:
    """Capture ``model.method(*args, **kwargs)``.

    Raises:
        InputError: the arguments do not fit.
        RefusedError: torch.export cannot capture the model, or its state makes an exact rewrite impossible.
    """
    require_torch(torch.__version__)
    _check_model(model, method)
    called = model.forward if method == "forward" else getattr(model, method)
    inputs, example = Inputs.read(called, _as_args(args), kwargs or {})
    _check_tensors(model, example, inputs)
    started = time.perf_counter()
    exported, outputs, used, notes = _export(model, method, inputs, example, dynamic)
    seconds = time.perf_counter() - started
    exported = _functional(exported)
    _check_mutation(exported)
    guards = _guards(exported, inputs, example, used)
    weights, names, fixed = _weights(exported, model)
    program = build(exported.graph, weights, names, fixed, _module_path)
    return Capture(
        model, method, program, inputs, outputs, guards, example, exported.graph_module, weights, seconds, tuple(notes)
    )


def require_torch(version: str) -> None:
    """Refuse a torch that is too old to leave sizes free soundly.

    Raises:
        InputError: older than 2.10.
    """
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise InputError(
            f"this is torch {version}, and flatconv needs {oldest} or newer: pip install 'torch>={oldest}'"
        )


def _as_args(args: Any) -> tuple[Any, ...]:
    return (args,) if isinstance(args, torch.Tensor) else tuple(args)


def _check_model(model: Any, method: str) -> None:
    if isinstance(model, torch.jit.ScriptModule):
        raise RefusedError(
            f"{type(model).__name__} is a TorchScript module, whose code torch.export cannot read: "
            "build the model from its Python source and load the weights into it"
        )
    if not isinstance(model, nn.Module):
        raise InputError(f"a torch.nn.Module is needed, not {type(model).__name__}")
    if not callable(getattr(model, method, None)):
        methods = [n for n in dir(model) if n in ("encode", "decode", "forward", "_encode", "_decode")]
        raise InputError(f"{type(model).__name__} has no method '{method}'; it has {', '.join(methods)}")


def _check_tensors(model: nn.Module, example: Sequence[torch.Tensor], inputs: Inputs) -> None:
    for name, tensor in (
        *((f"input '{n}'", t) for n, t in zip(inputs.names, example, strict=True)),
        *((f"'{n}'", t) for n, t in itertools.chain(model.named_parameters(), model.named_buffers())),
    ):
        if isinstance(tensor, UninitializedTensorMixin):
            raise RefusedError(f"{name} is lazy and has no shape yet: call the model once before folding")
        if tensor.is_quantized or tensor.layout != torch.strided or tensor.is_complex():
            kind = "quantised" if tensor.is_quantized else "complex" if tensor.is_complex() else str(tensor.layout)
            raise RefusedError(f"{name} is {kind}; only dense real tensors can be folded: convert it first")
    for path, module in model.named_modules():
        if type(module).__module__.startswith(("torch.ao.nn.quantized", "torch.nn.quantized")):
            raise RefusedError(f"'{path}' is a quantised {type(module).__name__}: fold the model before quantising it")


def _check_runs(model: nn.Module, method: str, inputs: Inputs, example: Sequence[torch.Tensor]) -> None:
    """Run the example once after a failed capture, so that a wrong shape is reported by the model and not by torch.export."""
    called = model.forward if method == "forward" else getattr(model, method)
    args, kwargs = inputs.arguments(example)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _unchanged(model):
            called(*args, **kwargs)
    except Exception as e:
        shapes = ", ".join(f"{n} {tuple(t.shape)} {t.dtype}" for n, t in zip(inputs.names, example, strict=True))
        raise InputError(
            f"the model itself fails on the example call ({shapes}): {type(e).__name__}: {_first_lines(e)}. "
            "Pass an example that the model accepts"
        ) from e


@contextlib.contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Put buffers back that a call in train mode would update."""
    saved = {n: b.detach().clone() for n, b in model.named_buffers()} if model.training else {}
    yield
    with torch.no_grad():
        for n, b in model.named_buffers():
            if n in saved:
                b.copy_(saved[n])


def _first_lines(error: BaseException, count: int = 3) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:count])[:500]


def _export(
    model: nn.Module, method: str, inputs: Inputs, example: list[torch.Tensor], dynamic: str | bool
) -> tuple[torch.export.ExportedProgram, Outputs, list[torch.Tensor], list[str]]:
    notes: list[str] = []
    if dynamic not in ("auto", True, False):
        raise InputError(f"dynamic is {dynamic!r}; it may be 'auto', True (the same) or False")
    sized = [t.dim() > 0 for t in example]
    attempts: list[tuple[str, list[torch.Tensor], list[dict[int, Any]]]] = []
    if dynamic:
        space = [{t.dim() - 2: AUTO, t.dim() - 1: AUTO} if t.dim() >= 4 else {} for t in example]
        # torch treats a size of 1 as fixed, so a batch of one is doubled to leave the batch free.
        doubled = [torch.cat([t, t]) if s and t.shape[0] == 1 else t for s, t in zip(sized, example, strict=True)]
        attempts.append(
            ("batch, height and width", doubled, [d | {0: AUTO} if s else d for s, d in zip(sized, space, strict=True)])
        )
        attempts.append(("height and width", example, space))
        attempts.append(("batch", doubled, [{0: AUTO} if s else {} for s in sized]))
    for free, tensors, dims in attempts:
        outputs = Outputs()
        try:
            exported = export(Adapter(model, method, inputs, outputs), tensors, dims)
        except RefusedError:
            raise
        except Exception as e:
            if not notes:
                _check_runs(model, method, inputs, example)
            notes.append(f"{free} could not stay free: {type(e).__name__}: {_first_lines(e, 1)[:200]}")
            continue
        entangled = _entangled(exported)
        if entangled:
            notes.append(f"{free} could not stay free: {entangled}")
            continue
        broken = _broken(exported, example)
        if not broken:
            return exported, outputs, example, notes
        batch_only = all(a == "0" for c in broken for a in _axes(c))
        if batch_only and tensors is doubled and _same_at(model, method, inputs, example, exported):
            return exported, outputs, example, notes
        notes.append(f"{free} could not stay free: the model takes another path for the example's own sizes")
    outputs = Outputs()
    try:
        return export(Adapter(model, method, inputs, outputs), example, None), outputs, example, notes
    except RefusedError:
        raise
    except Exception as e:
        _check_runs(model, method, inputs, example)
        raise RefusedError(
            f"{type(model).__name__}.{method} cannot be captured by torch.export: {type(e).__name__}: {_first_lines(e)}. "
            "Data-dependent shapes or branches are the usual reason: fold the submodule that holds the convolutions instead"
        ) from e


def _entangled(exported: torch.export.ExportedProgram) -> str | None:
    """Whether a convolution's own parameters depend on a free size, as when channels lie on the last axis."""
    for node in exported.graph.nodes:
        if "aten.conv" in str(node.target):
            flat = [a for arg in node.args[3:] for a in (arg if isinstance(arg, list | tuple) else [arg])]
            if any(isinstance(a, fx.Node) for a in flat):
                return f"the channels of {_module_path(node) or node.name} would change with it"
    return None


def _axes(condition: str) -> list[str]:
    return re.findall(r"s\[\d+\]\[(\d+)\]", condition)


def export(module: nn.Module, tensors: Sequence[torch.Tensor], dims: Any) -> torch.export.ExportedProgram:
    """``torch.export`` of a module that takes ``*tensors``.

    Every branch on a free size becomes a condition of the result, on sizes of 0 and 1 too; torch calls this mode
    size-oblivious.

    Args:
        module: called as it is.
        tensors: an example.
        dims: for each tensor, the axes whose sizes stay free; None if none do.
    """
    from torch.fx.experimental import _config

    oblivious = _config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with warnings.catch_warnings(), torch.no_grad(), _quiet(), oblivious:
        warnings.simplefilter("ignore")
        shapes = None if dims is None else {"tensors": tuple(dims)}
        return torch.export.export(module, tuple(tensors), dynamic_shapes=shapes, strict=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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


def _conditions(exported: torch.export.ExportedProgram) -> list[str]:
    return [translate(c) for c in getattr(exported, "_guards_code", None) or []]


def _broken(exported: torch.export.ExportedProgram, example: Sequence[torch.Tensor]) -> list[str]:
    sizes = [tuple(t.shape) for t in example]
    conditions = _conditions(exported)
    unreadable = [c for c in conditions if not safe(c)]
    return unreadable or [c for c in conditions if not holds(c, sizes)]


def _same_at(
    model: nn.Module, method: str, inputs: Inputs, example: list[torch.Tensor], exported: torch.export.ExportedProgram
) -> bool:
    """Whether capturing at the example's own sizes gives the same graph, so that a broken condition decides nothing."""
    try:
        fixed = export(Adapter(model, method, inputs, Outputs()), example, None)
    except Exception:
        return False
    return same_graph(exported.graph, fixed.graph, example)


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

    for a, b in twin.items():
        if a.op != b.op or (a.op == "call_function" and a.target != b.target):
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


def _functional(exported: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
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
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        functional: torch.export.ExportedProgram = exported.run_decompositions({})
        return functional


def _check_mutation(exported: torch.export.ExportedProgram) -> None:
    signature = exported.graph_signature
    changed = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if changed:
        names = ", ".join(str(c).removeprefix(PREFIX) for c in changed[:3])
        raise RefusedError(
            f"a call changes {names}{' and more' if len(changed) > 3 else ''} in place (batch norm in train mode does): "
            "call model.eval() first, or fold the part that changes nothing"
        )
    for node in exported.graph.nodes:
        if node.op == "call_function" and isinstance(node.target, torch._ops.HigherOrderOperator):
            raise RefusedError(
                f"the model uses {node.target} (control flow, autocast or another mode around part of it): "
                "fold a submodule without it"
            )
        random = isinstance(node.target, torch._ops.OpOverload) and (
            torch.Tag.nondeterministic_seeded in node.target.tags
            and node.kwargs.get("train", node.args[2] if len(node.args) > 2 else True) is not False
            and "attention" not in str(node.target)
        )
        if random:
            raise RefusedError(
                f"{_module_path(node) or 'the model'} draws random numbers ({node.target}), so a rewrite cannot be "
                "compared with it: call model.eval() first, or pass the noise in as an input"
            )


def _guards(
    exported: torch.export.ExportedProgram,
    inputs: Inputs,
    example: Sequence[torch.Tensor],
    used: Sequence[torch.Tensor],
) -> Guards:
    names = [s.arg.name for s in exported.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    nodes = {n.name: n for n in exported.graph.nodes if n.op == "placeholder"}
    found = []
    for label, name, tensor in zip(inputs.names, names, example, strict=True):
        shape: list[int | None] = []
        ranges: list[tuple[int, int | None]] = []
        for size, given in zip(nodes[name].meta["val"].shape, tensor.shape, strict=True):
            if isinstance(size, int) or not isinstance(size.node.expr, sympy.Symbol):
                shape.append(given)
                ranges.append((given, given))
                continue
            bounds = exported.range_constraints.get(size.node.expr)
            # 2 is where torch starts when it leaves a size free; sizes of 1 are as good unless a condition says no.
            least = int(bounds.lower) if bounds is not None and bounds.lower.is_Integer else 0
            most = int(bounds.upper) if bounds is not None and bounds.upper.is_Integer else None
            shape.append(None)
            ranges.append((min(least, given) if least <= 2 else least, most))
        found.append(InputGuard(label, tuple(shape), tensor.dtype, tuple(ranges)))
    sizes = [tuple(t.shape) for t in example]
    # Conditions on the batch alone that the example itself does not meet decide nothing: see _same_at.
    conditions = dict.fromkeys(c for c in _conditions(exported) if holds(c, sizes) and c != "True")
    return Guards(tuple(found), tuple(conditions))


def _weights(
    exported: torch.export.ExportedProgram, model: nn.Module
) -> tuple[dict[str, torch.Tensor], dict[str, str], frozenset[str]]:
    """The tensors behind the placeholders, under the names that the model itself gives them."""
    own: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    own |= dict(model.named_buffers(remove_duplicate=False))
    by_place = {(t.data_ptr(), t.shape, t.stride(), t.dtype): n for n, t in own.items() if t.numel()}
    tensors: dict[str, torch.Tensor] = {}
    names: dict[str, str] = {}
    fixed: set[str] = set()
    for spec in exported.graph_signature.input_specs:
        if spec.kind.name not in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR") or spec.target is None:
            if spec.kind.name not in ("USER_INPUT",):
                raise RefusedError(
                    f"the model captures a {spec.kind.name.lower()} ({spec.target}), which cannot be folded"
                )
            continue
        placeholder, name = spec.arg.name, spec.target.removeprefix(PREFIX)
        held = exported.state_dict.get(spec.target, exported.constants.get(spec.target))
        if name in own and spec.kind.name != "CONSTANT_TENSOR":
            tensors[placeholder], names[placeholder] = own[name], name
            continue
        if not isinstance(held, torch.Tensor):
            raise RefusedError(f"the captured constant {spec.target} is not a tensor")
        # Some frameworks hand raw tensors to the graph: they are found again among the parameters by where they lie.
        original = by_place.get((held.data_ptr(), held.shape, held.stride(), held.dtype)) if held.numel() else None
        tensors[placeholder] = own[original] if original else held
        names[placeholder] = original or name
        if original is None:
            fixed.add(placeholder)
    return tensors, names, frozenset(fixed)


def _module_path(node: fx.Node) -> str:
    """Where in the model a node was made, as ``named_modules`` words it."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [p for p, _ in stack.values()]
    path = paths[-1] if paths else ""
    return path.removeprefix("model").removeprefix(".")
