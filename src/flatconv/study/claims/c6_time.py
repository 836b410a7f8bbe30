"""C6: does Conv3d see motion, and does Conv2d not? Tasks in which one frame says nothing, by construction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from flatconv.findings import Chart, Claim, Estimate, Progress, Result, Series, Table, Verdict
from flatconv.study import statistics
from flatconv.study.networks import BUDGETS, READINGS, Budget, Cost, Network, Reading, Shape, cost, width_for
from flatconv.study.temporal import Task, examples
from flatconv.study.training import Training, accuracy, fit
from flatconv.study.windows import Window

CLAIM = Claim(
    key="C6",
    title="Patterns in time",
    said="Conv3d captures temporal patterns, something Conv2d cannot do.",
    question="Where one frame says nothing by construction, how often is a network right that reads one frame, the frames as "
    "channels of a Conv2d, or the frames with Conv3d, at equal parameters and at equal multiply-adds?",
)

MARGIN = 0.05
"""Accuracy above chance that counts as seeing something."""

CLOSE = 0.1
"""Share by which costs may differ and still count as equal."""


@dataclass(frozen=True)
class Config:
    """All that decides the numbers.

    Attributes:
        tasks: in the order of the report.
        window: how clips are cut; each task has its own noise.
        width: of the 3-D network, whose parameters and multiply-adds the others are given.
        train: clips to learn from.
        test: clips of each situation.
        film: frames of each video that are used, at most.
        training: of every network alike.
        seeds: each holds out other pictures, draws other clips and starts from other weights.
    """

    tasks: tuple[Task, ...]
    window: Window
    width: float
    train: int
    test: int
    film: int
    training: Training
    seeds: tuple[int, ...]


FULL = Config(
    tasks=(Task("photographs", 0.5), Task("videos", 0.5), Task("order", 0.2), Task("moment", 0.3)),
    window=Window(frames=7, size=24, speeds=(1, 2), noise=0.0),
    width=6,
    train=1024,
    test=800,
    film=250,
    training=Training(epochs=6, batch=32, rate=4e-3),
    seeds=(0, 1, 2, 3, 4, 5),
)
QUICK = Config(
    tasks=(Task("order", 0.2), Task("moment", 0.3)),
    window=Window(frames=7, size=16, speeds=(1, 2), noise=0.0),
    width=2,
    train=64,
    test=64,
    film=30,
    training=Training(epochs=1, batch=32, rate=4e-3),
    seeds=(0, 1),
)


@dataclass(frozen=True)
class Arm:
    """What is compared: a reading at a budget. The 3-D network is the same at both."""

    reading: Reading
    budget: Budget


@dataclass
class Scores:
    """Of one situation: chance, and each arm's accuracies in the order of the seeds, and its cost."""

    chance: float
    accuracy: dict[Arm, list[float]]
    cost: dict[Arm, Cost]

    def above(self, name: str, arm: Arm, level: float = 0.95) -> Estimate:
        """Accuracy minus chance."""
        return statistics.mean(name, [a - self.chance for a in self.accuracy[arm]], level=level)

    def gain(self, name: str, over: Arm) -> Estimate:
        """Accuracy of 3-D minus that of another arm, paired by seed."""
        return statistics.difference(name, self.accuracy[Arm("3-D", over.budget)], self.accuracy[over])


def run(config: Config, progress: Progress) -> Result:
    """Train every network on every task, and compare."""
    measured: dict[str, Scores] = {}
    for task in config.tasks:
        _measure(task, config, measured, progress)
    blind, volume, channels = [], [], []
    tests = len(measured) * len(BUDGETS)
    for name, found in measured.items():
        for budget in BUDGETS:
            arm = Arm("one frame", budget)
            # Ten tests at 95 % would raise a false alarm too often: together they have that level.
            blind.append(found.above(f"one frame, above chance: {name} (equal {budget})", arm, 1 - 0.05 / tests))
        volume.append(found.above(f"3-D, above chance: {name}", Arm("3-D", "parameters")))
        channels.append(
            found.above(f"frames as channels, above chance: {name} (equal parameters)", Arm("channels", "parameters"))
        )
    gains = [
        found.gain(f"3-D minus frames as channels: {name} (equal {budget})", Arm("channels", budget))
        for name, found in measured.items()
        for budget in BUDGETS
    ]
    return Result(
        verdict=judge(blind, volume, channels),
        finding=_finding(blind, volume, channels, gains),
        estimates=(*blind, *volume, *channels, *gains),
        charts=(*(_won(measured, budget) for budget in BUDGETS), _gained(measured)),
        tables=_tables(measured),
        notes=NOTES,
        advice="Few frames of fixed number, with what matters at a fixed time: give them to a Conv2d as channels, which costs "
        "less. Events that may come at any time, or clips of any length: Conv3d, whose weights are the same at every "
        "moment. One image: Conv2d; `flatconv audit` shows what a 3-D network would waste on it.",
    )


