"""One method of a living model: its folded programs, what they rest on, and which calls take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules import module as room
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils import _pytree as pytree

from flatconv import mixed
from flatconv.errors import GuardError, InputError, RefusedError
from flatconv.fold import fold
from flatconv.lower import Weights
from flatconv.modelstate import unchanged
from flatconv.module import Folded
from flatconv.signature import Outputs, method_of
from flatconv.tracing import first_lines
from flatconv.verify import alike
from flatconv.watch import HOOKS, Watch, attributes, passing, steady, unregistered

if TYPE_CHECKING:
    from flatconv.report.fold import FoldReport

GLOBAL_HOOKS = (
    "_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks",
)  # fmt: skip
NOTHING = "nothing to fold, or the original is the fastest here"


class Call:
    """An example call: ``Call(z, return_dict=False)``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs


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
        alone: whether the original's weights were freed, so that there is nothing beside the programs.
    """

    owner: nn.Module
    method: str
    programs: tuple[Folded, ...]
    watch: Watch
    alone: bool = False
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
        if (elsewhere := _elsewhere(args, kwargs)) is not None:
            why = [elsewhere]
        elif (changed := self.watch.changed()) is not None:
            why = [f"{changed} is not what it was when the model was folded"]
        else:
            for program in self.programs:
                try:
                    result = program(*args, **kwargs)
                except GuardError as e:
                    why.append(str(e))
                    continue
                self.counts.folded += 1
                return result
        reason = "; or ".join(dict.fromkeys(why))
        if self.alone:
            raise GuardError(
                f"{type(instance).__name__}.{self.method} was patched with drop_original=True, so that there are only the "
                f"folded programs, and this call fits none: {reason}"
            )
        self.counts.original += 1
        self.counts.why = reason
        return original(instance, *args, **kwargs)


def _elsewhere(args: Any, kwargs: Any) -> str | None:
    """Why no folded program is taken, beside what the programs check themselves."""
    if torch.compiler.is_compiling():
        return "the call is being compiled or exported: fold the model, and compile what fold returns"
    if mixed.active():
        return "autocast is on, and the model was folded without it"
    if any(getattr(room, name) for name in GLOBAL_HOOKS):
        return "there are hooks for all modules, which a folded program does not have"
    given = [id(t) for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    if len(set(given)) != len(given):
        return "one tensor is passed twice, and the model was folded for different ones"
    return None


def routed(
    owner: nn.Module, method: str, examples: Sequence[Call], how: Mapping[str, Any], alone: bool = False
) -> Route | None:
    """A method with a folded program for each example call; None if the original does as well.

    Args:
        owner: the module.
        method: its method.
        examples: calls of it.
        how: for ``fold``.
        alone: the original's weights will be freed, so that programs need weights of their own, and every example a program.

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
    useful: list[bool] = []
    for call in examples:
        if any(p.fits(*call.args, **call.kwargs) for p in programs):
            continue  # another size of one that is there
        weights: Weights = "folded" if alone else "shared"
        program = fold(owner, call.args, call.kwargs, method=method, weights=weights, **how)
        useful.append(any(site.rule for site in program.report.sites))
        if useful[-1] or alone:
            programs.append(program)
    if not any(useful):
        return None
    return Route(owner, method, tuple(programs), Watch(owner, loose, ("",) if method == "forward" else ()), alone=alone)


def _state_of_calls(owner: nn.Module, method: str, call: Call) -> set[tuple[str, str]]:
    """The attributes that calls themselves change, such as a cache that each call begins anew.

    Raises:
        RefusedError: a second call gives another result than the first.
    """
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), unchanged(owner):
            before = attributes(owner)
            first = run(owner, method, call)
            if any(t.is_inference() for t in Outputs().record(first)) and not torch.is_inference_mode_enabled():
                raise RefusedError(f"{method} computes in inference mode, which a folded program would not")
            between = attributes(owner)
            loose = passing(before, between)
            second = run(owner, method, call) if loose else first
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


def run(owner: nn.Module, method: str, call: Call) -> Any:
    """The original on copies, since it may write into what it is given."""
    args, kwargs = pytree.tree_map_only(torch.Tensor, torch.clone, (list(call.args), dict(call.kwargs)))
    return method_of(owner, method)(*args, **kwargs)
