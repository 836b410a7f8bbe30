"""Whether a combination of forms is as accurate as the original in its own type.

All forms are the same sum in another order, but what they hand on is not: torch's kernels for other memory formats can lose
digits where those for the usual one do not. On a CPU its group norm of a channels-last volume errs 400 times as much.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch

from flatconv.accuracy import allowed, spread, together
from flatconv.capture import Capture
from flatconv.interpret import run_graph, widen
from flatconv.signature import Outputs


class Accuracy:
    """Holds what a call returns for the example against the original in float64, as verification does.

    Args:
        captured: the model.
        original: its call in the engine at hand, whose own kernels may err more than those of eager PyTorch.
    """

    def __init__(self, captured: Capture, original: Callable[[], Any]) -> None:
        self._captured = captured
        self._original = original

    @cached_property
    def _reference(self) -> tuple[torch.Tensor, ...] | None:
        """The original in float64; None where it cannot be run, or looked at."""
        captured = self._captured
        if captured.updates or captured.program.random:
            return None
        try:
            return self._run(wide=True)
        except (RuntimeError, ValueError, IndexError, NotImplementedError):
            return None

    @cached_property
    def _most(self) -> float:
        """What a combination may err."""
        reference = self._reference
        assert reference is not None
        own = max(self._error(self._run()), self._error(Outputs().record(self._original())))
        factor, floor = allowed([o.dtype for o in self._captured.program.outputs], sum(r.numel() for r in reference))
        return factor * own + floor if math.isfinite(own) else math.inf

    def _run(self, wide: bool = False) -> tuple[torch.Tensor, ...]:
        """The captured graph on the example."""
        captured = self._captured
        given = dict(zip((n.name for n in captured.program.inputs), captured.example, strict=True))
        return tuple(run_graph(captured.graph.graph, captured.weights | given, {}, wide=wide))

    def _error(self, results: tuple[torch.Tensor, ...]) -> float:
        assert self._reference is not None
        return together([spread(widen(a), b) for a, b in zip(results, self._reference, strict=True)])

    def holds(self, call: Callable[[], Any]) -> bool:
        """Whether a call that runs is accurate enough, as far as that can be told."""
        with torch.inference_mode():
            return self._reference is None or self._error(Outputs().record(call())) <= self._most
