"""A living model whose methods take a folded program wherever one fits, and do what they did everywhere else."""

from __future__ import annotations

import copy
import copyreg
import functools
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from flatconv.acceptance import check_model
from flatconv.errors import InputError, RefusedError, first_line
from flatconv.freed import Freed, free
from flatconv.parts import parts
from flatconv.route import NOTHING, Call, Counts, Route, routed
from flatconv.tune import Tuning
from flatconv.watch import PATCHED

if TYPE_CHECKING:
    from flatconv.report.fold import FoldReport

Calls = Mapping[str, "Sequence[Any] | Call | Sequence[Call]"]


class Patched:
    """What ``flatconv.patch`` did to a model; ``undo()`` takes it back, and so does leaving a ``with`` block.

    Attributes:
        model: the model.
        routes: the methods that were patched, by name; those of submodules as ``path.method``.
        left: what was left as it is, and why, by the same names.
        freed: bytes of the model's own weights that were freed.
    """

    def __init__(self, model: nn.Module, routes: Mapping[str, Route], left: Mapping[str, str]) -> None:
        self.model = model
        self.routes = dict(routes)
        self.left = dict(left)
        self.freed = 0
        self._undone: list[tuple[nn.Module, type[nn.Module], type[nn.Module]]] = []

    def install(self) -> None:
        """Let the methods take their programs. The model gets a subclass of its class; nothing else of it changes."""
        by_owner: dict[int, list[Route]] = {}
        for route in self.routes.values():
            by_owner.setdefault(id(route.owner), []).append(route)
        for routes in by_owner.values():
            owner, kind = routes[0].owner, type(routes[0].owner)
            try:
                made = _subclass(kind, routes)
                object.__setattr__(owner, "__class__", made)
            except Exception as e:
                self.undo()
                raise RefusedError(
                    f"a subclass of {kind.__name__} cannot be made or given to the model, so that nothing was patched: "
                    f"{type(e).__name__}: {first_line(e)}"
                ) from e
            self._undone.append((owner, made, kind))

    def drop(self) -> None:
        """Free the weights of the model that the programs stand for, which have weights of their own."""
        for route in self.routes.values():
            held: dict[str, torch.Tensor] = dict(route.owner.named_parameters(remove_duplicate=False))
            held |= dict(route.owner.named_buffers(remove_duplicate=False))
            read = [held[n] for p in route.programs for n in p.reads if n in held]
            self.freed += free(self.model, [t for t in read if not isinstance(t, Freed)])

    def undo(self) -> None:
        """Make the model what it was. A second time it does nothing.

        Raises:
            InputError: something else has changed the model's class since, or the original's weights were freed.
        """
        if self.freed:
            raise InputError(
                "the model was patched with drop_original=True, and its own weights are gone: load it again for the original"
            )
        for owner, made, _ in self._undone:
            if type(owner) is not made:
                raise InputError(
                    f"{made.__name__} has another class than flatconv.patch gave it: it was patched again since, so undo that "
                    "patch first"
                )
        while self._undone:
            owner, _, kind = self._undone.pop()
            object.__setattr__(owner, "__class__", kind)

    @property
    def reports(self) -> dict[str, tuple[FoldReport, ...]]:
        """The reports of all programs, by the names of ``routes``."""
        return {name: route.reports for name, route in self.routes.items()}

    @property
    def counts(self) -> dict[str, Counts]:
        """How the calls so far were computed."""
        return {name: route.counts for name, route in self.routes.items()}

    def __enter__(self) -> Patched:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if not self.freed:
            self.undo()

    def __str__(self) -> str:
        from flatconv.report.patch import text

        return text(self)


