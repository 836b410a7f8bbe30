"""What a folded program rests on beside its inputs: the modules of the model, their attributes and their hooks.

A program that stands in for a method of a living model must notice when the model becomes another one: a flag is set
(``enable_tiling()``), a module is replaced (adapters do), a hook is added, the mode changes. It need not notice new values of
weights where it reads the model's own.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from flatconv.errors import plain
from flatconv.modelstate import held_by
from flatconv.signature import PLAIN

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OWN = frozenset(nn.Module().__dict__) - {"training"}
"""What torch keeps in a module; the mode is an attribute like others."""
WITHIN = (dict, list, set, tuple, collections.deque, np.ndarray)
DEEPEST = 8
PATCHED = "_flatconv_patches"
"""In the class that a patch gives to a module: the class that it had."""


class Watch:
    """A snapshot of a model's code path.

    Plain attributes are compared by type and value; containers and objects by what is in them, however deep; everything else by
    identity. Weights and buffers are not looked at.

    Args:
        model: the root.
        passing: attributes that calls themselves change, as (path of the module, name): these are the state of a call, and
            not of the model.
        outside: paths of modules whose own hooks run around the program, and not within it.
    """

    def __init__(
        self, model: nn.Module, passing: Collection[tuple[str, str]] = (), outside: Collection[str] = ()
    ) -> None:
        self._kinds: list[tuple[nn.Module, type]] = []
        self._held: list[tuple[Any, list[int], list[Any], list[Any], str, frozenset[str]]] = []
        seen: set[int] = set()
        for path, module in model.named_modules(remove_duplicate=True):
            name = path or "the model"
            self._kinds.append((module, own_class(module)))
            loose = frozenset(k for p, k in passing if p == path)
            self._note(module.__dict__, name, loose)
            for inner in ("_modules", *(() if path in outside else HOOKS)):
                self._note(module.__dict__[inner], f"{name}: {inner}")
            for key, value in module.__dict__.items():
                if key not in OWN and key not in loose:
                    for container, where in _inside(value, f"{name}.{key}", seen):
                        self._note(container, where)

    def _note(self, container: Any, where: str, loose: frozenset[str] = frozenset()) -> None:
        keys, values = _content(container, loose)
        self._held.append((container, list(map(id, values)), keys, values, where, loose))

    def changed(self) -> str | None:
        """Where the model is another one than at the snapshot; None if nowhere."""
        for module, kind in self._kinds:
            if type(module) is not kind and own_class(module) is not kind:
                return f"the class of a {kind.__name__}"
        for container, ids, keys, values, where, loose in self._held:
            # Identity first, which is quick; what it names is held, so that no other object can have its number.
            now = container.values() if isinstance(container, dict) and not loose else container
            if not loose and not isinstance(now, np.ndarray) and list(map(id, now)) == ids:
                continue
            if (found := _difference(container, keys, values, loose)) is not None:
                return plain(f"{where}{found}")
        return None


def own_class(module: nn.Module) -> type:
    """The class of a module without any patch."""
    kind = type(module)
    while PATCHED in kind.__dict__:
        kind = kind.__dict__[PATCHED]
    return kind


def unregistered(model: nn.Module) -> str | None:
    """Where an attribute holds a module or a parameter that is not registered, in a list say; None if none does."""
    registered = {id(m) for m in model.modules()} | {id(p) for p in model.parameters()}
    for path, module in model.named_modules():
        for key, value in module.__dict__.items():
            if key in OWN:
                continue
            where = f"{path}.{key}".lstrip(".")
            for inner in (value, *(v for c, _ in _inside(value, where, set()) for v in _content(c)[1])):
                learns = isinstance(inner, torch.Tensor) and (isinstance(inner, nn.Parameter) or inner.requires_grad)
                if (isinstance(inner, nn.Module) or learns) and id(inner) not in registered:
                    return where
    return None


def attributes(model: nn.Module) -> dict[tuple[str, str], Any]:
    """All attributes of all modules with what is in them, to be compared by ``passing`` and ``steady``."""
    found: dict[tuple[str, str], Any] = {}
    for path, module in model.named_modules():
        for key, value in module.__dict__.items():
            if key not in OWN:
                found[path, key] = (value, [_content(c) for c, _ in _inside(value, "", set())])
    return found


def passing(before: Mapping[tuple[str, str], Any], after: Mapping[tuple[str, str], Any]) -> set[tuple[str, str]]:
    """The attributes that a call has changed, added or taken away."""

    def same(a: Any, b: Any) -> bool:
        return (a[0] is b[0] or _equal(a[0], b[0])) and _alike(a[1], b[1], lambda x, y: x is y or _equal(x, y))

    return {
        k for k in before.keys() | after.keys() if k not in before or k not in after or not same(before[k], after[k])
    }


def steady(
    first: Mapping[tuple[str, str], Any], second: Mapping[tuple[str, str], Any], names: Collection[tuple[str, str]]
) -> bool:
    """Whether every call leaves the same behind, and nothing that it has computed.

    Args:
        first: attributes after a call.
        second: after another.
        names: of those that calls change.
    """

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
            return a is b
        return a is b or _equal(a, b) or (type(a) is type(b) and _nests(a))

    return all(
        name in first
        and name in second
        and same(first[name][0], second[name][0])
        and not any(
            isinstance(v, torch.Tensor) for v in (second[name][0], *(v for _, vs in second[name][1] for v in vs))
        )
        and _alike(first[name][1], second[name][1], same)
        for name in names
    )


def _alike(one: list[Any], other: list[Any], same: Callable[[Any, Any], bool]) -> bool:
    if len(one) != len(other):
        return False
    for (keys, values), (names, found) in zip(one, other, strict=True):
        if len(keys) != len(names) or len(values) != len(found):
            return False
        if not all(same(a, b) for a, b in zip([*keys, *values], [*names, *found], strict=True)):
            return False
    return True


def _nests(value: Any) -> bool:
    """Whether there is something in a value that is looked at."""
    return isinstance(value, WITHIN) or held_by(value) is not None


def _inside(value: Any, where: str, seen: set[int], depth: int = 0) -> Iterator[tuple[Any, str]]:
    """A container or an object's attributes, and those in it."""
    container = value if isinstance(value, WITHIN) else held_by(value)
    if container is None or id(value) in seen or depth > DEEPEST:
        return
    seen.add(id(value))
    yield container, where
    if isinstance(container, np.ndarray):
        return
    keys, values = _content(container)
    for key, inner in zip(keys or range(len(values)), values, strict=True):
        yield from _inside(inner, f"{where}[{key!r}]", seen, depth + 1)


