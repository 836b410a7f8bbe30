"""torch.export of a model with as many sizes left free as it allows, and the conditions that this rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from flatconv.acceptance import check_results, module_path
from flatconv.assume import Assumed
from flatconv.errors import InputError, RefusedError
from flatconv.exporting import export, functional, same_graph, squeezed, user_inputs
from flatconv.guards import holds, safe, translate
from flatconv.modelstate import Declared, Modes, unchanged
from flatconv.signature import Adapter, Inputs, Outputs, method_of
from flatconv.writes import check_writes

AUTO = torch.export.Dim.AUTO

Dims = list[dict[int, Any]]


@dataclass(frozen=True)
class Traced:
    """One capture.

    Attributes:
        first: as torch.export made it.
        exported: functional; the same where that was functional already.
        outputs: form of the results.
        conditions: on sizes, as Python over ``s[input][axis]``; of both, since writing out decides on sizes too.
    """

    first: torch.export.ExportedProgram
    exported: torch.export.ExportedProgram
    outputs: Outputs
    conditions: tuple[str, ...]

    def broken(self, example: Sequence[torch.Tensor]) -> list[str]:
        """Conditions that the example does not meet, or that cannot be read."""
        sizes = [tuple(t.shape) for t in example]
        unreadable = [c for c in self.conditions if not safe(c)]
        return unreadable or [c for c in self.conditions if not holds(c, sizes)]


@dataclass(frozen=True)
class Tracing:
    """A model to be traced on an example call.

    Attributes:
        model: the original.
        method: the method captured.
        inputs: form of the call.
        example: its tensors.
        modes: is told which modules look at their mode.
    """

    model: nn.Module
    method: str
    inputs: Inputs
    example: list[torch.Tensor]
    modes: Modes

    @property
    def called(self) -> str:
        """The method in words."""
        return f"{type(self.model).__name__}.{self.method}"

    def trace(self, tensors: Sequence[torch.Tensor], dims: Dims | None) -> Traced:
        """Capture the model on tensors, with the axes in ``dims`` left free."""
        outputs = Outputs()
        # torch.export notes at tensors which of their sizes were free: another attempt must not find that.
        tensors = [t.detach().requires_grad_(t.requires_grad) for t in tensors]
        first = export(Adapter(self.model, self.method, self.inputs, outputs, self.modes), tensors, dims)
        conditions = _conditions(first)
        exported = functional(first)
        if exported is not first:
            check_writes(first.graph)
            conditions += _conditions(exported)
        return Traced(first, exported, outputs, tuple(dict.fromkeys(conditions)))

    def freest(self, dynamic: str | bool, assumed: Sequence[Assumed]) -> tuple[Traced, bool, list[str]]:
        """The capture with most sizes free, whether a batch of one was tried beside two, and remarks.

        Raises:
            InputError: ``dynamic`` is none of its values, or the model itself fails on the example.
            RefusedError: torch.export cannot capture the model.
        """
        if dynamic not in ("auto", True, False):
            raise InputError(f"dynamic is {dynamic!r}; it may be 'auto', True (the same) or False")
        notes: list[str] = []
        for free, tensors, dims in self._attempts(assumed) if dynamic else ():
            if not any(dims):
                continue
            try:
                traced = self.trace(tensors, dims)
            except RefusedError:
                raise
            except Exception as e:
                if not notes:
                    check_runs(self.model, self.method, self.inputs, self.example)
                notes.append(f"{free} could not stay free: {type(e).__name__}: {first_lines(e, 1)[:200]}")
                continue
            entangled = _entangled(traced.exported)
            if entangled:
                notes.append(f"{free} could not stay free: {entangled}")
                continue
            broken = traced.broken(self.example)
            one = any(a.shape != b.shape for a, b in zip(tensors, self.example, strict=True))
            # A batch of one may take another path than the two that were captured, and not every operator leaves a
            # condition that tells. Both captures are compared; if they are alike, conditions on the batch decide nothing.
            # A condition that cannot be read is never taken to be harmless.
            harmless = all(safe(c) and set(_axes(c)) == {"0"} for c in broken)
            if one and harmless and self._same_at(self.example, traced):
                return traced, True, notes
            if not one and not broken:
                single = _batch_of_one(traced.exported, self.example)
                return traced, bool(single) and self._same_at(single, traced), notes
            notes.append(f"{free} could not stay free: the model takes another path for the example's own sizes")
        try:
            return self.trace(self.example, None), False, notes
        except RefusedError:
            raise
        except Exception as e:
            check_runs(self.model, self.method, self.inputs, self.example)
            raise RefusedError(
                f"{self.called} cannot be captured by torch.export: {type(e).__name__}: {first_lines(e)}. Data-dependent "
                "shapes or branches are the usual reason: fold the submodule that holds the convolutions instead, or let "
                "flatconv.patch find the parts that can be folded in place"
            ) from e

    def _attempts(self, assumed: Sequence[Assumed]) -> list[tuple[str, list[torch.Tensor], Dims]]:
        example = self.example
        # A size of 1 is a fact worth more than its freedom, and so is one about which something was declared.
        held = {(a.position, a.axis) for a in assumed}
        if isinstance(self.model, Declared):
            held |= self.model.fixed_axes
        places = [(t.dim() - 2, t.dim() - 1) if t.dim() >= 4 else () for t in example]
        space: Dims = [
            {a: AUTO for a in p if t.shape[a] > 1 and (i, a) not in held}
            for i, (p, t) in enumerate(zip(places, example, strict=True))
        ]
        batch: Dims = [
            {0: AUTO} if t.dim() and t.shape[0] and (i, 0) not in held else {} for i, t in enumerate(example)
        ]
        # torch treats a size of 1 as fixed, so a batch of one is doubled to leave the batch free.
        doubled = [torch.cat([t, t]) if b and t.shape[0] == 1 else t for b, t in zip(batch, example, strict=True)]
        return [
            ("batch, height and width", doubled, [d | b for b, d in zip(batch, space, strict=True)]),
            ("height and width", example, space),
            ("batch", doubled, batch),
        ]

    def _same_at(self, example: list[torch.Tensor], traced: Traced) -> bool:
        """Whether capturing at these very sizes gives the same graph, so that a broken condition decides nothing."""
        try:
            fixed = self.trace(example, None)
        except Exception:
            return False
        return same_graph(traced.first.graph, fixed.first.graph, example) and (
            traced.exported is traced.first or same_graph(traced.exported.graph, fixed.exported.graph, example)
        )


def check_runs(model: nn.Module, method: str, inputs: Inputs, example: Sequence[torch.Tensor]) -> None:
    """Run the example after a failure, so that a wrong shape is reported by the model and not by torch.export.

    Raises:
        InputError: the model itself fails.
        RefusedError: what it returns cannot be folded.
    """
    called = method_of(model, method)
    args, kwargs = inputs.arguments([t.clone() for t in example])
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), unchanged(model):
            results = Outputs().record(called(*args, **kwargs))
    except RefusedError:
        raise
    except Exception as e:
        shapes = ", ".join(f"{n} {tuple(t.shape)} {t.dtype}" for n, t in zip(inputs.names, example, strict=True))
        raise InputError(
            f"the model itself fails on the example call ({shapes}): {type(e).__name__}: {first_lines(e)}. "
            "Pass an example that the model accepts"
        ) from e
    check_results(results)


def first_lines(error: BaseException, count: int = 3) -> str:
    """What somebody else's exception says, in one line."""
    try:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    except Exception:
        return "no message that can be read"
    return " ".join(lines[:count])[:500]


def _entangled(exported: torch.export.ExportedProgram) -> str | None:
    """Whether a convolution's own parameters depend on a free size, as when channels lie on the last axis."""
    for node in exported.graph.nodes:
        if "aten.conv" in str(node.target):
            flat = [a for arg in node.args[3:] for a in (arg if isinstance(arg, list | tuple) else [arg])]
            if any(isinstance(a, fx.Node) for a in flat):
                return f"the channels of {module_path(node) or node.name} would change with it"
    return None


def _batch_of_one(exported: torch.export.ExportedProgram, example: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The example with a batch of one; empty if the batch is fixed."""
    free = [
        bool(t.dim()) and not isinstance(n.meta["val"].shape[0], int)
        for n, t in zip(user_inputs(exported), example, strict=True)
    ]
    return [t[:1] if f else t for f, t in zip(free, example, strict=True)] if any(free) else []


def _axes(condition: str) -> list[str]:
    return re.findall(r"s\[\d+\]\[(\d+)\]", condition)


def _conditions(exported: torch.export.ExportedProgram) -> list[str]:
    written = [translate(c) for c in getattr(exported, "_guards_code", None) or []]
    return [*written, *squeezed(exported)]