def patch(
    model: nn.Module,
    calls: Calls,
    *,
    assume: Mapping[str, Any] | None = None,
    dynamic: str | bool = "auto",
    tune: bool | Tuning = True,
    verify: bool = True,
    in_place: bool = True,
    drop_original: bool = False,
) -> Patched:
    """Fold methods of a model, in place unless told otherwise.

    Calls that a folded program was made for take it; all others run the model's own code, on the same weights: more frames,
    another type, another mode, a flag that was set since, autocast. The programs read the model's own parameters, so that
    training, loading and moving the model reach them. Copies of the model, and what is pickled of it, are not patched.

        patched = flatconv.patch(vae, {"decode": (z,), "encode": (x,)})
        ...
        print(patched)      # what was folded, and how the calls since then were computed
        patched.undo()

    Where a method cannot be captured whole, the largest submodules that it calls and that can be are folded instead.

    Args:
        model: any module, in the mode in which it will be called.
        calls: example calls by name of the method, such as ``decode`` or ``visual.patch_embed.forward``: a tuple of arguments,
            a ``Call`` if some have names, or a list of calls. Sizes are taken from them as by ``fold``.
        assume: as for ``fold``, by name of the method: ``{"forward": {"x": flatconv.repeated(dim=2)}}``.
        dynamic: as for ``fold``.
        tune: as for ``fold``.
        verify: as for ``fold``.
        in_place: patch the model itself; False to patch a copy of it, which ``Patched.model`` then is.
        drop_original: give the programs folded weights of their own and free the model's that they stand for. There is no way
            back: calls that no program was made for raise ``GuardError``, as does whatever else uses those weights (a method
            that was not patched, ``state_dict``, ``to``). Not for training.

    Returns:
        What was done, with ``undo``.

    Raises:
        InputError: the arguments do not fit.
        RefusedError: nothing of the model can be folded; it is left as it was.
        VerificationError: a folded program differs from the original; the model is left as it was.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"a torch.nn.Module is needed, not {type(model).__name__}")
    if not isinstance(calls, Mapping) or not calls:
        raise InputError('calls must name methods with their example calls, such as {"forward": (x,)}')
    if not in_place:
        try:
            model = copy.deepcopy(model)
        except Exception as e:
            raise RefusedError(f"{type(model).__name__} cannot be copied: {type(e).__name__}: {first_line(e)}") from e
    owners = {name: _owner(model, name) for name in calls}
    if assume is not None and not (isinstance(assume, Mapping) and set(assume) <= set(calls)):
        raise InputError('assume is by name of the method here: {"forward": {"x": flatconv.repeated(dim=2)}}')
    how = {"dynamic": dynamic, "tune": tune, "verify": verify}
    routes: dict[str, Route] = {}
    left: dict[str, str] = {}
    for name, given in calls.items():
        examples, (path, owner, method) = _examples(name, given), owners[name]
        try:
            route = routed(owner, method, examples, how | {"assume": (assume or {}).get(name)}, drop_original)
        except RefusedError as e:
            left[name] = str(e)
            found, rest = parts(owner, method, examples, how, drop_original)
            inside = f"{path}." if path else ""
            routes |= {f"{inside}{n}": r for n, r in found.items() if f"{inside}{n}" not in routes}
            left |= {f"{inside}{n}": why for n, why in rest.items()}
            continue
        if route is None:
            left[name] = NOTHING
        else:
            routes[name] = route
    if not routes:
        raise RefusedError(
            f"nothing of {type(model).__name__} was folded: "
            + "; ".join(f"{name}: {why}" for name, why in left.items())
        )
    made = Patched(model, routes, left)
    made.install()
    if drop_original:
        made.drop()
    return made


def _owner(model: nn.Module, name: Any) -> tuple[str, nn.Module, str]:
    """The module that a name such as ``decode`` or ``visual.patch_embed.forward`` means, its path, and the method."""
    path, _, method = name.rpartition(".") if isinstance(name, str) else ("", "", name)
    try:
        owner = model.get_submodule(path)
    except AttributeError as e:
        raise InputError(f"'{name}' names the module '{path}', which {type(model).__name__} does not have: {e}") from e
    check_model(owner, method)
    return path, owner, method


def _examples(method: Any, given: Any) -> list[Call]:
    if isinstance(given, Call):
        return [given]
    if isinstance(given, list) and given and all(isinstance(c, Call) for c in given):
        return list(given)
    if isinstance(given, torch.Tensor):
        return [Call(given)]
    if isinstance(given, tuple):
        return [Call(*given)]
    raise InputError(
        f"the example call of '{method}' is a {type(given).__name__}: a tuple of arguments, a flatconv.Call or a list of these "
        "is needed"
    )


def _subclass(kind: type[nn.Module], routes: Sequence[Route]) -> type[nn.Module]:
    """A class whose methods go through the routes; of the same name, and copied and pickled as the one it is made of."""

    def reduce(self: nn.Module, protocol: Any) -> Any:
        # As what it is without the patch: classes may name their own when they are pickled.
        object.__setattr__(self, "__class__", kind)
        try:
            found = self.__reduce_ex__(protocol)
        finally:
            object.__setattr__(self, "__class__", made)
        if isinstance(found, tuple) and found[0] is copyreg.__newobj__ and found[1] == (kind,):  # type: ignore[attr-defined]
            # pickle holds what __newobj__ makes against the object's own class; object.__new__ makes the same.
            return (object.__new__, (kind,), *found[2:])
        return found

    body: dict[str, Any] = {r.method: _through(getattr(kind, r.method), r) for r in routes}
    body |= {
        PATCHED: kind,
        "__reduce_ex__": reduce,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
    }
    made = type(kind.__name__, (kind,), body)
    return made


def _through(original: Callable[..., Any], route: Route) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return route(original, self, args, kwargs)

    return method