def _content(container: Any, loose: frozenset[str] = frozenset()) -> tuple[list[Any], list[Any]]:
    """Keys, where there are any, and values."""
    if isinstance(container, np.ndarray):
        return [], [str(container.dtype), container.shape, container.tobytes()]
    if isinstance(container, dict):
        kept = [(k, v) for k, v in container.items() if k not in loose] if loose else list(container.items())
        return [k for k, _ in kept], [v for _, v in kept]
    return [], list(container)


def _difference(container: Any, keys: list[Any], values: list[Any], loose: frozenset[str]) -> str | None:
    """Where the content is another one, in words."""
    names, now = _content(container, loose)
    if isinstance(container, dict):
        if set(names) != set(keys):
            return " has other attributes"
        held = dict(zip(names, now, strict=True))
        for key, value in zip(keys, values, strict=True):
            if held[key] is not value and not _equal(held[key], value):
                return f".{key}"
        return None
    if isinstance(container, set):
        return None if set(now) == set(values) and len(now) == len(values) else ""
    same = len(now) == len(values) and all(a is b or _equal(a, b) for a, b in zip(now, values, strict=True))
    return None if same else ""


def _equal(now: Any, then: Any) -> bool:
    if type(now) is not type(then):
        return False
    if isinstance(then, float | complex):
        return repr(now) == repr(then)  # zeros have signs, and NaN is NaN
    if isinstance(then, PLAIN):
        return bool(now == then)
    if isinstance(then, tuple):
        return len(now) == len(then) and all(a is b or _equal(a, b) for a, b in zip(now, then, strict=True))
    return False
