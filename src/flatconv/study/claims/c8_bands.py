"""C8: bands as depth against bands as channels. Do 3-D kernels use the order of the bands?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from flatconv.findings import Chart, Claim, Estimate, Progress, Result, Series, Table, Verdict
from flatconv.study import data, statistics
from flatconv.study.bands import Examples, Patches, apart, examples, halves
from flatconv.study.networks import Cost, Network, Reading, Shape, cost, width_for
from flatconv.study.training import Training, accuracy, fit

CLAIM = Claim(
    key="C8",
    title="Bands as depth",
    said="Stacking bands or channels into depth gives depth a meaning that 3-D kernels use.",
    question="At equal parameters, how often is a network right that reads bands as depth with 3-D kernels, with the bands in "
    "order and out of order, against one that reads them as channels of a Conv2d, and one that reads each by itself?",
)

GAP = 16
"""Columns left out between the half of a photograph for training and the half for the test."""


@dataclass(frozen=True)
class Config:
    """All that decides the numbers.

    Attributes:
        patches: one task for each.
        width: of the 3-D network, whose parameters the others are given.
        train: examples to learn from.
        test: examples of each test.
        training: of every network alike.
        margin: a difference in accuracy up to this is none.
        seeds: each draws other patches, starts from other weights and shuffles the bands in another way; odd ones learn from
            the right half of each photograph, even ones from the left.
    """

    patches: tuple[Patches, ...]
    width: float
    train: int
    test: int
    training: Training
    margin: float
    seeds: tuple[int, ...]


FULL = Config(
    patches=(
        Patches("scale", bands=7, size=24, noise=0.7, seen=(0.0, 1.0), unseen=(1.2, 1.8)),
        Patches("exposure", bands=7, size=16, noise=0.15, seen=(-1.0, 1.0), unseen=(1.5, 2.5)),
    ),
    width=5,
    train=900,
    test=900,
    training=Training(epochs=8, batch=32, rate=4e-3),
    margin=0.02,
    # Seeds 0 to 2 were looked at while the noise was chosen, so they are not measured with.
    seeds=(10, 11, 12, 13, 14, 15, 16, 17),
)
QUICK = Config(
    patches=(
        Patches("scale", bands=5, size=8, noise=0.5, seen=(0.0, 1.0), unseen=(1.2, 1.8)),
        Patches("exposure", bands=5, size=8, noise=0.1, seen=(-1.0, 1.0), unseen=(1.5, 2.5)),
    ),
    width=1,
    train=48,
    test=30,
    training=Training(epochs=1, batch=24, rate=4e-3),
    margin=0.02,
    seeds=(0, 1),
)


@dataclass(frozen=True)
class Arm:
    """A way to read the bands."""

    name: str
    reading: Reading
    shuffled: bool = False


DEPTH = Arm("depth, 3-D", "3-D")
SHUFFLED = Arm("depth, 3-D, bands shuffled", "3-D", shuffled=True)
CHANNELS = Arm("channels, 2-D", "channels")
ALONE = Arm("each band by itself, averaged", "averaged")
ARMS = (DEPTH, SHUFFLED, CHANNELS, ALONE)


@dataclass(frozen=True)
class Scores:
    """Of one test.

    Attributes:
        name: task and range.
        accuracy: of each arm, in the order of the seeds.
        cost: of each arm.
        chance: of a guess.
    """

    name: str
    accuracy: Mapping[Arm, tuple[float, ...]]
    cost: Mapping[Arm, Cost]
    chance: float


def run(config: Config, progress: Progress) -> Result:
    """Train every network on every task, and compare."""
    return result(config, [scores for how in config.patches for scores in _measure(config, how, progress)])


def judge(order: Sequence[Estimate], gain: Sequence[Estimate], mixed: Sequence[Estimate], margin: float) -> Verdict:
    """Does depth have a meaning that pays?

    The accuracy of 3-D with the bands in order, minus that

    * with the bands shuffled (``order``): does the order tell it something?
    * of bands as channels (``gain``): is depth the better place for them?
    * of each band by itself, averaged (``mixed``): is it that kernels reach over several bands, or only that all bands have
      the same weights?

    One of each for every test. A difference *is there* if its interval lies above 0; it is *not there* if not, and its
    interval ends at or below ``margin``; it is open otherwise.

    * confirmed: all are there;
    * refuted: none is there;
    * corrected: some are there and some are not, whatever becomes of the open ones;
    * undecided: otherwise.
    """
    found = (*order, *gain, *mixed)
    there = sum(e.low > 0 for e in found)
    absent = sum(e.low <= 0 and e.high <= margin for e in found)
    if there and absent:
        return "corrected"
    if found and there == len(found):
        return "confirmed"
    if found and absent == len(found):
        return "refuted"
    return "undecided"


def result(config: Config, measured: Sequence[Scores]) -> Result:
    """Numbers to a verdict, tables and charts."""
    level = 1 - 0.05 / max(3 * len(measured), 1)
    order = [_difference("in order minus shuffled", s, DEPTH, SHUFFLED, level) for s in measured]
    gain = [_difference("depth minus channels", s, DEPTH, CHANNELS, level) for s in measured]
    mixed = [_difference("depth minus each band by itself", s, DEPTH, ALONE, level) for s in measured]
    return Result(
        verdict=judge(order, gain, mixed, config.margin),
        finding=f"Accuracy in 3-D with the bands in order minus that with the bands shuffled: {_list(order)}. "
        f"Minus that of bands as channels: {_list(gain)}. Minus that of each band by itself, averaged: {_list(mixed)}.",
        estimates=(*order, *gain, *mixed),
        charts=(_accuracies(measured), _differences(measured, order, gain, mixed)),
        tables=(_scores(measured), _costs(measured)),
        notes=NOTES,
        advice="Bands that are always in the same place: give them to a Conv2d as channels first, which costs least. "
        "Where what you look for moves along the bands, share weights over the bands: Conv3d with bands as depth "
        "(flatconv stack --stack bands), or a Conv2d on each band, averaged. Measure both, and Conv3d with the bands "
        "shuffled: if it is no worse, the depth of your kernels means nothing to your network.",
    )


NOTES = (
    "No image of many spectral bands comes with the packages. The bands are made from three photographs of surfaces (brick, "
    "grass, gravel): neighbouring scales, or simulated exposures. Both have an order, and their content moves along it with "
    "distance or light. Real spectra may behave otherwise.",
    "The bands of scale are computed from one patch, so together they say no more than the patch does. The bands of exposure "
    "have noise of their own.",
    "Training and test are different halves of each photograph. The seeds share both halves in turn, so the intervals speak "
    "for these photographs and these small networks.",
    "To a Conv2d with bands as channels the order of the bands makes no difference: its weights are shuffled along.",
    "Parameters are equal; multiply-adds are not, as 3-D kernels work at every band.",
    "'Unseen' tests have distances, or light, outside of the range of training. The intervals of the verdict hold together "
    "with 95 %.",
)


def _measure(config: Config, how: Patches, progress: Progress) -> list[Scores]:
    photographs = data.textures()
    shape = Shape(how.bands, how.size, len(photographs))
    amount = cost("3-D", config.width, shape).parameters
    widths = {arm: width_for(arm.reading, "parameters", amount, shape) for arm in ARMS}
    found: dict[str, dict[Arm, list[float]]] = {name: {arm: [] for arm in ARMS} for name in ("seen", "unseen")}
    for seed in config.seeds:
        random = torch.Generator().manual_seed(seed)
        learn, held = halves(photographs, GAP)
        if seed % 2:
            learn, held = held, learn
        train = examples(learn, config.train, how, how.seen, random)
        tests = {
            "seen": examples(held, config.test, how, how.seen, random),
            "unseen": examples(held, config.test, how, how.unseen, random),
        }
        shuffle = apart(how.bands, random)
        for arm in ARMS:
            progress(f"bands of {how.kind}: {arm.name}, seed {seed}")
            order = shuffle if arm.shuffled else torch.arange(how.bands)
            model = _trained(arm, widths[arm], shape, train, order, config.training, seed)
            for name, test in tests.items():
                found[name][arm].append(accuracy(model, test.inputs[:, :, order], test.labels))
    costs = {arm: cost(arm.reading, widths[arm], shape) for arm in ARMS}
    what = "distance" if how.kind == "scale" else "light"
    return [
        Scores(f"{how.kind}, {name} {what}", {arm: tuple(a) for arm, a in of.items()}, costs, 1 / len(photographs))
        for name, of in found.items()
    ]


def _trained(
    arm: Arm, width: float, shape: Shape, train: Examples, order: torch.Tensor, how: Training, seed: int
) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Network(arm.reading, width, shape)
    fit(model, train.inputs[:, :, order], train.labels, how, seed)
    return model


def _difference(what: str, scores: Scores, a: Arm, b: Arm, level: float) -> Estimate:
    return statistics.difference(f"{what}: {scores.name}", scores.accuracy[a], scores.accuracy[b], level=level)


def _list(found: Sequence[Estimate]) -> str:
    return "; ".join(f"{e.name.partition(': ')[2]} {e.value:+.3f} ({e.low:+.3f} to {e.high:+.3f})" for e in found)


def _accuracies(measured: Sequence[Scores]) -> Chart:
    series = []
    for arm in ARMS:
        each = [statistics.mean(arm.name, s.accuracy[arm]) for s in measured]
        series.append(_series(arm.name, measured, each))
    chance = measured[0].chance if measured else 0.0
    return Chart(
        "bars", "Accuracy by reading of the bands", "test", "accuracy", tuple(series), reference=(chance, "chance")
    )


def _differences(
    measured: Sequence[Scores], order: Sequence[Estimate], gain: Sequence[Estimate], mixed: Sequence[Estimate]
) -> Chart:
    return Chart(
        "bars",
        "What the order, and depth, are worth",
        "test",
        "difference in accuracy",
        (
            _series("in order minus shuffled", measured, order),
            _series("depth minus channels", measured, gain),
            _series("depth minus each band by itself", measured, mixed),
        ),
        reference=(0.0, "no difference"),
    )


def _series(name: str, measured: Sequence[Scores], each: Sequence[Estimate]) -> Series:
    return Series(
        name,
        tuple(s.name for s in measured),
        tuple(e.value for e in each),
        tuple(e.low for e in each),
        tuple(e.high for e in each),
    )


def _scores(measured: Sequence[Scores]) -> Table:
    return Table(
        "Accuracy on the held-out halves, mean over seeds",
        ("test", *(arm.name for arm in ARMS)),
        tuple((s.name, *(statistics.mean(arm.name, s.accuracy[arm]) for arm in ARMS)) for s in measured),
    )


def _costs(measured: Sequence[Scores]) -> Table:
    return Table(
        "Cost of each network",
        ("test", "bands as", "parameters", "multiply-adds for one image"),
        tuple((s.name, arm.name, s.cost[arm].parameters, s.cost[arm].macs) for s in measured for arm in ARMS),
    )
