"""``torch.compile(model, backend="flatconv")``: every graph that Dynamo finds is folded, verified, and handed to Inductor.

    compiled = torch.compile(model, backend="flatconv")
    compiled = torch.compile(model, backend="flatconv", options={"report": print})

Dynamo guards the shapes, flags and types that a graph was made for, so a graph is folded for exactly these. Weights are inputs
of such a graph: they are reduced in it on every call, gradients reach them, and nothing goes stale. A graph that cannot be
folded is compiled as it is. Options beside ``report`` and ``verify`` go to Inductor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from flatconv import gradients
from flatconv.errors import FlatconvError, RefusedError, VerificationError, first_line
from flatconv.fold import fold
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
    made: Compiled = compile_fx(as_module(flat.graph, lambda name: state[name].detach()), list(inputs), **patches)
    return made


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
    if any(isinstance(i, torch.SymInt) for i in inputs) or any(_free(i) for i in inputs):
        raise RefusedError("the graph has free sizes, and is folded only where Dynamo fixes them (dynamic=False)")
    if not _volumes(graph):
        raise RefusedError("there is no convolution over three axes in it")
    if not all(isinstance(i, torch.Tensor) for i in inputs):
        raise RefusedError("the graph takes something that is no tensor")
    with torch._guards.tracing(None):  # what follows is no part of Dynamo's own tracing
        example = tuple(_real(i) for i in inputs)
        flat = fold(_Graph(graph), example, dynamic=False, tune=False, verify=verify)
    if not any(site.rule for site in flat.report.sites):
        raise RefusedError("nothing in it can be folded")
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
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


def _free(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and any(isinstance(s, torch.SymInt) for s in value.shape)


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
    noise = torch.Generator().manual_seed(fake.numel())
    sizes = [int(s) for s in fake.shape]
    if fake.dtype.is_floating_point:
        made = torch.rand(sizes, generator=noise).to(fake.dtype)  # positive, since it may be a variance
    elif fake.dtype == torch.bool:
        made = torch.randint(0, 2, sizes, generator=noise).bool()
    elif fake.dtype.is_complex:
        raise RefusedError("the graph takes a complex tensor")
    else:
        made = torch.randint(0, 2, sizes, generator=noise).to(fake.dtype)
    # In the order in memory of the real one, which operators look at.
    return torch.empty_strided(sizes, [int(s) for s in fake.stride()], dtype=fake.dtype, device=fake.device).copy_(made)


class _Graph(nn.Module):
    """A graph as a module whose call names its tensors."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__()
        self.graph_module = graph
        self.eval()

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The graph's outputs."""
        found = self.graph_module(*tensors)
        return tuple(found) if isinstance(found, list | tuple) else (found,)
