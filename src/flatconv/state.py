"""The state of a folded model: tensors under the original's names, or the very dictionaries of the original."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from flatconv.watch import HOOKS, own_class


def mirror(copied: nn.Module, original: nn.Module) -> None:
    """The same tree of plain containers around the very dictionaries of the original, so that nothing can go stale."""
    copied._parameters = original._parameters
    copied._buffers = original._buffers
    copied._non_persistent_buffers_set = original._non_persistent_buffers_set
    for name, child in original._modules.items():
        if child is not None:
            copied._modules[name] = nn.Module()
            mirror(copied._modules[name], child)  # type: ignore[arg-type]


def register(root: nn.Module, name: str, tensor: torch.Tensor, persistent: bool = True) -> None:
    """Put a tensor where its dotted name says, making plain containers on the way.

    Written into the modules' own dictionaries: the names that ``add_module`` refuses may be names of the original.
    """
    *path, leaf = name.split(".")
    for part in path:
        root = root._modules.setdefault(part, nn.Module())  # type: ignore[assignment]
    if isinstance(tensor, nn.Parameter):
        root._parameters[leaf] = tensor
    else:
        root._buffers[leaf] = tensor
        if not persistent:
            root._non_persistent_buffers_set.add(leaf)


def read(root: nn.Module, name: str) -> str:
    """Python that reads a tensor of the state: ``self._modules['conv']._parameters['weight']``."""
    *path, leaf = name.split(".")
    for part in path:
        root = root._modules[part]  # type: ignore[assignment]
    kind = "_parameters" if leaf in root._parameters else "_buffers"
    return "self" + "".join(f"._modules[{p!a}]" for p in path) + f".{kind}[{leaf!a}]"


def shape_of_state(root: nn.Module) -> tuple[Any, ...]:
    """Which parameters and buffers there are, of what shape and type, and which of them are one."""
    found: list[Any] = []
    first: dict[int, int] = {}
    for module in root.modules():
        for held in (module._parameters, module._buffers):
            for name, t in held.items():
                if t is None:
                    found.append(name)
                else:
                    found.append((name, t.shape, t.dtype, type(t), first.setdefault(id(t), len(first))))
    return tuple(found)


class Structure:
    """Which modules a model is made of, their classes, and the hooks of those in it, by identity.

    A program that reads a model's own weights does what these modules did; it is told here that they are others.

    Args:
        model: the root. Its own hooks run around its calls, and are not looked at.
    """

    def __init__(self, model: nn.Module) -> None:
        self._held: list[tuple[dict[Any, Any], list[Any], list[Any], str]] = []
        self._kinds: list[tuple[nn.Module, type, Any, str]] = []
        for path, module in model.named_modules():
            self._kinds.append((module, own_class(module), module.__dict__.get("forward"), path or "the model"))
            for name in ("_modules", *(HOOKS if path else ())):
                held = module.__dict__[name]
                self._held.append((held, list(held), list(held.values()), f"{path or 'the model'}: {name}"))

    def changed(self) -> str | None:
        """Where there is another module or hook than before; None if nowhere."""
        for held, keys, values, where in self._held:
            if len(held) != len(keys) or list(held) != keys or any(a is not b for a, b in zip(held.values(), values)):  # noqa: B905
                return where
        for module, kind, method, where in self._kinds:
            if own_class(module) is not kind or module.__dict__.get("forward") is not method:
                return f"{where}: its class or its method"
        return None


def as_module(graph: fx.Graph, tensor: Callable[[str], torch.Tensor]) -> fx.GraphModule:
    """A copy of a graph as a module that holds the tensors which it reads, under names that can be written as code."""
    graph, root = copy.deepcopy(graph), nn.Module()
    for i, node in enumerate(n for n in graph.nodes if n.op == "get_attr"):
        root.register_buffer(f"w{i}", tensor(str(node.target)))
        node.target = f"w{i}"
    return fx.GraphModule(root, graph)
