"""The layers of evidence, each asked of one model: does it notice that the fold is wrong?

``site oracle`` and ``whole model`` are the product's own verification. The others stand outside it: ``traps`` compares the
folded model with the original as a user would call it, ``facts`` holds every claim of the analysis against real values.

This module imports flatconv: a process that tests a mutated copy puts that copy first on the path, then imports this.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.utils._pytree import tree_map

import flatconv
from flatconv.errors import FlatconvError, GuardError, VerificationError
from flatconv.facts import ZERO
from flatconv.oracle import SiteEvidence
from flatconv.program import Node, Program, transform
from trust.scattered import everywhere
from trust.trap import Args, Trap

SITE, WHOLE, TRAPS, FACTS, ALARMS, RANDOM = LAYERS = (
    "site oracle",
    "whole model",
    "traps",
    "facts",
    "alarms",
    "random programs",
)
"""The layers, in the order in which they are reported."""
CRASH = "crash"
LIMIT = 1e-12
"""Largest difference that float64 leaves room for, over the largest value."""


@dataclass
class Found:
    """What the layers noticed on one model: layer to words."""

    said: dict[str, str] = field(default_factory=dict)

    def note(self, layer: str, words: str) -> None:
        """The first word of a layer counts."""
        self.said.setdefault(layer, words.splitlines()[0][:300] if words else "")


@dataclass
class _Seen:
    """What passed through the fold on its way."""

    captured: Any = None
    analysis: Any = None
    flat: Any = None


def look(trap: Trap, built: tuple[nn.Module, Args] | None = None) -> Found:
    """Fold one trap and let the layers judge: verification on its two levels, values, claims."""
    found = Found()
    model, args = built or trap.build()
    if trap.expect == "refused":
        _refusal(trap, model, args, found)
        return found
    flat, seen = _fold(trap, model, args, found)
    if seen.captured is not None and trap.runs and trap.verify:
        try:
            _claims(seen.captured, seen.analysis, found)
        except Exception as e:  # the program itself cannot be run: another layer says why
            found.note(CRASH, f"facts: {type(e).__name__}: {e}")
    if flat is not None:
        try:
            _values(trap, model, args, flat, found)
        except Exception as e:
            # A fold that cannot be called where its model can is noticed by whoever calls it.
            found.note(TRAPS, f"the fold raises {type(e).__name__}: {e}")
    return found


def _refusal(trap: Trap, model: nn.Module, args: Args, found: Found) -> None:
    try:
        flatconv.fold(model, args, **({"dynamic": False} | trap.fold_options()))
    except FlatconvError as e:
        if type(e).__name__ != trap.error or trap.says not in str(e):
            found.note(TRAPS, f"refused with other words: {type(e).__name__}: {e}")
    except Exception as e:
        found.note(TRAPS, f"raises {type(e).__name__} where a refusal is due: {e}")
    else:
        found.note(TRAPS, "folded where a refusal is due")


def _fold(trap: Trap, model: nn.Module, args: Args, found: Found) -> tuple[Any, _Seen]:
    """Fold with verification, noting what it says at each level without being stopped by it."""
    folding, verifying = sys.modules["flatconv.fold"], sys.modules["flatconv.verify"]
    right_site, right_all, seen = verifying.site_evidence, folding.verify_all, _Seen()

    def site_evidence(*given: Any, **named: Any) -> Any:
        try:
            return right_site(*given, **named)
        except VerificationError as e:
            found.note(SITE, str(e))
        except Exception as e:
            found.note(CRASH, f"site oracle: {type(e).__name__}: {e}")
        return SiteEvidence("tested", "noted")

    def verify_all(captured: Any, analysis: Any, lowered: Any, flat: Any, *rest: Any, **named: Any) -> Any:
        seen.captured, seen.analysis, seen.flat = captured, analysis, flat
        try:
            return right_all(captured, analysis, lowered, flat, *rest, **named)
        except VerificationError as e:
            found.note(WHOLE, str(e))
        except Exception as e:
            found.note(CRASH, f"whole model: {type(e).__name__}: {e}")
        return verifying.Evidence()

    options = {"dynamic": False, "verify": trap.verify} | trap.fold_options()
    try:
        with (
            mock.patch.object(verifying, "site_evidence", site_evidence),
            mock.patch.object(folding, "verify_all", verify_all),
            everywhere(trap.form) if trap.form else nullcontext(),
        ):
            return flatconv.fold(model, args, **options), seen
    except FlatconvError as e:
        found.note(TRAPS, f"refused: {type(e).__name__}: {e}")
    except Exception as e:
        found.note(CRASH, f"fold: {type(e).__name__}: {e}")
    return seen.flat, seen


# --- values, as a user sees them


def _values(trap: Trap, model: nn.Module, args: Args, flat: Any, found: Found) -> None:
    # Not model.forward: hooks (weight_norm has one) belong to the call.
    called = getattr(model, trap.options["method"]) if "method" in trap.options else model
    if not trap.runs:
        return
    with torch.no_grad():
        before = _owned(called(*_copies(args)))
        result = flat(*_copies(args))
        _same(trap, model, args, result, before, "the example", found)
        _memory(model, args, called, flat, result, found)
        _same(trap, model, args, flat(*_copies(args)), before, "a second call", found)
        trap.seed()
        for more in trap.others() if trap.others else ():
            _other(trap, model, called, trap.cast(more), flat, found)
        for more in trap.guarded() if trap.guarded else ():
            _guarded(flat, more, found)
        _later(trap, model, args, called, flat, before, found)


def _copies(args: Args) -> Args:
    # Views of one element over many places stay such: a copy would not fit.
    return tuple(a.clone() if isinstance(a, torch.Tensor) and 0 not in a.stride() else a for a in args)


def _owned(value: Any) -> Any:
    """A result in memory of its own, so that a later change of a weight does not reach it."""
    return tree_map(lambda v: v.clone() if isinstance(v, torch.Tensor) else v, value)


def leaves(value: Any) -> list[torch.Tensor]:
    """All tensors of a result, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, Sequence) else ()
    return list(itertools.chain.from_iterable(leaves(v) for v in items))


