"""From a model and an example call to a functional program.

The model is captured with ``torch.export`` as a function of its tensor inputs. Batch, height and width stay free where
the model allows it. Every branch that the captured code takes on a free size is recorded by torch as a condition, and is
checked on every call of the folded model.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import fx, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from flatconv.errors import InputError, RefusedError
from flatconv.exporting import export, functional, same_graph
from flatconv.guards import Guards, InputGuard, holds, safe, translate
from flatconv.program import Program, build
from flatconv.signature import Adapter, Inputs, Outputs

AUTO = torch.export.Dim.AUTO
PREFIX = "model."
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
    with torch.random.fork_rng(devices=[]):
        exported, outputs, one, notes = _export(model, method, inputs, example, dynamic)
    seconds = time.perf_counter() - started
    written = _conditions(exported)  # before anything is written out, which words them anew
    exported = functional(exported)
    _check_mutation(exported, inputs)
    _check_sizes(exported, f"{type(model).__name__}.{method}")
    guards = _guards(exported, written, inputs, example, one)
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
    args, kwargs = inputs.arguments([t.clone() for t in example])
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
    """Put buffers back that a call updates."""
    saved = {n: b.detach().clone() for n, b in model.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for n, b in model.named_buffers():
                if n in saved and b.shape == saved[n].shape:
                    b.copy_(saved[n])


def _first_lines(error: BaseException, count: int = 3) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:count])[:500]


def _export(
    model: nn.Module, method: str, inputs: Inputs, example: list[torch.Tensor], dynamic: str | bool
) -> tuple[torch.export.ExportedProgram, Outputs, bool, list[str]]:
    """The exported program, the form of its results, whether a batch of one was tried beside two, and remarks."""
    notes: list[str] = []
    if dynamic not in ("auto", True, False):
        raise InputError(f"dynamic is {dynamic!r}; it may be 'auto', True (the same) or False")
    sized = [t.dim() > 0 for t in example]
    attempts: list[tuple[str, list[torch.Tensor], list[dict[int, Any]]]] = []
    if dynamic:
        # A size of 1 is a fact worth more than its freedom.
        places = [(t.dim() - 2, t.dim() - 1) if t.dim() >= 4 else () for t in example]
        space = [{a: AUTO for a in p if t.shape[a] != 1} for p, t in zip(places, example, strict=True)]
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
        one = tensors is doubled and any(a.shape != b.shape for a, b in zip(doubled, example, strict=True))
        # A batch of one may take another path than the two that were captured, and not every operator (squeeze, say) leaves
        # a condition that tells. Both captures are compared; if they are alike, conditions on the batch decide nothing.
        # A condition that cannot be read is never taken to be harmless.
        harmless = all(safe(c) and set(_axes(c)) == {"0"} for c in broken)
        if one and harmless and _same_at(model, method, inputs, example, exported):
            return exported, outputs, True, notes
        if not one and not broken:
            single = _batch_of_one(exported, example)
            return exported, outputs, bool(single) and _same_at(model, method, inputs, single, exported), notes
        notes.append(f"{free} could not stay free: the model takes another path for the example's own sizes")
    outputs = Outputs()
    try:
        return export(Adapter(model, method, inputs, outputs), example, None), outputs, False, notes
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


def _batch_of_one(exported: torch.export.ExportedProgram, example: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The example with a batch of one; empty if the batch is fixed."""
    names = [s.arg.name for s in exported.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    nodes = {n.name: n for n in exported.graph.nodes if n.op == "placeholder"}
    free = [
        bool(t.dim()) and not isinstance(nodes[n].meta["val"].shape[0], int)
        for n, t in zip(names, example, strict=True)
    ]
    return [t[:1] if f else t for f, t in zip(free, example, strict=True)] if any(free) else []


def _axes(condition: str) -> list[str]:
    return re.findall(r"s\[\d+\]\[(\d+)\]", condition)


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


def _check_mutation(exported: torch.export.ExportedProgram, inputs: Inputs) -> None:
    signature = exported.graph_signature
    changed = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if changed:
        given = {f"tensors_{i}": n for i, n in enumerate(inputs.names)}
        names = ", ".join(given.get(str(c), str(c)).removeprefix(PREFIX) for c in changed[:3])
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


def _check_sizes(exported: torch.export.ExportedProgram, called: str) -> None:
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    for node in exported.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and free_unbacked_symbols(value.shape):
            raise RefusedError(
                f"{called} cannot be captured by torch.export with known sizes: {_module_path(node) or 'it'} makes a tensor "
                f"whose size depends on the data ({node.target}): fold the submodule that holds the convolutions instead"
            )


def _guards(
    exported: torch.export.ExportedProgram,
    written: Sequence[str],
    inputs: Inputs,
    example: Sequence[torch.Tensor],
    one: bool,
) -> Guards:
    names = [s.arg.name for s in exported.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    nodes = {n.name: n for n in exported.graph.nodes if n.op == "placeholder"}
    found = []
    for label, name, tensor in zip(inputs.names, names, example, strict=True):
        shape: list[int | None] = []
        ranges: list[tuple[int, int | None]] = []
        for axis, (size, given) in enumerate(zip(nodes[name].meta["val"].shape, tensor.shape, strict=True)):
            if isinstance(size, int) or not isinstance(size.node.expr, sympy.Symbol):
                shape.append(given)
                ranges.append((given, given))
                continue
            bounds = exported.range_constraints.get(size.node.expr)
            least = int(bounds.lower) if bounds is not None and bounds.lower.is_Integer else 0
            most = int(bounds.upper) if bounds is not None and bounds.upper.is_Integer else None
            # Operators treat a size of 1 in their own way: it is allowed only where it was captured too.
            least = (min(least, 1) if least <= 2 else least) if one and axis == 0 else max(least, 2)
            shape.append(None)
            ranges.append((least, most))
        found.append(InputGuard(label, tuple(shape), tensor.dtype, tuple(ranges)))
    sizes = [tuple(t.shape) for t in example]
    # Conditions on the batch alone that the example itself does not meet decide nothing: see _same_at.
    conditions = dict.fromkeys(c for c in written if holds(c, sizes) and c != "True")
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