NOTES = (
    "A window starts anywhere on a mirrored picture with equal probability, so each of its frames has the same distribution "
    "whatever its direction; shuffled clips keep the middle frame and the set of frames. One frame says nothing.",
    "The mean over frames read one by one ('averaged') loses their order. It could at best see the axis of a motion (right in "
    "half the cases), and can see nothing at all in shuffled clips.",
    "Forward or backward was not asked: films tell it by habits such as the direction of a pan, which three videos "
    "would let a network learn by heart. Clips do not cross cuts of the film, which would give the order away.",
    "'Brief move, later' tests networks on moves at moments at which nothing moved in training.",
    "All networks are trained for the same few passes at the same rate; longer training may move what is between them.",
    "Pictures of the test are never in training: two of eight photographs, one of three videos. The seeds share them in part, "
    "so the intervals speak for these pictures; networks are small, frames 24 by 24 and grey.",
)


def judge(blind: Sequence[Estimate], volume: Sequence[Estimate], channels: Sequence[Estimate]) -> Verdict:
    """The rule of the verdict. All are accuracies minus chance, one for each situation.

    * undecided, if one frame alone is above chance anywhere (``blind``): then the tasks leak;
    * refuted, if Conv3d (``volume``) stays below ``MARGIN`` everywhere;
    * undecided, if Conv3d is not above chance everywhere;
    * confirmed, if Conv2d with frames as ``channels`` stays below ``MARGIN`` everywhere;
    * corrected, if it is above ``MARGIN`` anywhere: Conv2d can do it too. One case is enough against 'cannot';
    * undecided otherwise.
    """
    if any(e.low > 0 for e in blind):
        return "undecided"
    if all(e.high < MARGIN for e in volume):
        return "refuted"
    if not all(e.low > 0 for e in volume):
        return "undecided"
    if all(e.high < MARGIN for e in channels):
        return "confirmed"
    return "corrected" if any(e.low > MARGIN for e in channels) else "undecided"


def _measure(task: Task, config: Config, measured: dict[str, Scores], progress: Progress) -> None:
    """Train all arms on one task with all seeds."""
    shape = Shape(config.window.frames, config.window.size, task.classes)
    widths = _widths(config.width, shape)
    costs = {Arm(*key): cost(key[0], width, shape) for key, width in widths.items()}
    for name in task.situations:
        measured[name] = Scores(1 / task.classes, defaultdict(list), costs)
    for seed in config.seeds:
        progress(f"{task.name}, seed {seed}")
        drawn = examples(task, config.window, seed, config.train, config.test, config.film)
        for reading in READINGS:
            for budget in BUDGETS:
                if budget == BUDGETS[0] or widths[reading, budget] != widths[reading, BUDGETS[0]]:
                    torch.manual_seed(seed)
                    model = Network(reading, widths[reading, budget], shape)
                    fit(model, drawn.train.inputs, drawn.train.labels, config.training, seed)
                for name, clips in drawn.tests.items():
                    right = accuracy(model, clips.inputs, clips.labels)
                    measured[name].accuracy[Arm(reading, budget)].append(right)


