"""C3: direct 3-D convolution of single images costs more than the same network in 2-D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flatconv.findings import Claim, Estimate, Progress, Result, Verdict
from flatconv.study import ratios
from flatconv.study.layers import LAYERS, NETWORK, Chain
from flatconv.study.timing import Costs, Plan, costs

CLAIM = Claim(
    key="C3",
    title="Direct 3-D is wasteful",
    said="Using Conv3d directly on 2-D images is computationally wasteful.",
    question="How many multiply-adds, how much time and how much memory does a 3×3×3 network take on single images, "
    "against the same network in 2-D, by engine and batch size?",
)


@dataclass(frozen=True)
class Config(Plan):
    """What is measured; see ``Plan``.

    Attributes:
        depth: of the direct kernels.
        chains: that are timed.
        weighed: chains whose memory is measured.
        margin: a ratio of times up to this does not count as wasteful.
    """

    depth: int = 3
    chains: tuple[Chain, ...] = (*LAYERS, NETWORK)
    weighed: tuple[Chain, ...] = (LAYERS[-1],)
    margin: float = 1.1


FULL = Config()
QUICK = Config(
    chains=(Chain((2, 4), 8), Chain((2, 4, 3), 8)),
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
    """Count, time and weigh both forms."""
    return result(config, costs(config, progress))


def judge(found: Sequence[Estimate], margin: float) -> Verdict:
    """Wasteful in time? Multiply-adds are always more, so they decide nothing.

    ``found`` are the ratios of time, direct over 2-D, of all engines, networks and batch sizes. Confirmed if the intervals
    of all lie above ``margin``; refuted if none does and all lie at or below it; corrected if some lie above and some at or
    below, for then the claim depends on where it runs; undecided otherwise.
    """
    return ratios.judge(found, margin)


def result(config: Config, measured: Costs) -> Result:
    """Numbers to a verdict, tables and charts."""
    found = ratios.ratios(measured, "direct")
    times = tuple(r.estimate for r in found)
    work = ratios.work_estimates(measured)
    counted = sorted({round(e.value, 2) for e in work})
    finding = (
        f"Direct 3-D does {' to '.join(f'{c:g}' for c in dict.fromkeys((counted[0], counted[-1])))} times the multiply-adds "
        f"of 2-D. {ratios.summary(found, config.margin)} {ratios.exceptions(found, config.margin)}"
    )
    return Result(
        verdict=judge(times, config.margin),
        finding=finding.strip(),
        estimates=(*work, *times),
        charts=ratios.charts(found, "Direct 3×3×3 against 2-D"),
        tables=ratios.tables(measured, found),
        notes=ratios.notes(measured, config.threads),
        advice="Do not run a 3-D network on single images as it is: flatconv audit shows what is wasted, flatconv fold "
        "removes it, and flatconv fold --measure tells what that is worth on your machine, in PyTorch.",
    )
