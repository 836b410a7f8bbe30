"""From a model and an example call to a functional program.

The model is captured with ``torch.export`` as a function of its tensor inputs. Batch, height and width stay free where
the model allows it. Every branch that the captured code takes on a free size is recorded by torch as a condition, and is
checked on every call of the folded model.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import fx, nn

from flatconv.acceptance import (
    PREFIX,
    check_model,
    check_mutation,
    check_sizes,
    check_tensors,
    module_path,
    require_torch,
)
from flatconv.assume import Assumed, declared_facts, resolve
from flatconv.errors import InputError, RefusedError
from flatconv.exporting import export, functional, same_graph
from flatconv.facts import Slices
from flatconv.guards import Guards, InputGuard, holds, safe, translate
from flatconv.modelstate import Modes, unchanged
from flatconv.program import Node, Program, build
from flatconv.signature import Adapter, Inputs, Outputs

AUTO = torch.export.Dim.AUTO


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
        modes: modules that looked at their train or eval mode, with what they found.
        assumed: what was declared of the inputs.
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
    modes: Mapping[str, bool]
    assumed: tuple[Assumed, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def given(self) -> dict[tuple[Node, int], Slices]:
        """The declared facts, as ``analyse`` takes them."""
        return declared_facts(self.assumed, self.program)


def capture(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    method: str = "forward",
    dynamic: str | bool = "auto",
    assume: Mapping[str, Any] | None = None,
) -> Capture:
    """Capture ``model.method(*args, **kwargs)``.

    Raises:
        InputError: the arguments do not fit.
        RefusedError: torch.export cannot capture the model, or its state makes an exact rewrite impossible.
    """
    require_torch(torch.__version__)
    check_model(model, method)
    called = model.forward if method == "forward" else getattr(model, method)
    inputs, example = Inputs.read(called, _as_args(args), kwargs or {})
    check_tensors(model, example, inputs)
    assumed = resolve(assume, inputs.names, example)
    started = time.perf_counter()
    modes = Modes()
    with torch.random.fork_rng(devices=[]), unchanged(model), modes.watched():
        exported, outputs, one, notes = _export(model, method, inputs, example, dynamic, modes, assumed)
    seconds = time.perf_counter() - started
    written = _conditions(exported)  # before anything is written out, which words them anew
    try:
        exported = functional(exported)
    except Exception as e:
        raise RefusedError(
            f"{type(model).__name__}.{method} has in-place operators that torch.export cannot write out: {type(e).__name__}: "
            f"{_first_lines(e)}. Fold a submodule without them"
        ) from e
    check_mutation(exported, inputs)
    check_sizes(exported, f"{type(model).__name__}.{method}")
    guards = _guards(exported, written, inputs, example, one)
    weights, names, fixed = _weights(exported, model)
    program = build(exported.graph, weights, names, fixed, module_path)
    return Capture(
        model,
        method,
        program,
        inputs,
        outputs,
        guards,
        example,
        exported.graph_module,
        weights,
        seconds,
        modes.of(model),
        assumed,
        tuple(notes),
    )


def _as_args(args: Any) -> tuple[Any, ...]:
    return (args,) if isinstance(args, torch.Tensor) else tuple(args)


def _check_runs(model: nn.Module, method: str, inputs: Inputs, example: Sequence[torch.Tensor]) -> None:
    """Run the example once after a failed capture, so that a wrong shape is reported by the model and not by torch.export."""
    called = model.forward if method == "forward" else getattr(model, method)
    args, kwargs = inputs.arguments([t.clone() for t in example])
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), unchanged(model):
            called(*args, **kwargs)
    except Exception as e:
        shapes = ", ".join(f"{n} {tuple(t.shape)} {t.dtype}" for n, t in zip(inputs.names, example, strict=True))
        raise InputError(
            f"the model itself fails on the example call ({shapes}): {type(e).__name__}: {_first_lines(e)}. "
            "Pass an example that the model accepts"
        ) from e


def _first_lines(error: BaseException, count: int = 3) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:count])[:500]


def _export(
    model: nn.Module,
    method: str,
    inputs: Inputs,
    example: list[torch.Tensor],
    dynamic: str | bool,
    modes: Modes,
    assumed: Sequence[Assumed],
) -> tuple[torch.export.ExportedProgram, Outputs, bool, list[str]]:
    """The exported program, the form of its results, whether a batch of one was tried beside two, and remarks."""
    notes: list[str] = []
    if dynamic not in ("auto", True, False):
        raise InputError(f"dynamic is {dynamic!r}; it may be 'auto', True (the same) or False")
    sized = [t.dim() > 0 for t in example]
    attempts: list[tuple[str, list[torch.Tensor], list[dict[int, Any]]]] = []
    if dynamic:
        # A size of 1 is a fact worth more than its freedom.
        # So is the size of an axis about which something was declared.
        held = {(a.position, a.axis) for a in assumed}
        places = [(t.dim() - 2, t.dim() - 1) if t.dim() >= 4 else () for t in example]
        space = [
            {a: AUTO for a in p if t.shape[a] != 1 and (i, a) not in held}
            for i, (p, t) in enumerate(zip(places, example, strict=True))
        ]
        batch: list[dict[int, Any]] = [{0: AUTO} if s and (i, 0) not in held else {} for i, s in enumerate(sized)]
        # torch treats a size of 1 as fixed, so a batch of one is doubled to leave the batch free.
        doubled = [torch.cat([t, t]) if b and t.shape[0] == 1 else t for b, t in zip(batch, example, strict=True)]
        attempts.append(("batch, height and width", doubled, [d | b for b, d in zip(batch, space, strict=True)]))
        attempts.append(("height and width", example, space))
        attempts.append(("batch", doubled, batch))
    for free, tensors, dims in attempts:
        outputs = Outputs()
        try:
            exported = export(Adapter(model, method, inputs, outputs, modes), tensors, dims)
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
        if one and harmless and _same_at(model, method, inputs, example, exported, modes):
            return exported, outputs, True, notes
        if not one and not broken:
            single = _batch_of_one(exported, example)
            return exported, outputs, bool(single) and _same_at(model, method, inputs, single, exported, modes), notes
        notes.append(f"{free} could not stay free: the model takes another path for the example's own sizes")
    outputs = Outputs()
    try:
        return export(Adapter(model, method, inputs, outputs, modes), example, None), outputs, False, notes
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
                return f"the channels of {module_path(node) or node.name} would change with it"
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
    model: nn.Module,
    method: str,
    inputs: Inputs,
    example: list[torch.Tensor],
    exported: torch.export.ExportedProgram,
    modes: Modes,
) -> bool:
    """Whether capturing at the example's own sizes gives the same graph, so that a broken condition decides nothing."""
    try:
        fixed = export(Adapter(model, method, inputs, Outputs(), modes), example, None)
    except Exception:
        return False
    return same_graph(exported.graph, fixed.graph, example)


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
