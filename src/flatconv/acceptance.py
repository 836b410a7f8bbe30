"""What cannot be captured faithfully: refused before torch.export sees it, or once it shows in the graph."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from flatconv.errors import InputError, RefusedError, first_line
from flatconv.guards import is_plain
from flatconv.program import DRAWS
from flatconv.signature import Inputs

OLDEST_TORCH = (2, 10)
PREFIX = "model."
CALLED = ("_operator", "math", "builtins", "torch")
"""Where Python functions of a captured graph come from: arithmetic on sizes, and getitem."""


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


def check_model(model: Any, method: str) -> Callable[..., Any]:
    """The method, of a module that Python source stands behind, whose names can be written as code.

    Raises:
        InputError: it is no module, or has no such method.
        RefusedError: it holds TorchScript or quantised modules, or a name that would be code.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise RefusedError(
            f"{type(model).__name__} is a TorchScript module, whose code torch.export cannot read: "
            "build the model from its Python source and load the weights into it"
        )
    if not isinstance(model, nn.Module):
        raise InputError(f"a torch.nn.Module is needed, not {type(model).__name__}")
    if "_modules" not in model.__dict__:
        raise InputError(f"{type(model).__name__} was never set up: its __init__ must call super().__init__() first")
    called = _method(model, method)
    for held in (model.named_modules(), model.named_parameters(), model.named_buffers()):
        for name, _ in held:
            # torch writes these names into Python source and runs it: such a name could run anything.
            if not name.isprintable() or '"' in name or "\\" in name:
                raise RefusedError(
                    f"{name!r} is the name of a module or weight and holds a quotation mark, a backslash or a character "
                    "that cannot be printed; torch cannot write it as code safely: rename it"
                )
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise RefusedError(
                f"'{path}' is a TorchScript module, whose code torch.export cannot read: "
                "build that part from its Python source and load the weights into it"
            )
        if type(module).__module__.startswith(("torch.ao.nn.quantized", "torch.nn.quantized")):
            raise RefusedError(f"'{path}' is a quantised {type(module).__name__}: fold the model before quantising it")
    return called


def _method(model: nn.Module, method: Any) -> Callable[..., Any]:
    kind = type(model).__name__
    if not isinstance(method, str) or method.startswith("__"):
        raise InputError(f"method is {method!r}; the name of a method of {kind} is needed, such as 'forward'")
    if method == "forward":
        return model.forward
    try:
        called = getattr(model, method, None)
    except Exception as e:
        raise InputError(
            f"{kind}.{method} fails when it is looked up: {type(e).__name__}: {first_line(e)}. Name a method"
        ) from e
    if not callable(called):
        methods = [n for n in dir(type(model)) if n in ("encode", "decode", "forward", "_encode", "_decode")]
        raise InputError(f"{kind} has no method '{method}'; it has {', '.join(methods)}")
    found: Callable[..., Any] = called
    return found


def check_tensors(model: nn.Module, example: Sequence[torch.Tensor], inputs: Inputs) -> None:
    """Refuse inputs and weights that are not dense, real and there.

    Raises:
        RefusedError: naming the tensor.
    """
    for name, tensor in (
        *((f"input '{n}'", t) for n, t in zip(inputs.names, example, strict=True)),
        *((f"'{n}'", t) for n, t in itertools.chain(model.named_parameters(), model.named_buffers())),
    ):
        if isinstance(tensor, UninitializedTensorMixin):
            raise RefusedError(f"{name} is lazy and has no shape yet: call the model once before folding")
        kind = _kind(tensor)
        if kind:
            raise RefusedError(f"{name} is {kind}; only dense real tensors can be folded: convert it first")
        if not is_plain(tensor):
            raise RefusedError(
                f"{name} is a {type(tensor).__name__}, a tensor class with operators of its own, which a rewrite would not "
                "call: pass a plain tensor, such as tensor.as_subclass(torch.Tensor)"
            )
        if tensor.is_meta or isinstance(tensor, FakeTensor):
            raise RefusedError(
                f"{name} has no data (it is a meta or fake tensor): load the weights and pass real inputs"
            )


