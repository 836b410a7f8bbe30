"""What cannot be captured faithfully: refused before torch.export sees it, or once it shows in the graph."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from flatconv.errors import InputError, RefusedError
from flatconv.signature import Inputs

OLDEST_TORCH = (2, 10)
PREFIX = "model."


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


def check_model(model: Any, method: str) -> None:
    """Is it a module that Python source stands behind, with that method, and with names that can be written as code?"""
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
    for held in (model.named_modules(), model.named_parameters(), model.named_buffers()):
        for name, _ in held:
            # torch writes these names into Python source and runs it: such a name could run anything.
            if not name.isprintable() or '"' in name or "\\" in name:
                raise RefusedError(
                    f"{name!r} is the name of a module or weight and holds a quotation mark, a backslash or a character "
                    "that cannot be printed; torch cannot write it as code safely: rename it"
                )


def check_tensors(model: nn.Module, example: Sequence[torch.Tensor], inputs: Inputs) -> None:
    """Are all inputs and weights dense, real and there?"""
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


def check_mutation(exported: torch.export.ExportedProgram, inputs: Inputs) -> None:
    """Does a call change nothing, draw nothing, and hold no graph within the graph?"""
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
                f"{module_path(node) or 'the model'} draws random numbers ({node.target}), so a rewrite cannot be "
                "compared with it: call model.eval() first, or pass the noise in as an input"
            )


def check_sizes(exported: torch.export.ExportedProgram, called: str) -> None:
    """Does every size follow from the sizes of the inputs?"""
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