def _widths(width: float, shape: Shape) -> dict[tuple[Reading, Budget], float]:
    """The width of every network. One that meets both budgets stands for both, and is trained once."""
    wanted = cost("3-D", width, shape)
    widths: dict[tuple[Reading, Budget], float] = {}
    for reading in READINGS:
        first, second = (width if reading == "3-D" else width_for(reading, b, wanted.of(b), shape) for b in BUDGETS)
        near = abs(cost(reading, first, shape).of(BUDGETS[1]) / wanted.of(BUDGETS[1]) - 1) < CLOSE
        widths[reading, BUDGETS[0]], widths[reading, BUDGETS[1]] = first, first if near else second
    return widths


def _finding(
    blind: Sequence[Estimate], volume: Sequence[Estimate], channels: Sequence[Estimate], gains: Sequence[Estimate]
) -> str:
    leaks = [e for e in blind if e.low > 0]
    first = f"One frame is at chance in {len(blind) - len(leaks)} of {len(blind)} comparisons. "
    low, high = min(volume, key=lambda e: e.value), max(volume, key=lambda e: e.value)
    first += f"3-D is {_points(low)} to {_points(high)} points above chance; frames as channels of a Conv2d are "
    low, high = min(channels, key=lambda e: e.value), max(channels, key=lambda e: e.value)
    first += f"{_points(low)} to {_points(high)} points above it with as many parameters. "
    low, high = min(gains, key=lambda e: e.value), max(gains, key=lambda e: e.value)
    ahead, behind = sum(e.low > 0 for e in gains), sum(e.high < 0 for e in gains)
    return first + (
        f"3-D is ahead of channels in {ahead} and behind in {behind} of {len(gains)} comparisons: "
        f"from {_points(low)} ({low.name.split(': ')[-1]}) to {_points(high)} ({high.name.split(': ')[-1]})."
    )


def _points(e: Estimate) -> str:
    return f"{100 * e.value:.1f} [{100 * e.low:.1f}, {100 * e.high:.1f}]"


def _won(measured: dict[str, Scores], budget: Budget) -> Chart:
    """Accuracy on a scale that is the same for all tasks: 0 is chance, 1 is always right."""
    series = []
    for name, found in measured.items():
        scale = 1 - found.chance
        bars = [found.above(reading, Arm(reading, budget)) for reading in READINGS]
        series.append(_series(name, [b.name for b in bars], bars, scale))
    label = "share of what chance leaves to be won"
    return Chart("bars", f"Equal {budget}", "how frames are read", label, tuple(series), reference=(0.0, "chance"))


def _gained(measured: dict[str, Scores]) -> Chart:
    series = []
    for budget in BUDGETS:
        bars = [found.gain(name, Arm("channels", budget)) for name, found in measured.items()]
        series.append(_series(f"equal {budget}", [b.name for b in bars], bars, 0.01))
    label = "accuracy of 3-D minus channels (points)"
    return Chart(
        "bars", "3-D against frames as channels", "task", label, tuple(series), reference=(0.0, "no difference")
    )


def _series(name: str, x: Sequence[str], bars: Sequence[Estimate], scale: float) -> Series:
    return Series(
        name,
        tuple(x),
        tuple(b.value / scale for b in bars),
        tuple(b.low / scale for b in bars),
        tuple(b.high / scale for b in bars),
    )


def _tables(measured: dict[str, Scores]) -> tuple[Table, ...]:
    rows: list[tuple[str | int | float | Estimate, ...]] = []
    gains: list[tuple[str | int | float | Estimate, ...]] = []
    for name, found in measured.items():
        for budget in BUDGETS:
            for reading in READINGS:
                arm = Arm(reading, budget)
                held = found.cost[arm]
                right = statistics.mean("accuracy", [100 * a for a in found.accuracy[arm]], "%")
                rows.append((name, f"equal {budget}", reading, held.parameters, held.macs, 100 * found.chance, right))
            others = (r for r in READINGS if r != "3-D")
            gains.append((name, f"equal {budget}", *(found.gain(f"3-D minus {r}", Arm(r, budget)) for r in others)))
    columns = ("task", "budget", "reading", "parameters", "multiply-adds", "chance (%)", "accuracy (%)")
    against = ("task", "budget", *(f"3-D minus {r}" for r in READINGS if r != "3-D"))
    return (
        Table("Accuracy on held-out pictures", columns, tuple(rows)),
        Table("Paired differences of accuracy", against, tuple(gains)),
    )
