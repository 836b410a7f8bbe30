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
from torch._subclasses.fake_tensor import FakeTensor

from flatconv.acceptance import (
    PREFIX,
    check_model,
    check_mutation,
    check_results,
    check_sizes,
    check_tensors,
    module_path,
    require_torch,
    updates,
)
from flatconv.assume import Assumed, declared_facts, resolve
from flatconv.errors import InputError, RefusedError
from flatconv.exporting import user_inputs
from flatconv.facts import Slices
from flatconv.guards import Guards, InputGuard, holds, is_plain
from flatconv.modelstate import Modes, unchanged
from flatconv.program import Node, Program, build
from flatconv.signature import Inputs, Outputs
from flatconv.tracing import Tracing


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
        stops: what the model's code does to gradients and the graph does not.
        layouts: what its code asks of the order in memory.
        updates: buffers that a call changes in place; the first outputs of the graph are their new values.
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
    updates: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The model's parameters and buffers that the program reads, by name."""
        program = self.program
        return tuple(program.names[n] for n in program.weights if n.users or n in program.outputs)

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
    called = check_model(model, method)
    inputs, example = Inputs.read(called, _as_args(args), _as_kwargs(kwargs))
    # torch.export takes a tensor that is passed twice for one input, and reads either.
    example = [t.clone() if any(t is e for e in example[:i]) else t for i, t in enumerate(example)]
    check_tensors(model, example, inputs)
    assumed = resolve(assume, inputs.names, example)
    started = time.perf_counter()
    modes = Modes()
    with torch.random.fork_rng(devices=[]), unchanged(model), modes.watched():
        traced, one, notes = Tracing(model, method, inputs, example, modes).freest(dynamic, assumed)
    seconds = time.perf_counter() - started
    exported = traced.exported
    check_mutation(exported, inputs)
    check_sizes(exported, f"{type(model).__name__}.{method}")
    check_results([n.meta.get("val") for n in exported.graph.output_node().args[0]])
    guards = _guards(exported, traced.conditions, inputs, example, one)
    weights, names, fixed = _weights(exported, model)
    program = build(exported.graph, weights, names, fixed, module_path)
    return Capture(
        model,
        method,
        program,
        inputs,
        traced.outputs,
        guards,
        example,
        exported.graph_module,
        weights,
        seconds,
        modes.of(model),
        assumed,
        tuple(notes),
        updates(exported),
        _stops(model, modes),
        tuple(modes.layouts),
    )


def _stops(model: nn.Module, modes: Modes) -> tuple[str, ...]:
    """What is done to gradients and does not show in a graph of values."""
    hooks = [p or "the model" for p, m in model.named_modules() if m._backward_hooks or m._backward_pre_hooks]
    return (*modes.stops, *(f"a backward hook of {path}" for path in hooks[:1]))


def _as_args(args: Any) -> tuple[Any, ...]:
    if isinstance(args, torch.Tensor):
        return (args,)
    if not isinstance(args, list | tuple):
        raise InputError(f"args is of type {type(args).__name__}; a tuple of the call's arguments is needed: args=(x,)")
    return tuple(args)


def _as_kwargs(kwargs: Any) -> Mapping[str, Any]:
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise InputError(
            f"kwargs must be a mapping of arguments by name, such as {{'x': x}}, not {type(kwargs).__name__}"
        )
    if not all(isinstance(k, str) for k in kwargs or {}):
        raise InputError("kwargs has keys that are no names: keywords must be strings, such as {'x': x}")
    return kwargs or {}


def _guards(
    exported: torch.export.ExportedProgram,
    written: Sequence[str],
    inputs: Inputs,
    example: Sequence[torch.Tensor],
    one: bool,
) -> Guards:
    found = []
    for label, node, tensor in zip(inputs.names, user_inputs(exported), example, strict=True):
        shape: list[int | None] = []
        ranges: list[tuple[int, int | None]] = []
        for axis, (size, given) in enumerate(zip(node.meta["val"].shape, tensor.shape, strict=True)):
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
    # A condition on the batch that the example itself, a batch of one, does not meet decides nothing there (see _same_at),
    # but it may for larger ones.
    conditions = dict.fromkeys(c if holds(c, sizes) else _unless_one(c) for c in written if c != "True")
    return Guards(tuple(found), tuple(conditions))


def _unless_one(condition: str) -> str:
    batches = dict.fromkeys(re.findall(r"s\[\d+\]\[0\]", condition))
    return f"{' == '.join([*batches, '1'])} or ({condition})"


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
        if isinstance(held, FakeTensor) or not is_plain(held):
            raise RefusedError(
                f"{type(model).__name__}.forward keeps a value of the call where torch.export cannot see it ({spec.target}, "
                "inside a tensor class or an attribute), so it would be frozen: fold a method that returns plain tensors"
            )
        # Some frameworks hand raw tensors to the graph: they are found again among the parameters by where they lie.
        original = by_place.get((held.data_ptr(), held.shape, held.stride(), held.dtype)) if held.numel() else None
        tensors[placeholder] = own[original] if original else held
        names[placeholder] = original or name
        if original is None:
            fixed.add(placeholder)
    return tensors, names, frozenset(fixed)