def _same(trap: Trap, model: nn.Module, args: Args, given: Any, wanted: Any, what: str, found: Found) -> None:
    if type(given) is not type(wanted) or len(leaves(given)) != len(leaves(wanted)):
        found.note(TRAPS, f"{what}: {type(given).__name__} instead of {type(wanted).__name__}")
        return
    for i, (new, old) in enumerate(zip(leaves(given), leaves(wanted), strict=True)):
        if new.shape != old.shape or new.dtype != old.dtype:
            found.note(
                TRAPS, f"{what}: output {i} is {tuple(new.shape)} {new.dtype}, not {tuple(old.shape)} {old.dtype}"
            )
        elif not old.numel():
            continue
        elif trap.exact:
            if not torch.equal(torch.nan_to_num(new), torch.nan_to_num(old)):
                found.note(TRAPS, f"{what}: output {i} is not equal bit for bit")
        elif old.dtype == torch.float64:
            apart = _apart(new, old)
            if not apart < LIMIT:
                found.note(TRAPS, f"{what}: output {i} is {apart:.3g} away")
        else:
            _no_worse(model, args, i, new, old, what, found)


def _apart(new: torch.Tensor, old: torch.Tensor) -> float:
    if not torch.equal(new.isnan(), old.isnan()):
        return float("inf")
    new, old = new.nan_to_num().double(), old.nan_to_num().double()
    return float((new - old).abs().max() / old.abs().max().clamp_min(1e-300))


def _no_worse(
    model: nn.Module, args: Args, i: int, new: torch.Tensor, old: torch.Tensor, what: str, found: Found
) -> None:
    """A fold in another type may be no further from float64 than twice the original is, nor from the original."""
    eps = torch.finfo(old.dtype).eps
    if not _apart(new, old) <= _leap(model) * eps:
        found.note(TRAPS, f"{what}: output {i} is {_apart(new, old):.3g} from the original")
    if what != "the example":
        return
    try:
        exact = copy.deepcopy(model).double()(*(a.double() if a.is_floating_point() else a for a in args))
    except RuntimeError:  # types written into the model's code
        return
    reference = leaves(exact)[i].double()
    original, folded = _apart(old.double(), reference), _apart(new.double(), reference)
    if not folded <= 2 * original + 4 * eps:
        found.note(TRAPS, f"{what}: output {i} is {folded:.3g} from float64, the original {original:.3g}")


def _leap(model: nn.Module) -> float:
    """How many roundings apart two right answers may be: one for each layer, and the terms of its sums."""
    return 64.0 * max(len(list(model.modules())), 1)


def _memory(model: nn.Module, args: Args, called: Any, flat: Any, result: Any, found: Found) -> None:
    """Results own their memory where the original's do: writing to them changes nothing else."""
    own = {t.untyped_storage().data_ptr() for t in itertools.chain(model.parameters(), model.buffers())}
    held = {t.untyped_storage().data_ptr() for t in itertools.chain(flat.parameters(), flat.buffers())}
    for old, new in zip(leaves(called(*_copies(args))), leaves(result), strict=True):
        place = new.untyped_storage().data_ptr()
        if new.numel() and place in held | own and old.untyped_storage().data_ptr() not in own:
            found.note(TRAPS, "a result lies in the memory of a weight")
        shared = new.numel() and 0 in [s for s, n in zip(new.stride(), new.shape, strict=True) if n > 1]
        if shared and 0 not in [s for s, n in zip(old.stride(), old.shape, strict=True) if n > 1]:
            found.note(TRAPS, "elements of a result share memory")


