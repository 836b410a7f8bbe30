"""What a folded program rests on beside its inputs: the modules of the model, their attributes and their hooks.

A program that stands in for a method of a living model must notice when the model becomes another one: a flag is set
(``enable_tiling()``), a module is replaced (adapters do), a hook is added, the mode changes. It need not notice new values of
weights where it reads the model's own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from flatconv.errors import plain
from flatconv.signature import PLAIN

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OWN = frozenset(nn.Module().__dict__) - {"training"}
"""What torch keeps in a module; the mode is an attribute like others."""
MISSING = object()


class Watch:
    """A snapshot of a model's code path.

    Plain attributes are compared by value; lists, dicts and sets by the objects in them; everything else by identity. Weights
    and buffers are not looked at.

    Args:
        model: the root.
        passing: attributes that calls themselves change, as (path of the module, name): these are the state of a call, and
            not of the model.
        outside: paths of modules whose own hooks run around the program, and not within it.
    """

    def __init__(
        self, model: nn.Module, passing: Collection[tuple[str, str]] = (), outside: Collection[str] = ()
    ) -> None:
        self._pairs: list[tuple[Any, Any]] = []
        self._modules: list[tuple[dict[str, Any], dict[str, Any], frozenset[str], str]] = []
        self._contents: list[tuple[Any, Any, str]] = []
        for path, module in model.named_modules(remove_duplicate=True):
            held, name = module.__dict__, path or "the model"
            loose = frozenset(k for p, k in passing if p == path)
            saved = {k: v for k, v in held.items() if k not in loose}
            self._modules.append((held, saved, loose, name))
            if not loose:
                self._pairs.append((held, saved))
            for inner in ("_modules", *(() if path in outside else HOOKS)):
                self._note(held[inner], f"{name}: {inner}")
            for key, value in saved.items():
                if key not in OWN and isinstance(value, list | dict | set):
                    self._note(value, f"{name}.{key}")

    def _note(self, container: Any, where: str) -> None:
        saved = dict(container) if isinstance(container, dict) else type(container)(container)
        self._pairs.append((container, saved))
        self._contents.append((container, saved, where))

    def changed(self) -> str | None:
        """Where the model is another one than at the snapshot; None if nowhere."""
        try:
            # Equal by the containers' own comparison, which is quick and begins with identity, leaves few to be looked at.
            same = all(now == then for now, then in self._pairs)
        except Exception:  # attributes of any kind are compared, and some cannot be
            same = False
        for held, saved, loose, where in self._modules:
            if same and not loose:
                continue
            if held.keys() - loose != saved.keys():
                return plain(f"{where} has other attributes")
            for key, value in saved.items():
                if held[key] is not value and not _equal(held[key], value):
                    return plain(f"{where}.{key}")
        for container, content, where in () if same else self._contents:
            if not _same_content(container, content):
                return plain(where)
        return None


def attributes(model: nn.Module) -> dict[tuple[str, str], Any]:
    """All attributes of all modules, with copies of containers, to be compared by ``passing``."""
    found: dict[tuple[str, str], Any] = {}
    for path, module in model.named_modules():
        for key, value in module.__dict__.items():
            if key not in OWN:
                found[path, key] = (value, list(value) if isinstance(value, list | set | dict) else None)
    return found


def passing(before: Mapping[tuple[str, str], Any], after: Mapping[tuple[str, str], Any]) -> set[tuple[str, str]]:
    """The attributes that a call has changed, added or taken away."""

    def same(a: Any, b: Any) -> bool:
        (one, inside), (other, within) = a, b
        if one is not other and not _equal(one, other):
            return False
        return inside is None or (
            len(inside) == len(within) and all(x is y for x, y in zip(inside, within, strict=True))
        )

    return {
        k for k in before.keys() | after.keys() if k not in before or k not in after or not same(before[k], after[k])
    }


def _equal(now: Any, then: Any) -> bool:
    if type(now) is not type(then):
        return False
    if isinstance(then, PLAIN):
        return bool(now == then)
    if isinstance(then, tuple):
        return len(now) == len(then) and all(a is b or _equal(a, b) for a, b in zip(now, then, strict=True))
    return False


def _same_content(container: Any, saved: Any) -> bool:
    if len(container) != len(saved):
        return False
    if isinstance(container, dict):
        return all(container.get(k, MISSING) is v or _equal(container.get(k, MISSING), v) for k, v in saved.items())
    if isinstance(container, set):
        return all(v in container for v in saved)
    return all(a is b or _equal(a, b) for a, b in zip(container, saved, strict=True))
