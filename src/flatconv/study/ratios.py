"""Costs of direct 3-D against 2-D as estimates, tables, charts and sentences."""

from __future__ import annotations

import statistics as plain
from collections.abc import Sequence
from dataclasses import dataclass

from flatconv.findings import Chart, Estimate, Series, Table, Verdict
from flatconv.study import statistics
from flatconv.study.engines import NAMES
from flatconv.study.timing import Cell, Costs

LEVEL = 0.95
MIB = 2**20


@dataclass(frozen=True)
class Ratio:
    """Time of one side over that in 2-D.

    Attributes:
        cell: where.
        side: 'direct' or 'folded'.
        estimate: the median over rounds. Its level is so high that all intervals of one side together hold with 95 %.
    """

    cell: Cell
    side: str
    estimate: Estimate


def ratios(costs: Costs, side: str) -> tuple[Ratio, ...]:
    """Of all cells in which the side was timed. The level is Bonferroni's: ``1 − 0.05 / cells``."""
    cells = [c for c in costs.cells if side in c.seconds]
    level = 1 - (1 - LEVEL) / max(len(cells), 1)
    return tuple(
        Ratio(
            c,
            side,
            statistics.median(
                f"time, {side} / 2-D: {NAMES[c.engine]}, {c.chain.name}, batch {c.batch}", c.ratios(side), level=level
            ),
        )
        for c in cells
    )


def judge(found: Sequence[Estimate], margin: float) -> Verdict:
    """Whether a form costs more, by the intervals of its ratios to 2-D.

    A ratio is *above* if its interval lies above the margin, *not above* if it lies at or below it, open otherwise.

    * confirmed: all are above;
    * refuted: all are not above;
    * corrected: some are above and some are not, whatever becomes of the open ones;
    * undecided: otherwise, or if there is none.
    """
    above = sum(e.low > margin for e in found)
    not_above = sum(e.high <= margin for e in found)
    if above and not_above:
        return "corrected"
    if found and above == len(found):
        return "confirmed"
    if found and not_above == len(found):
        return "refuted"
    return "undecided"


def summary(found: Sequence[Ratio], margin: float) -> str:
    """How many are above, and the extremes with their intervals."""
    if not found:
        return "No ratio was measured."
    above = sum(r.estimate.low > margin for r in found)
    low, high = (pick(found, key=lambda r: r.estimate.value) for pick in (min, max))
    return (
        f"In {above} of {len(found)} combinations of engine, network and batch size the time of the {found[0].side} form "
        f"is above {margin:g} times that of 2-D. The ratio goes from {interval(low.estimate)} "
        f"({_where(low)}) to {interval(high.estimate)} ({_where(high)})."
    )


def exceptions(found: Sequence[Ratio], margin: float) -> str:
    """Where the form does not cost more: engines and batch sizes; empty if nowhere."""
    places: dict[str, list[int]] = {}
    for r in found:
        place = places.setdefault(f"{NAMES[r.cell.engine]} at batch {r.cell.batch}", [0, 0])
        place[0] += r.estimate.high <= margin
        place[1] += 1
    named = [f"{where} ({n} of {of} networks)" for where, (n, of) in places.items() if n]
    return f"Not above it: {', '.join(named)}." if named else ""


def interval(e: Estimate) -> str:
    """An estimate in a sentence."""
    return f"{e.value:.2f} ({e.low:.2f} to {e.high:.2f})"


def charts(found: Sequence[Ratio], title: str, reference: str = "2-D") -> tuple[Chart, ...]:
    """One chart for each engine: ratios by network, a group of bars for each batch size."""
    drawn = []
    for engine in dict.fromkeys(r.cell.engine for r in found):
        here = [r for r in found if r.cell.engine == engine]
        series = []
        for batch in dict.fromkeys(r.cell.batch for r in here):
            bars = [r for r in here if r.cell.batch == batch]
            series.append(
                Series(
                    f"batch {batch}",
                    tuple(r.cell.chain.name for r in bars),
                    tuple(r.estimate.value for r in bars),
                    tuple(r.estimate.low for r in bars),
                    tuple(r.estimate.high for r in bars),
                )
            )
        drawn.append(
            Chart(
                "bars",
                f"{title}, {NAMES[engine]}",
                "network",
                f"time, {here[0].side} / 2-D",
                tuple(series),
                log="y",
                reference=(1.0, reference),
            )
        )
    return tuple(drawn)


def tables(costs: Costs, found: Sequence[Ratio]) -> tuple[Table, ...]:
    """Multiply-adds, times, and memory where it was measured."""
    work = Table(
        "Multiply-adds for one image",
        ("network", "direct", "that meet the image", "2-D", "direct / 2-D"),
        tuple((w.chain.name, w.direct, w.useful, w.flat, w.direct / w.flat) for w in costs.work),
    )
    times = Table(
        "Time of a call, milliseconds (medians), and ratio within a round",
        ("engine", "network", "batch", "form", "its time", "2-D", "ratio"),
        tuple(
            (
                NAMES[r.cell.engine],
                r.cell.chain.name,
                r.cell.batch,
                r.side,
                1e3 * plain.median(r.cell.seconds[r.side]),
                1e3 * plain.median(r.cell.seconds["2-D"]),
                r.estimate,
            )
            for r in found
        ),
    )
    if not costs.weights:
        return work, times
    memory = Table(
        "Memory at the peak of a call above what is held before it, MiB",
        ("engine", "network", "batch", "direct", "2-D", "direct / 2-D"),
        tuple(
            (NAMES[w.engine], w.chain.name, w.batch, w.direct / MIB, w.flat / MIB, w.direct / max(w.flat, 1))
            for w in costs.weights
        ),
    )
    return work, times, memory


def work_estimates(costs: Costs) -> tuple[Estimate, ...]:
    """Multiply-adds of the direct form over those in 2-D. Counted, so their intervals have no width."""
    found = []
    for w in costs.work:
        ratio = w.direct / w.flat
        found.append(Estimate(f"multiply-adds, direct / 2-D: {w.chain.name}", ratio, ratio, ratio, level=1.0))
    return tuple(found)


def notes(costs: Costs, threads: int) -> tuple[str, ...]:
    """What the numbers are about, and what limits them."""
    told = [
        f"float32 on the CPU, {threads} thread{'s' if threads > 1 else ''}, one machine: another processor or version may "
        "dispatch other kernels.",
        "Times are medians over rounds in which the sides alternate; the intervals of all ratios hold together with 95 %.",
    ]
    if costs.weights:
        told.append(
            "Memory is measured in processes of their own that hand freed memory back, without ONNX Runtime's arena: it is "
            "what the tensors of a second call take, output included."
        )
    if costs.others is not None:
        told.append(f"Other processes took {costs.others:.0%} of the processors during the timing.")
    return (*told, *costs.missing)


def _where(r: Ratio) -> str:
    return f"{NAMES[r.cell.engine]}, {r.cell.chain.name}, batch {r.cell.batch}"