def _other(trap: Trap, model: nn.Module, called: Any, args: Args, flat: Any, found: Found) -> None:
    try:
        given = flat(*_copies(args))
    except GuardError:
        return
    except Exception as e:
        given = e
    try:
        wanted = called(*_copies(args))
    except Exception as e:
        if not isinstance(given, Exception):
            found.note(TRAPS, f"the fold answers where the model raises {type(e).__name__}")
        return
    shapes = [tuple(a.shape) for a in args if isinstance(a, torch.Tensor)]
    if isinstance(given, Exception):
        found.note(TRAPS, f"the fold raises {type(given).__name__} on {shapes}: {given}")
    else:
        _same(trap, model, args, given, wanted, f"inputs {shapes}", found)


def _guarded(flat: Any, args: Args, found: Found) -> None:
    try:
        flat(*_copies(args))
    except GuardError:
        return
    except Exception as e:
        found.note(TRAPS, f"raises {type(e).__name__} where a guard is due")
        return
    found.note(TRAPS, "answers a call that a guard has to stop")


def _later(trap: Trap, model: nn.Module, args: Args, called: Any, flat: Any, before: Any, found: Found) -> None:
    """Weights changed after the fold: folded ones keep the old answer, shared ones give the new one."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            tensor.mul_(1.5)
    wanted = called(*_copies(args)) if trap.options.get("weights") == "shared" else before
    _same(trap, model, args, flat(*_copies(args)), wanted, "weights changed later", found)


# --- claims


def _claims(captured: Any, analysis: Any, found: Found) -> None:
    """Hold every claim of the facts against the values that the captured operators compute."""
    program, example = captured.program, captured.example
    generator = torch.Generator().manual_seed(7)
    drawn = [t if not t.is_floating_point() else torch.randn(t.shape, generator=generator).to(t) for t in example]
    for a in captured.assumed:
        drawn[a.position] = a.satisfy(drawn[a.position])
    for tensors in ([*example], drawn):
        given = {n: t.clone() for n, t in zip(program.inputs, tensors, strict=True)}
        words = next(false_claims(program, analysis, run(program, given)), None)
        if words:
            found.note(FACTS, words)
            return


def run(program: Program, inputs: Mapping[Node, torch.Tensor]) -> dict[Node, Any]:
    """The value of every node, computed by the operators of the captured graph themselves."""
    values: dict[Node, Any] = {}
    with torch.no_grad():
        for node in program.nodes:
            if node.op == "input":
                values[node] = inputs[node]
            elif node.op == "weight":
                values[node] = program.weights[node]
            elif "_assert" in node.op:
                values[node] = None
            else:
                assert node.target is not None
                args = transform(node.args, lambda v: values[v] if isinstance(v, Node) else v)
                if isinstance(node.target, torch._ops.OpOverload):
                    listed = node.target._schema.arguments
                    named = {a.name: args[a.name] for a in listed if a.kwarg_only}
                    values[node] = node.target(*(args[a.name] for a in listed if not a.kwarg_only), **named)
                else:
                    values[node] = node.target(*args.values())
    return values


def false_claims(program: Program, analysis: Any, values: Mapping[Node, Any]) -> Iterator[str]:
    """Claims of the facts that the values contradict, in words."""
    first: dict[int, tuple[torch.Tensor, str, float]] = {}
    for node in program.nodes:
        value = values[node]
        if node.shape is None or not isinstance(value, torch.Tensor):
            continue
        for axis, slices in enumerate(analysis.facts.of[node]):
            if slices is None or (slices.all_distinct and len(slices) > 1):
                continue
            if len(slices) != value.shape[axis]:
                yield f"{len(slices)} numbers for axis {axis} of {node.op} {tuple(value.shape)}"
                continue
            for i, number in enumerate(slices):
                piece, what = value.select(axis, i), f"slice {i} along axis {axis} of {node.name} ({node.op})"
                within = _slack(value)
                if number == ZERO:
                    if bool(piece.any()):
                        yield f"{what} is claimed to be zero"
                elif number in first:
                    other, elsewhere, slack = first[number]
                    if not _equal(piece, other, max(within, slack)):
                        yield f"{what} is claimed to equal {elsewhere}"
                else:
                    first[number] = (piece, what, within)


def _slack(value: torch.Tensor) -> float:
    if not value.dtype.is_floating_point or not value.numel():
        return 0.0
    return 1e4 * torch.finfo(value.dtype).eps * (1 + float(value.detach().nan_to_num().double().abs().max()))


def _equal(a: torch.Tensor, b: torch.Tensor, within: float) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=0, atol=within, equal_nan=True)
