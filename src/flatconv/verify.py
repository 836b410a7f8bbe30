"""How far a rewrite is known to be right.

Each rewritten convolution is put to oracles of its own (``flatconv.oracle``). The whole model is then compared with the
original in float64, where a wrong rewrite cannot hide behind rounding, and in its own type, where it may not be much less
accurate than the original was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
import torch

from flatconv.accuracy import FACTOR, allowed, spread, together, worst
from flatconv.analyse import Analysis
from flatconv.audit import site_names
from flatconv.capture import Capture
from flatconv.errors import GuardError, PrecisionError, VerificationError, first_line
from flatconv.interpret import evaluate, run_graph, widen
from flatconv.lower import Lowered, Weights
from flatconv.modelstate import unchanged
from flatconv.module import Folded
from flatconv.oracle import SiteEvidence, site_evidence
from flatconv.program import concrete
from flatconv.signature import Outputs, method_of
from flatconv.soundness import check_refusals, check_results, check_state
from flatconv.tracing import check_runs

FLOAT64_LIMIT = 1e-10
ALIKE = 64
"""Units of rounding, root mean square, within which two calls of one model give the same result."""
FEW = 256
"""Outputs of fewer numbers are compared on more inputs."""


@dataclass(frozen=True)
class Comparison:
    """One run of original and fold on the same input.

    Attributes:
        shapes: of the inputs.
        float64_error: largest difference of any output in float64, over the largest value of the original's.
        original_error: of the original in its own type against float64: root mean square, over that of the output, and over
            all outputs.
        folded_error: the same of the fold.
        elements: numbers compared.
    """

    shapes: tuple[tuple[int, ...], ...]
    float64_error: float
    original_error: float
    folded_error: float
    elements: int


@dataclass(frozen=True)
class Evidence:
    """Everything that was checked; empty if nothing was.

    Attributes:
        sites: by site name.
        runs: of the whole model.
    """

    sites: Mapping[str, SiteEvidence] = field(default_factory=dict)
    runs: tuple[Comparison, ...] = ()

    @property
    def float64_error(self) -> float | None:
        """The worst over all runs."""
        return max((r.float64_error for r in self.runs), default=None)


def verify_all(
    captured: Capture, analysis: Analysis, lowered: Lowered, flat: Folded, weights: Weights = "folded"
) -> Evidence:
    """Check every rewritten site, the weights and the guards, then the whole model.

    Raises:
        VerificationError: some check failed.
    """
    names = site_names(analysis)
    sites = {}
    for node, here in analysis.sites.items():
        if here.applied:
            held = captured.program.weights
            weight = evaluate(here.weight, held) if here.weight in captured.program.constant else None
            sites[names[node]] = site_evidence(here, analysis.facts, weight, names[node])
    with torch.no_grad(), torch.random.fork_rng():
        wide = {c.name: c.value(captured.program.weights, wide=True) for c in lowered.constants.values()}
        check_state(captured, lowered, flat, wide, weights == "shared")
        check_refusals(captured, flat)
        runs = []
        with unchanged(captured.model):
            trials = _trials(captured)
        for i, tensors in enumerate(trials):
            try:
                runs.append(compare(captured, lowered, flat, wide, tensors))
            except _CannotRunError as e:
                if i == 0:
                    check_runs(captured.model, captured.method, captured.inputs, captured.example)
                    raise VerificationError(
                        f"the example cannot be run in float64, so nothing can be compared: {e}"
                    ) from e
    _judge_precision(captured, runs)
    return Evidence(sites, tuple(runs))


class _CannotRunError(Exception):
    """The original cannot be run in float64 on these inputs."""


def _shapes(tensors: Sequence[torch.Tensor]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(t.shape) for t in tensors)


def compare(
    captured: Capture,
    lowered: Lowered,
    flat: Folded,
    wide: Mapping[str, torch.Tensor],
    tensors: Sequence[torch.Tensor],
) -> Comparison:
    """Run original and fold on the same tensors, in float64 and in their own type."""
    placeholders = [n.name for n in captured.program.inputs]
    given = dict(zip(placeholders, tensors, strict=True))
    _seed(captured)
    try:
        reference = run_graph(captured.graph.graph, captured.weights | given, {}, wide=True)
    except (RuntimeError, ValueError, IndexError, NotImplementedError) as e:
        # Some sizes that a model accepts in its own type are refused in float64 (an empty result, say).
        raise _CannotRunError(str(e)) from e
    _seed(captured)
    try:
        folded = run_graph(lowered.graph, given, wide, wide=True)
    except (RuntimeError, ValueError, IndexError) as e:
        raise VerificationError(f"the fold fails where the original runs, for inputs {_shapes(tensors)}: {e}") from e
    # Copies, since a model may write into what it is given.
    called = method_of(captured.model, captured.method)
    try:
        original = _results(captured, called, [t.clone() for t in tensors])
    except Exception as e:
        raise VerificationError(
            f"the model fails for inputs {_shapes(tensors)}, which it took before: {type(e).__name__}: {first_line(e)}. "
            "Does it keep state between calls? Nothing was written"
        ) from e
    copies, shapes = [t.clone() for t in tensors], _shapes(tensors)
    own = _results(captured, flat, copies)
    for name, copied, tensor in zip(captured.inputs.names, copies, tensors, strict=True):
        if not torch.equal(copied.nan_to_num(), tensor.nan_to_num()):
            raise VerificationError(
                f"the fold writes into its input '{name}', for inputs of shape {shapes}. Nothing was written. This is a bug in "
                "flatconv: please report it with the model"
            )
    check_results(captured, flat, original, own)
    for i, (a, b) in enumerate(zip(original, own, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise VerificationError(
                f"output {i} of the fold is {tuple(b.shape)} {b.dtype}, the original's is {tuple(a.shape)} {a.dtype}, "
                f"for inputs of shape {shapes}"
            )
    found = Comparison(
        shapes,
        max((worst(f, r) for f, r in zip(folded, reference, strict=True)), default=0.0),
        together([spread(widen(o), r) for o, r in zip(original, reference, strict=True)]),
        together([spread(widen(o), r) for o, r in zip(own, reference, strict=True)]),
        sum(r.numel() for r in reference),
    )
    _seed(captured)
    captured_own = run_graph(captured.graph.graph, captured.weights | given, {})
    _judge(found, original, captured_own, reference)
    return found


def _seed(captured: Capture) -> None:
    """Let every side draw the same masks, where masks are drawn."""
    if captured.program.random:
        torch.manual_seed(0)


def _results(
    captured: Capture, called: Callable[..., Any], tensors: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """What a call changes of buffers, then its results; the buffers are put back."""
    args, kwargs = captured.inputs.arguments(tensors)
    _seed(captured)
    # Whatever else a call leaves behind stays, so that a model that keeps state shows it.
    buffers = {n: b for n, b in captured.model.named_buffers(remove_duplicate=False) if n in captured.updates}
    before = {name: b.detach().clone() for name, b in buffers.items()}
    try:
        results = type(captured.outputs)().record(called(*args, **kwargs))
        return tuple(buffers[name].detach().clone() for name in captured.updates) + results
    finally:
        for name, b in buffers.items():
            b.copy_(before[name])


def _judge(
    found: Comparison,
    original: Sequence[torch.Tensor],
    captured_own: Sequence[torch.Tensor],
    reference: Sequence[torch.Tensor],
) -> None:
    if not found.float64_error < FLOAT64_LIMIT:
        raise VerificationError(
            f"in float64 the fold differs from the original by {found.float64_error:.3g} of its largest output, more than "
            f"{FLOAT64_LIMIT:g}, for inputs of shape {found.shapes}. Nothing was written. This is a bug in flatconv: "
            "please report it with the model"
        )
    # The captured graph is the reference for both, so it must itself be the model that was given: in the model's own type
    # it makes the same calls, and may differ from it by no more than rounding does.
    for i, (o, c, r) in enumerate(zip(original, captured_own, reference, strict=True)):
        apart, noise = spread(widen(c), widen(o)), spread(widen(c), r)
        floor = 4 * torch.finfo(o.dtype).eps if o.dtype.is_floating_point else 0.0
        if not apart <= max(FACTOR * noise, floor):
            wrong = spread(widen(o), r)
            raise VerificationError(
                f"output {i} of the captured graph is {apart:.3g} away from the model itself, rounding explains {noise:.2g}: "
                "the capture is not the model (does it draw random numbers, or keep state between calls?), or "
                f"{str(o.dtype).removeprefix('torch.')} is not computed rightly here: the model's own result is {wrong:.2g} of "
                "its size away from float64. Nothing was written"
            )


def _judge_precision(captured: Capture, runs: Sequence[Comparison]) -> None:
    """The fold may not be much less accurate than the original: over all runs and outputs, since each alone is noisy."""
    for run in runs:
        if math.isfinite(run.original_error) and not math.isfinite(run.folded_error):
            raise PrecisionError(
                f"the fold's result is not finite where the original's is, for inputs of shape {run.shapes}: weights or "
                "results do not fit the type. Fold the model in float32. Nothing was written"
            )
    runs = [r for r in runs if math.isfinite(r.original_error)]
    if not runs:
        return  # the original overflows everywhere: its own type tells nothing
    before = math.sqrt(sum(r.original_error**2 for r in runs) / len(runs))
    behind = math.sqrt(sum(r.folded_error**2 for r in runs) / len(runs))
    factor, floor = allowed([o.dtype for o in captured.program.outputs], sum(r.elements for r in runs))
    if not behind <= factor * before + floor:
        raise PrecisionError(
            f"the fold has an error of {behind:.3g} against float64 in its own type, the original {before:.3g}: more than "
            f"{factor:.2g} times as much, over inputs of shapes {[r.shapes for r in runs]}. Nothing was written"
        )


def alike(a: Any, b: Any) -> bool:
    """Whether two results of a model, nested in any way, are the same up to rounding."""
    left, right = Outputs().record(a), Outputs().record(b)
    if [(t.shape, t.dtype) for t in left] != [(t.shape, t.dtype) for t in right]:
        return False
    eps = [torch.finfo(t.dtype).eps if t.dtype.is_floating_point else 0.0 for t in left]
    return all(spread(widen(x), widen(y)) <= ALIKE * e for x, y, e in zip(left, right, eps, strict=True))


def _trials(captured: Capture) -> list[list[torch.Tensor]]:
    """The user's example, random values of the same shape, and where sizes are free, another size."""
    generator = torch.Generator().manual_seed(0)
    example = captured.example
    few = sum(math.prod(concrete(o.shape or (), sizes_of(captured))) for o in captured.program.outputs) < FEW
    shapes = [[tuple(t.shape) for t in example]] * (5 if few else 1)
    shapes += _other_sizes(captured)
    trials = [list(example)]
    for wanted in shapes:
        trial = [_random_like(t, s, generator) for t, s in zip(example, wanted, strict=True)]
        for a in captured.assumed:
            trial[a.position] = a.satisfy(trial[a.position])
        trials.append(trial)
    return trials


