"""C4: kernels of (1, k, k) cost more than 2-D ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flatconv.findings import Claim, Estimate, Progress, Result, Verdict
from flatconv.study import ratios
from flatconv.study.engines import Engine
from flatconv.study.layers import LAYERS, NETWORK, Chain
from flatconv.study.timing import Costs, Plan, costs

CLAIM = Claim(
    key="C4",
    title="Unit depth is still less efficient",
    said="Even with unit depth, kernels of (1, k, k), Conv3d is less efficient than Conv2d.",
    question="How much time and memory does a 1×3×3 network take on single images, as it is and folded, against the same "
    "network in 2-D, by engine and batch size?",
)


@dataclass(frozen=True)
class Config(Plan):
    """What is measured; see ``Plan``.

    Attributes:
        depth: of the direct kernels.
        chains: that are timed.
        folded: engines in which the fold is timed, too. Where a program is compiled or exported, the fold's is the 2-D one.
        weighed: chains whose memory is measured.
        margin: a ratio of times up to this does not count as less efficient.
    """

    depth: int = 1
    chains: tuple[Chain, ...] = (*LAYERS, NETWORK)
    folded: tuple[Engine, ...] = ("eager",)
    weighed: tuple[Chain, ...] = (LAYERS[-1],)
    margin: float = 1.1


FULL = Config()
QUICK = Config(
    chains=(Chain((2, 4), 8),),
    batches=(1, 2),
    engines=("eager",),
    weighed=(),
    threads=1,
    warmup=1,
    least=3,
    most=3,
    seconds=0.0,
    turn=0.0,
)


def run(config: Config, progress: Progress) -> Result:
    """Count, time and weigh both forms, and time the fold."""
    return result(config, costs(config, progress))


def judge(found: Sequence[Estimate], margin: float) -> Verdict:
    """Slower, although the multiply-adds are the same?

    ``found`` are the ratios of time, (1, 3, 3) over 2-D, of all engines, networks and batch sizes. Confirmed if the
    intervals of all lie above ``margin``; refuted if all lie at or below it; corrected if some lie above and some at or
    below, for then the claim depends on where it runs; undecided otherwise.
    """
    return ratios.judge(found, margin)


def result(config: Config, measured: Costs) -> Result:
    """Numbers to a verdict, tables and charts."""
    found = ratios.ratios(measured, "direct")
    folded = ratios.ratios(measured, "folded")
    times = tuple(r.estimate for r in found)
    said = (ratios.summary(found, config.margin), ratios.exceptions(found, config.margin))
    also = (f"Folded: {ratios.summary(folded, config.margin)}",) if folded else ()
    return Result(
        verdict=judge(times, config.margin),
        finding=" ".join(("The multiply-adds are the same.", *said)).strip(),
        estimates=(*ratios.work_estimates(measured), *times, *(r.estimate for r in folded)),
        charts=(*ratios.charts(found, "1×3×3 against 2-D"), *ratios.charts(folded, "The fold of 1×3×3 against 2-D")),
        tables=ratios.tables(measured, (*found, *folded)),
        notes=(*ratios.notes(measured, config.threads), *also),
        advice="Write (1, k, k) on images as Conv2d; flatconv fold does it for a model that you have.",
    )
