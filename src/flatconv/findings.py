"""What an experiment of ``flatconv.study`` returns: numbers, intervals and a verdict. Nothing here draws or prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

Verdict = Literal["confirmed", "corrected", "refuted", "undecided"]
"""What became of a claim.

* confirmed: the measurement says what the article says;
* corrected: true in part, or under a condition that the article does not name;
* refuted: the measurement says the opposite;
* undecided: the intervals allow more than one answer. More seeds may decide.
"""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Claim:
    """What is put to the test.

    Attributes:
        key: 'C1' to 'C9'.
        title: a few words.
        said: what the article says, in our words.
        question: what is measured to find out.
    """

    key: str
    title: str
    said: str
    question: str


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        name: what it is.
        value: the estimate.
        low: end of the interval.
        high: other end.
        unit: of the three; empty for a ratio or a share.
        n: how many independent values it stands on.
        level: of confidence.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str = ""
    n: int = 1
    level: float = 0.95


@dataclass(frozen=True)
class Table:
    """Rows of words and numbers. A cell may be an ``Estimate``."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | Estimate, ...], ...]


@dataclass(frozen=True)
class Series:
    """One line, or one group of bars.

    Attributes:
        name: in the legend.
        x: positions of a line, or labels of bars.
        y: heights.
        low: ends of the intervals; empty if there are none.
        high: other ends.
    """

    name: str
    x: tuple[float, ...] | tuple[str, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class Chart:
    """A figure as numbers; ``flatconv.report.charts`` draws it.

    Attributes:
        kind: of figure.
        title: one line.
        x_label: with unit.
        y_label: with unit.
        series: what is shown.
        log: logarithmic axes: '', 'x', 'y' or 'xy'.
        reference: a level to compare with, such as chance or parity, with its name.
    """

    kind: Literal["lines", "bars"]
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log: Literal["", "x", "y", "xy"] = ""
    reference: tuple[float, str] | None = None


@dataclass(frozen=True)
class Result:
    """What an experiment found.

    Attributes:
        verdict: by a rule on ``estimates``, never by hand.
        finding: one or two sentences with the deciding numbers and their intervals.
        estimates: what the verdict stands on; the first is shown in the table of all claims.
        tables: more numbers.
        charts: at least one.
        notes: what limits the measurement, and what else was seen.
        advice: what a user should do about it; may name a flatconv command.
    """

    verdict: Verdict
    finding: str
    estimates: tuple[Estimate, ...]
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        return asdict(self)


class Experiment(Protocol):
    """What a module in ``claims/`` has: the claim, two configurations, and a function that runs one of them.

    ``FULL`` is the measurement, ``QUICK`` the same code in a few seconds, for the tests: its verdict means nothing.
    A configuration is a frozen dataclass; everything that decides the numbers stands in it, seeds included.
    """

    CLAIM: Claim
    FULL: Any
    QUICK: Any

    def run(self, config: Any, progress: Progress) -> Result:
        """Run the experiment. ``progress`` is told, in a few words, what is being done."""
        ...


@dataclass(frozen=True)
class Entry:
    """One claim of a study with everything that makes it reproducible.

    Attributes:
        claim: what was tested.
        config: the configuration, as plain values.
        result: what came out.
        seconds: it took.
    """

    claim: Claim
    config: Mapping[str, Any]
    result: Result
    seconds: float


@dataclass(frozen=True)
class Study:
    """A whole run.

    Attributes:
        entries: in the order of the claims.
        quick: whether it is the quick form, whose verdicts mean nothing.
        environment: versions, processor, threads, date.
    """

    entries: tuple[Entry, ...]
    quick: bool
    environment: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        return asdict(self)
