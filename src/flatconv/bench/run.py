"""Runs a benchmark: every engine in turn, its sides alternately, then memory."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from flatconv import measure, tune
from flatconv.bench import engines, machine
from flatconv.bench.agreement import Agreement
from flatconv.bench.engines import ENGINES, NAMES, Engine
from flatconv.bench.result import Bench, Row, Timed
from flatconv.bench.sides import Case, Side
from flatconv.errors import FlatconvError, InputError, MissingExtraError, RefusedError, first_line, plain

SHORT = 0.5
"""Seconds below which the share of other processes says nothing: the system counts in hundredths."""

Doing = Callable[[str, Callable[[], Any]], Any]
"""Does a part of the work, and may say so: it is given a few words and the work."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often.

    Attributes:
        engines: that are asked.
        device: 'cpu' or 'cuda'.
        dtype: of weights and inputs, such as 'bfloat16'; None to take them as they are.
        threads: of every engine; None for as many as torch has.
        warmup: calls of each side before the first round, after the one that may compile.
        least: rounds, even if they take longer.
        most: rounds, even if there is time for more.
        seconds: after which no further round of an engine begins, once there are enough.
        turn: seconds that a side's turn lasts at least; a shorter call is repeated in it.
        tune: seconds, about, for choosing the fold's forms, in each engine; 0 for the fixed choice, which an engine that cannot
            be asked gets in any case.
    """

    engines: tuple[Engine, ...] = ENGINES
    device: str = "cpu"
    dtype: str | None = None
    threads: int | None = None
    warmup: int = 3
    least: int = 7
    most: int = 40
    seconds: float = 10.0
    turn: float = 0.005
    tune: float = 30.0


QUICK = Plan(warmup=1, least=2, most=2, seconds=0.0, turn=0.0, tune=0.0)
"""To see that it works; its numbers mean little."""


def run(
    case: Case,
    plan: Plan,
    *,
    doing: Doing = lambda words, work: work(),
    peak: Callable[[str], int | None] | None = None,
) -> Bench:
    """Measure a case.

    Args:
        case: the model, its call and a reference.
        plan: how.
        doing: does each part of the work, and may tell of it.
        peak: gives the peak memory of a side, measured in a process of its own; None to leave memory out.

    Raises:
        InputError: the device is not there, or the model does not take the call.
        RefusedError: the model cannot be folded.
        VerificationError: the fold is wrong.
    """
    dtype = getattr(torch, plan.dtype) if plan.dtype else None
    with machine.set_up(plan.device, plan.threads):
        placed = case.placed(plan.device, dtype)
        environment = machine.environment(plan.device)
        kind = dtype_of(placed)
        original = placed.side("original")
        others = [placed.side("reference")] if placed.reference is not None else []
        folds = _Folds(placed, plan, doing)
        folds.of(plan.engines[0])  # what is wrong with the call is said best by the fold
        agreement = doing("running the original in float64", lambda: agreed(original, kind))
        rows = []
        with tempfile.TemporaryDirectory(prefix="flatconv-bench-") as folder:
            for engine in plan.engines:
                sides = [original, folds.of(engine), *others]
                work = partial(row, engine, sides, agreement, plan, kind, Path(folder))
                rows.append(dataclasses.replace(doing(f"timing in {NAMES[engine]}", work), chosen=folds.chosen(engine)))
        weights = {s.name: measure.weight_bytes(s.module) for s in [original, folds.of(plan.engines[0]), *others]}
        memory: dict[str, int | None] = {}
        if peak is not None:
            memory = {name: doing(f"peak memory of the {name}", partial(peak, name)) for name in weights}
        asked = settings(plan, kind)
    return Bench(
        model=type(placed.model).__name__,
        method=placed.method,
        inputs=tuple((n, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in placed.tensors()),
        rows=tuple(rows),
        compared=agreement.how,
        tolerance=agreement.tolerance,
        weights=weights,
        peak_memory=memory,
        settings=asked,
        environment=environment,
    )


class _Folds:
    """The fold in the forms that are chosen for an engine, made when it is asked for."""

    def __init__(self, case: Case, plan: Plan, doing: Doing) -> None:
        self.case = case
        self.plan = plan
        self.doing = doing
        self.kind = dtype_of(case)
        self.made: dict[tune.Engine | None, Side] = {}
        self.refused: set[Engine] = set()

    def of(self, engine: Engine) -> Side:
        """Each engine has a choice of its own; without time for it, PyTorch shares one and those that read ONNX another."""
        kind: tune.Engine | None = engine
        if not self.plan.tune or engine in self.refused or engines.unsuited(engine, self.plan.device, self.kind):
            kind = None if engine in ("eager", "compile") else "onnx"
        if kind not in self.made:
            how = tune.Tuning(kind, self.plan.tune or 1.0) if kind else False
            timed = f" for {NAMES[engine]}" if kind == engine else ""
            words = f"folding{timed}{' and verifying' if self.case.verify else ''}"
            case = dataclasses.replace(self.case, tune=how)
            try:
                self.made[kind] = self.doing(words, lambda: case.side("folded"))
            except (RefusedError, MissingExtraError):
                if kind not in tune.RUNTIMES:
                    raise
                self.refused.add(engine)  # the row itself says why the engine does not run a side
                return self.of(engine)
        return self.made[kind]

    def chosen(self, engine: Engine) -> str:
        """Name of the combination that was taken."""
        report = getattr(self.of(engine).module, "report", None)
        return report.tuned.chosen if report is not None and report.tuned is not None else "fixed"


def dtype_of(case: Case) -> torch.dtype:
    """The type that a case computes in: that of its first real input, else of its first real weight."""
    tensors = [t for _, t in case.tensors()] + list(case.model.parameters())
    return next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)


def settings(plan: Plan, dtype: torch.dtype) -> Mapping[str, Any]:
    """A plan with its type, as it stands in a result."""
    return dataclasses.asdict(plan) | {
        "engines": list(plan.engines),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def agreed(original: Side, dtype: torch.dtype) -> Agreement:
    """What outputs are held against.

    Raises:
        InputError: the original does not run.
    """
    try:
        return Agreement.of(original, dtype)
    except FlatconvError:
        raise
    except Exception as e:
        raise InputError(f"the model does not run in {dtype}: {type(e).__name__}: {first_line(e)}") from e


def row(engine: Engine, sides: list[Side], agreement: Agreement, plan: Plan, dtype: torch.dtype, folder: Path) -> Row:
    """Times of all sides in one engine. A side that it refuses, or that computes something else, has no time but a reason."""
    if why_not := engines.unsuited(engine, plan.device, dtype):
        return Row(engine, why_not=why_not)
    try:
        engines.require(engine)
        engines.forget()
        calls, found = _prepared(engine, sides, agreement, folder)
        before = measure.clocks()
        with torch.inference_mode():
            taken = measure.alternate(
                tuple(calls.values()),
                plan.seconds,
                least=plan.least,
                most=plan.most if calls else 0,
                warmup=plan.warmup,
                turn=plan.turn,
                settle=_settle(plan.device),
            )
        others = _others(before, measure.clocks())
    except Exception as e:  # an engine may fail in any way, and the others still count
        return Row(engine, why_not=_sentence(e))
    for name, seconds in zip(calls, taken, strict=True):
        found[name] = dataclasses.replace(found[name], seconds=tuple(seconds))
    return Row(engine, tuple(found.values()), others)


def _prepared(
    engine: Engine, sides: list[Side], agreement: Agreement, folder: Path
) -> tuple[dict[str, engines.Call], dict[str, Timed]]:
    """Calls that are ready to be timed, and what is known of every side before."""
    calls: dict[str, engines.Call] = {}
    found: dict[str, Timed] = {}
    for side in sides:
        begun = time.perf_counter()
        try:
            call = engines.prepare(engine, side, folder)
            with torch.inference_mode():
                error = agreement.error(call())
        except Exception as e:
            found[side.name] = Timed(side.name, why_not=_sentence(e))
            continue
        why_not = ""
        if error <= agreement.tolerance:
            calls[side.name] = call
        else:
            why_not = (
                f"its output is not the original's: the error is {error:.2g}, and {agreement.tolerance:.2g} is allowed"
            )
        found[side.name] = Timed(side.name, (), error, time.perf_counter() - begun, why_not)
    return calls, found


def _others(before: tuple[float, ...] | None, after: tuple[float, ...] | None) -> float | None:
    """What others took; None for a moment so short that the system's own clock does not resolve it."""
    if before is None or after is None or after[0] - before[0] < SHORT:
        return None
    return measure.others(before, after)


def _settle(device: str) -> Callable[[], object]:
    return torch.cuda.synchronize if device != "cpu" else lambda: None


def _sentence(error: Exception) -> str:
    return plain(
        first_line(error) if isinstance(error, FlatconvError) else f"{type(error).__name__}: {first_line(error)}"
    )
