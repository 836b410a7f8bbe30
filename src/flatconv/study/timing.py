"""What direct 3-D chains cost against the same chains in 2-D: multiply-adds, time and memory. Numbers only.

Time: all sides alternate in one process, the order turns each round, and only ratios within a round are compared, so that
what else the machine does meets all sides alike. Memory: a process for each side (``peak``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from flatconv import measure
from flatconv.audit import audit
from flatconv.errors import first_line, plain
from flatconv.findings import Progress
from flatconv.fold import fold
from flatconv.study import engines, peak
from flatconv.study.engines import Engine
from flatconv.study.layers import Chain, direct, flat, images

TOLERANCE = 1e-4
"""Of an output, against the largest magnitude in it. A side that differs more is not timed: it does something else."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often.

    Attributes:
        depth: of the direct kernels.
        chains: that are timed.
        batches: images in a call.
        engines: that run them.
        folded: engines in which ``flatconv.fold`` of the direct form is timed, too.
        weighed: chains whose memory is measured.
        threads: of every engine.
        warmup: calls of each side before the first round.
        least: rounds, even if they take longer.
        most: rounds, even if there is time for more.
        seconds: after which no further round of a cell begins.
        turn: seconds that a side's turn lasts at least.
    """

    depth: int
    chains: tuple[Chain, ...]
    batches: tuple[int, ...] = (1, 4, 16)
    engines: tuple[Engine, ...] = engines.ENGINES
    folded: tuple[Engine, ...] = ()
    weighed: tuple[Chain, ...] = ()
    threads: int = 2
    warmup: int = 3
    least: int = 12
    most: int = 40
    seconds: float = 2.0
    turn: float = 0.005


@dataclass(frozen=True)
class Work:
    """Multiply-adds of a chain for one image.

    Attributes:
        chain: which.
        direct: spent by the 3-D form.
        useful: of those, what meets the image, as ``flatconv.audit`` has it.
        flat: spent by the 2-D form.
    """

    chain: Chain
    direct: int
    useful: int
    flat: int


@dataclass(frozen=True)
class Cell:
    """Times of one chain in one engine at one batch size.

    Attributes:
        chain: which.
        engine: that ran it.
        batch: images in a call.
        seconds: of each side ('direct', '2-D', 'folded'), round by round.
    """

    chain: Chain
    engine: Engine
    batch: int
    seconds: Mapping[str, tuple[float, ...]]

    def ratios(self, side: str) -> tuple[float, ...]:
        """Seconds of a side over those in 2-D, round by round."""
        return tuple(a / b for a, b in zip(self.seconds[side], self.seconds["2-D"], strict=True))


@dataclass(frozen=True)
class Weight:
    """Peak memory of a call.

    Attributes:
        chain: which.
        engine: that ran it.
        batch: images in a call.
        direct: bytes.
        flat: bytes.
    """

    chain: Chain
    engine: Engine
    batch: int
    direct: int
    flat: int


@dataclass(frozen=True)
class Costs:
    """All that was measured.

    Attributes:
        work: of each chain.
        cells: of each chain, engine and batch size.
        weights: of memory.
        missing: what could not be measured, and why.
        others: the part of the processors that other processes took during the timing; None where the system does not tell.
    """

    work: tuple[Work, ...]
    cells: tuple[Cell, ...]
    weights: tuple[Weight, ...]
    missing: tuple[str, ...]
    others: float | None


def costs(plan: Plan, progress: Progress) -> Costs:
    """Measure all of a plan. An engine that is not there, or refuses a side, is noted and left out."""
    cells: list[Cell] = []
    missing: dict[str, None] = {}
    with _threads(plan.threads):
        before = measure.clocks()
        for chain in plan.chains:
            sides: dict[str, nn.Module] = {"direct": direct(chain, plan.depth)}
            sides["2-D"] = flat(sides["direct"])  # type: ignore[arg-type]
            if plan.folded:
                sides["folded"] = fold(sides["direct"], (images(chain, 1),), tune=False, verify=False)
            for engine in plan.engines:
                for batch in plan.batches:
                    progress(f"{chain.name}: {engines.NAMES[engine]}, batch {batch}")
                    taken = {s: m for s, m in sides.items() if s != "folded" or engine in plan.folded}
                    try:
                        cells.append(_timed(plan, chain, engine, batch, taken))
                    except Exception as e:  # a compiler may fail in any way, and the other engines still count
                        missing[f"{engines.NAMES[engine]} is left out where it failed: {plain(first_line(e))}"] = None
        others = measure.others(before, measure.clocks())
        weights = list(_weighed(plan, progress, missing))
        work = tuple(_work(chain, plan.depth) for chain in plan.chains)
    return Costs(work, tuple(cells), tuple(weights), tuple(missing), others)


def _timed(plan: Plan, chain: Chain, engine: Engine, batch: int, sides: Mapping[str, nn.Module]) -> Cell:
    given = images(chain, batch)
    engines.forget()
    calls = {
        side: engines.prepare(engine, model, given[:, :, 0] if side == "2-D" else given)
        for side, model in sides.items()
    }
    with torch.inference_mode():
        reference = sides["2-D"](given[:, :, 0])
        for side, call in calls.items():
            _agree(f"{side} form of {chain.name}", call(), reference)
    taken = measure.alternate(
        tuple(calls.values()),
        plan.seconds,
        least=plan.least,
        most=plan.most,
        warmup=plan.warmup,
        turn=plan.turn,
    )
    return Cell(chain, engine, batch, {side: tuple(t) for side, t in zip(calls, taken, strict=True)})


def _agree(what: str, output: Tensor, reference: Tensor) -> None:
    error = float((output.reshape(reference.shape) - reference).abs().max() / reference.abs().max())
    if not error <= TOLERANCE:
        raise ArithmeticError(f"the {what} differs from the 2-D one by {error:.2g} of its largest output")


def _weighed(plan: Plan, progress: Progress, missing: dict[str, None]) -> Iterator[Weight]:
    for chain in plan.weighed:
        for engine in plan.engines:
            progress(f"{chain.name}: memory in {engines.NAMES[engine]}")
            found = {
                side: peak.peaks(
                    peak.Order(chain.channels, chain.size, plan.depth, side, engine, plan.batches, plan.threads)
                )
                for side in peak.SIDES
            }
            above, below = found["direct"], found["2-D"]
            if above is None or below is None:
                missing[f"Memory in {engines.NAMES[engine]} could not be measured."] = None
                continue
            for batch, a, b in zip(plan.batches, above, below, strict=True):
                yield Weight(chain, engine, batch, a, b)


def _work(chain: Chain, depth: int) -> Work:
    model = direct(chain, depth)
    image = images(chain, 1)
    found = audit(model, (image,)).totals
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        flat(model)(image[:, :, 0])
    return Work(chain, found.macs, found.useful_macs, counter.get_total_flops() // 2)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
