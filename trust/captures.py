"""Captures kept from one copy of the product to the next.

Most of the time of a fold is torch.export, which is torch's own and the same for every copy. So each model of the corpus is
captured once; the process is then forked for every mutant, which imports its own copy of the product and is handed the
exported programs. Copies whose mistake lies in how torch.export is called do without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.export import ExportedProgram

from trust.trap import Args, Trap

CAPTURING = ("exporting.py", "signature.py", "modelstate.py")
"""Files that decide what torch.export sees."""


@dataclass
class Kept:
    """One model with what torch.export made of it, call by call.

    Attributes:
        model: with its weights.
        args: an example call.
        calls: (form of the call, the exported program) of each call of torch.export.
        written: the exported programs without in-place operators, by what they were made from.
    """

    model: nn.Module
    args: Args
    calls: list[tuple[str, ExportedProgram]] = field(default_factory=list)
    written: dict[int, ExportedProgram] = field(default_factory=dict)


def _form(tensors: Sequence[torch.Tensor], options: Any) -> str:
    return repr(([(tuple(t.shape), t.dtype) for t in tensors], options))


def keep(trap: Trap) -> Kept:
    """Fold a trap with the product as it is, and keep what torch.export makes on the way."""
    import flatconv

    kept = Kept(*trap.build())
    if not trap.runs:
        return kept
    right_export, right_decompose = torch.export.export, ExportedProgram.run_decompositions

    def export(module: nn.Module, tensors: Sequence[torch.Tensor], **options: Any) -> ExportedProgram:
        made = right_export(module, tensors, **options)
        kept.calls.append((_form(tensors, options), made))
        return made

    def decompose(exported: ExportedProgram, *args: Any) -> ExportedProgram:
        kept.written[id(exported)] = right_decompose(exported, *args)
        return kept.written[id(exported)]

    options = {"dynamic": False, "verify": False} | trap.fold_options()
    with _instead(export, decompose):
        try:
            flatconv.fold(kept.model, kept.args, **options)
        except Exception:
            # A refusal is to come from the copy itself, and what cannot be folded is looked at there.
            return Kept(*trap.build())
    return kept


@contextmanager
def handed(kept: Kept) -> Iterator[None]:
    """Hand kept programs to the copy of the product that is imported now."""
    right_export, right_decompose = torch.export.export, ExportedProgram.run_decompositions
    left = list(kept.calls)

    def export(module: nn.Module, tensors: Sequence[torch.Tensor], **options: Any) -> ExportedProgram:
        if not left or left[0][0] != _form(tensors, options):
            left.clear()
            return right_export(module, tensors, **options)
        with torch.no_grad():
            module(*(t.clone() if 0 not in t.stride() else t for t in tensors))  # takes down the form of the result
        return left.pop(0)[1]

    def decompose(exported: ExportedProgram, *args: Any) -> ExportedProgram:
        return kept.written.get(id(exported)) or right_decompose(exported, *args)

    with _instead(export, decompose):
        yield


@contextmanager
def _instead(export: Any, decompose: Any) -> Iterator[None]:
    with (
        mock.patch.object(torch.export, "export", export),
        mock.patch.object(ExportedProgram, "run_decompositions", decompose),
    ):
        yield
