"""The state of a model while it is captured: what a call may not leave changed, and which modes it looks at."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from flatconv.gradients import noted


class Declared(nn.Module):
    """A module that knows which sizes of its inputs do not change.

    Attributes:
        fixed_axes: input and axis.
    """

    fixed_axes: frozenset[tuple[int, int]] = frozenset()


HELD = (list, dict, set)
"""Containers whose content is put back too; a cache of features is usually one of them."""


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Put back what calls of the model change: buffers, attributes of its modules, and containers held by them.

    Tracing runs the model on tensors that are not real. Without this a model that keeps a list of features would hold
    such tensors afterwards.
    """
    modules = list(model.modules())
    buffers = [(b, b.detach().clone()) for b in model.buffers() if not b.is_meta]
    attributes = [(m, dict(m.__dict__)) for m in modules]
    content = [(v, _copy(v)) for _, held in attributes for v in _containers(held)]
    try:
        yield
    finally:
        for container, saved in content:
            _put_back(container, saved)
        for module, saved in attributes:
            if module.__dict__.keys() != saved.keys() or any(module.__dict__[k] is not v for k, v in saved.items()):
                module.__dict__.clear()
                module.__dict__.update(saved)
        with torch.no_grad():
            for buffer, value in buffers:
                if buffer.shape == value.shape and not torch.equal(buffer, value):
                    buffer.copy_(value)


def held_by(value: Any) -> dict[str, Any] | None:
    """The attributes of a plain object, such as a configuration; None for all else."""
    held = getattr(value, "__dict__", None)
    others = nn.Module | torch.Tensor | type | types.ModuleType  # what a Python module holds is nobody's state
    looked_at = type(held) is dict and not isinstance(value, others) and not callable(value)
    return held if looked_at else None


def _containers(attributes: dict[str, Any]) -> Iterator[Any]:
    """Lists, dicts and sets among the attributes, what plain objects hold, and those inside them."""
    todo = list(attributes.values())
    seen: set[int] = set()
    while todo:
        found = todo.pop()
        if isinstance(found, tuple):
            todo.extend(found)
            continue
        if not isinstance(found, HELD):
            found = held_by(found)
            if found is None:
                continue
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        todo.extend(found.values() if isinstance(found, dict) else found)


def _copy(container: Any) -> Any:
    return dict(container) if isinstance(container, dict) else list(container)


def _put_back(container: Any, saved: Any) -> None:
    if isinstance(container, dict):
        if container.keys() != saved.keys() or any(container[k] is not v for k, v in saved.items()):
            container.clear()
            container.update(saved)
    elif isinstance(container, list):
        if len(container) != len(saved) or any(a is not b for a, b in zip(container, saved, strict=True)):
            container[:] = saved
    elif set(saved) != container:
        container.clear()
        container.update(saved)


class Modes:
    """The modules that looked at ``training`` while ``watched``, and what the code did to gradients.

    Attributes:
        read: id of the module to its mode at that time.
        stops: in words, what a graph of values does not show of gradients.
        layouts: what the code asked of the order in memory.
    """

    def __init__(self) -> None:
        self.read: dict[int, bool] = {}
        self.stops: dict[str, None] = {}
        self.layouts: dict[str, None] = {}
        self.inside = 0

    def of(self, model: nn.Module) -> dict[str, bool]:
        """Paths of the modules that looked, with their modes."""
        return {path: self.read[id(m)] for path, m in model.named_modules() if id(m) in self.read}

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """Around the call of the model itself: what torch looks at outside of it does not count."""
        self.inside += 1
        try:
            with noted(self.stops, self.layouts):
                yield
        finally:
            self.inside -= 1

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Notice every read of ``training`` of any module.

        A property of the class comes before an attribute of the instance, so that no way of reading is missed: batch
        norm, dropout, and any code of the user's own.
        """
        modes = self

        def get(module: nn.Module) -> bool:
            held = module.__dict__
            mode = bool(held["training"] if "training" in held else module.__getattr__("training"))
            if modes.inside:
                modes.read[id(module)] = mode
            return mode

        def put(module: nn.Module, mode: bool) -> None:
            module.__dict__["training"] = mode

        before = nn.Module.__dict__.get("training", _ABSENT)
        nn.Module.training = property(get, put)  # type: ignore[assignment]
        try:
            yield
        finally:
            if before is _ABSENT:
                del nn.Module.training
            else:
                nn.Module.training = before


_ABSENT = object()