def sizes_of(captured: Capture) -> dict[sympy.Symbol, int]:
    """The free sizes of the example."""
    shapes = {n: tuple(t.shape) for n, t in zip(captured.program.inputs, captured.example, strict=True)}
    return captured.program.sizes(shapes)


def _random_like(tensor: torch.Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if tensor.dtype.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=torch.float32).to(tensor)
    # Whole numbers are often indices: only values that the example has are used.
    if not tensor.numel():
        return tensor.new_zeros(shape)
    flat = tensor.reshape(-1)
    picks = torch.randint(flat.numel(), shape, generator=generator)
    return flat[picks.to(flat.device)]


SMALLER = ((3, 0.5, 0.75), (3, 0.5, 1.0), (3, 1.0, 0.5), (3, 1.0, 1.0), (2, 1.0, 1.0))
LARGER = ((0, 1.25, 1.5), (0, 1.5, 1.25), (0, 2.0, 1.5), (0, 2.0, 1.0), (0, 1.0, 2.0))
"""Batch (0: as in the example), and factors of height and width, in the order in which they are tried."""
LARGE = 2**22
"""Elements of an input above which nothing larger is tried."""


def _other_sizes(captured: Capture) -> list[list[tuple[int, ...]]]:
    """A smaller and a larger size than the example's in every free axis, such as guards and model accept."""
    if all(s is not None for g in captured.guards.inputs for s in g.shape):
        return []
    small = sum(t.numel() for t in captured.example) <= LARGE
    found = [_accepted(captured, SMALLER), _accepted(captured, LARGER) if small else None]
    return [f for f in found if f is not None]


def _accepted(captured: Capture, tried: Sequence[tuple[int, float, float]]) -> list[tuple[int, ...]] | None:
    """The first of the sizes that the guards let through and the model takes."""
    for batch, height, width in tried:
        shapes = []
        for guard, tensor in zip(captured.guards.inputs, captured.example, strict=True):
            shape = list(tensor.shape)
            for a, size in enumerate(guard.shape):
                if size is None:
                    factor = {tensor.dim() - 2: height, tensor.dim() - 1: width}.get(a) if a else None
                    shape[a] = (batch or shape[a]) if factor is None else max(int(shape[a] * factor), 1)
            shapes.append(tuple(shape))
        if shapes == [tuple(t.shape) for t in captured.example]:
            continue
        trial = [t.new_zeros(s) for t, s in zip(captured.example, shapes, strict=True)]
        try:
            captured.guards.check(trial)
            args, kwargs = captured.inputs.arguments(trial)
            called = method_of(captured.model, captured.method)
            called(*args, **kwargs)
        except (GuardError, RuntimeError, ValueError, AssertionError, IndexError, TypeError):
            continue
        return shapes
    return None