def check_results(results: Sequence[Any]) -> None:
    """Refuse results that are not dense and real.

    Raises:
        RefusedError: naming the result.
    """
    for i, value in enumerate(results):
        kind = _kind(value) if isinstance(value, torch.Tensor) else ""
        if kind:
            raise RefusedError(f"output {i} of the model is {kind}; only models of dense real tensors can be folded")


def _kind(tensor: torch.Tensor) -> str:
    if tensor.is_nested:
        return "nested (its rows have sizes of their own)"
    if tensor.is_quantized:
        return "quantised"
    return str(tensor.layout) if tensor.layout != torch.strided else "complex" if tensor.is_complex() else ""


def updates(exported: torch.export.ExportedProgram) -> tuple[str, ...]:
    """The buffers that a call changes in place, as batch norm in train mode does; their new values come before the results."""
    found = []
    for spec in exported.graph_signature.output_specs:
        if spec.kind.name != "BUFFER_MUTATION":
            break
        found.append(str(spec.target).removeprefix(PREFIX))
    return tuple(found)


def check_mutation(exported: torch.export.ExportedProgram, inputs: Inputs) -> None:
    """Refuse models whose calls change something else than buffers, draw random numbers, or hold a graph within the graph.

    Raises:
        RefusedError: naming what, and where.
    """
    # Whatever is returned beside the results is a change: of a buffer, an input, a parameter.
    specs = exported.graph_signature.output_specs[len(updates(exported)) :]
    changed = [o.target or o.kind.name.lower() for o in specs if o.kind.name != "USER_OUTPUT"]
    if changed:
        given = {f"tensors_{i}": n for i, n in enumerate(inputs.names)}
        names = ", ".join(given.get(str(c), str(c)).removeprefix(PREFIX) for c in changed[:3])
        raise RefusedError(
            f"a call changes {names}{' and more' if len(changed) > 3 else ''} in place: fold the part that changes nothing"
        )
    for node in exported.graph.nodes:
        if node.op == "call_function" and isinstance(node.target, torch._ops.HigherOrderOperator):
            raise RefusedError(
                f"the model uses {node.target} (control flow, autocast or another mode around part of it): "
                "fold a submodule without it"
            )
        home = getattr(node.target, "__module__", "")
        if node.op == "call_function" and home not in CALLED and not isinstance(node.target, torch._ops.OpOverload):
            raise RefusedError(
                f"{module_path(node) or 'the model'} calls {home}.{getattr(node.target, '__name__', node.target)} (functorch "
                "transforms such as vmap do): write that step with tensor operators, or fold a submodule without it"
            )
        random = isinstance(node.target, torch._ops.OpOverload) and (
            torch.Tag.nondeterministic_seeded in node.target.tags
            and node.kwargs.get("train", node.args[2] if len(node.args) > 2 else True) is not False
            and "attention" not in str(node.target)
            # Of a mask that leaves nothing, torch draws numbers in one of its two forms, and none in the other.
            and not (str(node.target) in DRAWS and 0 <= node.args[1] < 1)
        )
        if random:
            raise RefusedError(
                f"{module_path(node) or 'the model'} draws random numbers ({node.target}), so a rewrite cannot be "
                "compared with it: call model.eval() first, or pass the noise in as an input"
            )


def check_sizes(exported: torch.export.ExportedProgram, called: str) -> None:
    """Refuse sizes that do not follow from the sizes of the inputs.

    Raises:
        RefusedError: naming where one is made.
    """
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    for node in exported.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and free_unbacked_symbols(value.shape):
            raise RefusedError(
                f"{called} cannot be captured by torch.export with known sizes: {module_path(node) or 'it'} makes a tensor "
                f"whose size depends on the data ({node.target}): fold the submodule that holds the convolutions instead"
            )


def module_path(node: fx.Node) -> str:
    """Where in the model a node was made, as ``named_modules`` words it."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [p for p, _ in stack.values()]
    path = paths[-1] if paths else ""
    return path.removeprefix("model").removeprefix(".")
