"""A living model whose methods take a folded program wherever one fits, and do what they did everywhere else."""

from __future__ import annotations

import copyreg
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules import module as room
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils import _pytree as pytree

from flatconv.acceptance import check_model
from flatconv.errors import GuardError, InputError, RefusedError, first_line
from flatconv.fold import fold
from flatconv.modelstate import unchanged
from flatconv.module import Folded
from flatconv.signature import Outputs, method_of
from flatconv.tune import Tuning
from flatconv.watch import HOOKS, PATCHED, Watch, attributes, passing, steady, unregistered

if TYPE_CHECKING:
    from flatconv.report.fold import FoldReport


class Call:
    """An example call: ``Call(z, return_dict=False)``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs


GLOBAL_HOOKS = (
    "_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks",
)  # fmt: skip
NOTHING = "nothing to fold, or the original is the fastest here"
Calls = Mapping[str, "Sequence[Any] | Call | Sequence[Call]"]


@dataclass
class Counts:
    """How calls of a patched method were computed.

    Attributes:
        folded: by a folded program.
        original: by the original code.
        why: why the last of these was.
    """

    folded: int = 0
    original: int = 0
    why: str = ""


@dataclass(frozen=True)
class Route:
    """A method that was patched.

    Attributes:
        owner: the module.
        method: its method.
        programs: folded, one for each example call; they read the module's own weights.
        watch: notices when the module is another one than was folded.
        counts: of its calls.
    """

    owner: nn.Module
    method: str
    programs: tuple[Folded, ...]
    watch: Watch
    counts: Counts = field(default_factory=Counts)

    @property
    def reports(self) -> tuple[FoldReport, ...]:
        """What was done, for each program."""
        return tuple(p.report for p in self.programs)

    def __call__(self, original: Callable[..., Any], instance: nn.Module, args: Any, kwargs: Any) -> Any:
        """The call, by the first program that it fits, or by the original."""
        # A copy that shares this class has weights of its own.
        if instance is not self.owner:
            return original(instance, *args, **kwargs)
        why: list[str] = []
        if (elsewhere := _elsewhere()) is not None:
            why = [elsewhere]
        elif (changed := self.watch.changed()) is not None:
            why = [f"{changed} is not what it was when the model was folded"]
        else:
            for program in self.programs:
                if (other := _unlike(program, args, kwargs)) is not None:
                    why.append(other)
                    continue
                try:
                    result = program(*args, **kwargs)
                except GuardError as e:
                    why.append(str(e))
                    continue
                self.counts.folded += 1
                return result
        self.counts.original += 1
        self.counts.why = "; or ".join(dict.fromkeys(why))
        return original(instance, *args, **kwargs)


def _unlike(program: Folded, args: Any, kwargs: Any) -> str | None:
    """What code may look at in its inputs beside what a program checks."""
    given = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    if len({id(t) for t in given}) != len(given):
        return "one tensor is passed twice, and the model was folded for different ones"
    return None


def _elsewhere() -> str | None:
    """Why no folded program is taken whatever the call is."""
    if torch.compiler.is_compiling():
        return "the call is being compiled or exported: fold the model, and compile what fold returns"
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        return "autocast is on, and the model was folded without it"
    if any(getattr(room, name) for name in GLOBAL_HOOKS):
        return "there are hooks for all modules, which a folded program does not have"
    return None


class Patched:
    """What ``flatconv.patch`` did to a model; ``undo()`` takes it back, and so does leaving a ``with`` block.

    Attributes:
        model: the model.
        routes: the methods that were patched, by name; those of submodules as ``path.method``.
        left: what was left as it is, and why, by the same names.
    """

    def __init__(self, model: nn.Module, routes: Mapping[str, Route], left: Mapping[str, str]) -> None:
        self.model = model
        self.routes = dict(routes)
        self.left = dict(left)
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

    def undo(self) -> None:
        """Make the model what it was. A second time it does nothing.

        Raises:
            InputError: something else has changed the model's class since.
        """
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
) -> Patched:
    """Fold methods of a model in place.

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

    Returns:
        What was done, with ``undo``.

    Raises:
        InputError: the arguments do not fit.
        RefusedError: nothing of the model can be folded; it is left as it was.
        VerificationError: a folded program differs from the original; the model is left as it was.
    """
    from flatconv.parts import parts

    if not isinstance(model, nn.Module):
        raise InputError(f"a torch.nn.Module is needed, not {type(model).__name__}")
    if not isinstance(calls, Mapping) or not calls:
        raise InputError('calls must name methods with their example calls, such as {"forward": (x,)}')
    owners = {name: _owner(model, name) for name in calls}
    if assume is not None and not (isinstance(assume, Mapping) and set(assume) <= set(calls)):
        raise InputError('assume is by name of the method here: {"forward": {"x": flatconv.repeated(dim=2)}}')
    how = {"dynamic": dynamic, "tune": tune, "verify": verify}
    routes: dict[str, Route] = {}
    left: dict[str, str] = {}
    for name, given in calls.items():
        examples, (path, owner, method) = _examples(name, given), owners[name]
        try:
            route = routed(owner, method, examples, how | {"assume": (assume or {}).get(name)})
        except RefusedError as e:
            left[name] = str(e)
            found, rest = parts(owner, method, examples, how)
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
    return made


def routed(owner: nn.Module, method: str, examples: Sequence[Call], how: Mapping[str, Any]) -> Route | None:
    """A method with a folded program for each example call; None if the original does as well.

    Raises:
        RefusedError: it cannot be captured, or keeps state from one call to the next.
    """
    if method in owner.__dict__:
        raise RefusedError(
            f"'{method}' of this {type(owner).__name__} was replaced by an attribute of the object, which would hide the patch"
        )
    if not inspect.isfunction(inspect.getattr_static(type(owner), method, None)):
        raise RefusedError(
            f"'{method}' of {type(owner).__name__} is no plain method of its class"
            + (f": name the method of the module, '{method}.forward'" if method in owner._modules else "")
        )
    for path, module in owner.named_modules():
        hooks = [h for name in HOOKS for h in getattr(module, name).values() if not isinstance(h, WeightNorm)]
        if hooks:
            where = f"{path!r} in it" if path else f"this {type(owner).__name__}"
            raise RefusedError(
                f"{where} has hooks, which a folded program would not run: remove them, patch it, and register them again"
            )
    if (found := unregistered(owner)) is not None:
        raise RefusedError(
            f"{type(owner).__name__} reads '{found}', which is in none of its registered modules: a program cannot follow it"
        )
    for call in examples:
        if any(
            not t.is_contiguous() for t in pytree.tree_leaves((call.args, call.kwargs)) if isinstance(t, torch.Tensor)
        ):
            raise InputError(
                f"the example call of '{method}' has a tensor that is not contiguous: pass tensor.contiguous()"
            )
    loose = _state_of_calls(owner, method, examples[0])
    programs: list[Folded] = []
    for call in examples:
        if any(p.fits(*call.args, **call.kwargs) for p in programs):
            continue  # another size of one that is there
        program = fold(owner, call.args, call.kwargs, method=method, weights="shared", **how)
        if any(site.rule for site in program.report.sites):
            programs.append(program)
    if not programs:
        return None
    return Route(owner, method, tuple(programs), Watch(owner, loose, ("",) if method == "forward" else ()))


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


def _state_of_calls(owner: nn.Module, method: str, call: Call) -> set[tuple[str, str]]:
    """The attributes that calls themselves change, such as a cache that each call begins anew.

    Raises:
        RefusedError: a second call gives another result than the first.
    """
    from flatconv.tracing import first_lines
    from flatconv.verify import alike

    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), unchanged(owner):
            before = attributes(owner)
            first = _run(owner, method, call)
            if any(t.is_inference() for t in Outputs().record(first)) and not torch.is_inference_mode_enabled():
                raise RefusedError(f"{method} computes in inference mode, which a folded program would not")
            between = attributes(owner)
            loose = passing(before, between)
            second = _run(owner, method, call) if loose else first
            names = ", ".join(sorted(f"{p}.{k}".lstrip(".") for p, k in loose))
            if loose and not alike(first, second):
                raise RefusedError(
                    f"a second call of {method} gives another result than the first: it keeps state in {names}, which a folded "
                    "program would not see"
                )
            if loose and not steady(between, attributes(owner), loose):
                raise RefusedError(
                    f"a call of {method} leaves something behind in {names}, which a folded program would not"
                )
    except RefusedError:
        raise
    except Exception as e:
        raise InputError(
            f"the model itself fails on the example call of '{method}': {type(e).__name__}: {first_lines(e)}"
        ) from e
    return loose


def _run(owner: nn.Module, method: str, call: Call) -> Any:
    """The original on copies, since it may write into what it is given."""
    args, kwargs = pytree.tree_map_only(torch.Tensor, torch.clone, (list(call.args), dict(call.kwargs)))
    return method_of(owner, method)(*args, **kwargs)


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
