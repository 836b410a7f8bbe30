"""What a benchmark found, as frozen numbers and words."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from flatconv.bench.engines import NAMES, Engine

PAIRS = (("original", "folded"), ("original", "reference"), ("folded", "reference"))
"""Ratios that are written out: the first over the second."""


@dataclass(frozen=True)
class Summary:
    """Several measurements of one thing.

    Attributes:
        median: of all.
        q1: lower quartile.
        q3: upper quartile.
        low: least.
        high: most.
        n: how many.
    """

    median: float
    q1: float
    q3: float
    low: float
    high: float
    n: int

    @staticmethod
    def of(values: Sequence[float]) -> Summary:
        """Summarise at least one value."""
        q1, _, q3 = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
        return Summary(statistics.median(values), q1, q3, min(values), max(values), len(values))


@dataclass(frozen=True)
class Timed:
    """One side in one engine.

    Attributes:
        side: 'original', 'folded' or 'reference'.
        seconds: of a call, round by round; empty if there is no time.
        error: of its output, as ``bench.agreement`` measures it; None if it did not run.
        prepared: seconds until its first call had returned, compilation included.
        why_not: why it was not timed; empty if it was.
    """

    side: str
    seconds: tuple[float, ...] = ()
    error: float | None = None
    prepared: float | None = None
    why_not: str = ""

    @property
    def time(self) -> Summary | None:
        """Seconds of a call."""
        return Summary.of(self.seconds) if self.seconds else None


@dataclass(frozen=True)
class Row:
    """One engine.

    Attributes:
        engine: which.
        sides: in the order of ``bench.sides.SIDES``; none if the engine could not be asked.
        others: the part of the processors that other processes took meanwhile; None where the system does not tell.
        why_not: why nothing was measured; empty if something was.
        chosen: the combination of forms that the fold takes in this engine.
    """

    engine: Engine
    sides: tuple[Timed, ...] = ()
    others: float | None = None
    why_not: str = ""
    chosen: str = ""

    @property
    def label(self) -> str:
        """The engine's name as people write it."""
        return NAMES[self.engine]

    def side(self, name: str) -> Timed | None:
        """A side by its name."""
        return next((s for s in self.sides if s.side == name), None)

    def ratio(self, above: str, below: str) -> Summary | None:
        """Time of one side over that of another, within each round; None unless both were timed."""
        a, b = self.side(above), self.side(below)
        if a is None or b is None or not a.seconds or not b.seconds:
            return None
        return Summary.of([x / y for x, y in zip(a.seconds, b.seconds, strict=True)])


@dataclass(frozen=True)
class Bench:
    """A whole benchmark.

    Attributes:
        model: the class of the original.
        method: that was called.
        inputs: name, sizes and type of each tensor.
        rows: one for each engine.
        compared: what outputs were held against: 'float64' or 'own type'.
        tolerance: error that a side may have.
        weights: bytes of each side's parameters and buffers.
        peak_memory: bytes that a call of each side needs above what is held before it, in eager PyTorch in a process of its
            own; None where it could not be measured; empty if it was not.
        settings: what was asked for.
        environment: versions, processor, threads, date.
    """

    model: str
    method: str
    inputs: tuple[tuple[str, tuple[int, ...], str], ...]
    rows: tuple[Row, ...]
    compared: str
    tolerance: float
    weights: Mapping[str, int]
    peak_memory: Mapping[str, int | None] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        from flatconv.report.bench import text

        return text(self)

    def row(self, engine: Engine) -> Row | None:
        """An engine by its name."""
        return next((r for r in self.rows if r.engine == engine), None)

    @property
    def sides(self) -> tuple[str, ...]:
        """Names of the sides."""
        return tuple(self.weights)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Sides whose ratios are of interest."""
        return tuple(p for p in PAIRS if set(p) <= set(self.sides))

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON; medians and ratios are written out."""
        found = asdict(self)
        for shown, row in zip(found["rows"], self.rows, strict=True):
            for written, timed in zip(shown["sides"], row.sides, strict=True):
                written["time"] = asdict(timed.time) if timed.time else None
            ratios = {f"{a}/{b}": row.ratio(a, b) for a, b in self.pairs}
            shown["ratios"] = {name: asdict(r) for name, r in ratios.items() if r}
        return found
