"""C5: 'applying Conv3d directly to single images is often ineffective'. Is a direct 3-D network less accurate than a 2-D one?

Four towers learn the same images in the same order with the same steps: in 2-D; direct, with kernels (3, 3, 3) on depth 1;
with unit depth (1, 3, 3); and direct after ``flatconv.reinit``. At depth 1 a direct network can compute what the 2-D one can
and nothing else; the two differ in where they start, since the default initialisation counts the taps that meet only padding:
the result of every layer is √3 times smaller. A normalisation takes that out again, so each depth of network is trained with
and without one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

import torch
from torch import Tensor

from flatconv.findings import Chart, Claim, Estimate, Progress, Result, Series, Table, Verdict
from flatconv.reinit import reinit
from flatconv.study import labelled, statistics
from flatconv.study.labelled import SETS, SIZE, Split
from flatconv.study.towers import VARIANTS, Beginning, Shape, Variant, beginning, copy_live, loss, side_by_side, tower
from flatconv.study.training import Training, fit, predict

CLAIM = Claim(
    key="C5",
    title="Direct use on single images is ineffective",
    said="Applying Conv3d directly to single images is often ineffective.",
    question="How accurate are 2-D, direct and unit-depth 3-D networks, with and without normalisation, as they get deeper?",
)

NORMS = {True: "with norm", False: "without norm"}


@dataclass(frozen=True)
class Images:
    """What is learned.

    Attributes:
        name: 'digits' or 'textures'.
        layers: depths of the networks.
        target: accuracy to which steps are counted.
    """

    name: str
    layers: tuple[int, ...]
    target: float


@dataclass(frozen=True)
class Config:
    """What is trained.

    Attributes:
        sets: of images.
        seeds: of the first weights, the split of the images and their order; they run side by side.
        how: the training, one budget for all.
        train: images to learn from.
        test: images to be asked about.
        width: channels.
        margin: a difference of accuracy that matters.
        others: more trainings, each for ``other_layers`` on the first images.
        other_layers: depth of those networks.
    """

    sets: tuple[Images, ...]
    seeds: tuple[int, ...]
    how: Training
    train: int = 1000
    test: int = 700
    width: int = 8
    margin: float = 0.01
    others: tuple[Training, ...] = ()
    other_layers: int = 4


# Twelve seeds: without norm some networks never begin to learn, so the differences scatter.
FULL = Config(
    sets=(Images("digits", (2, 4, 8), 0.9), Images("textures", (4, 8), 0.8)),
    seeds=tuple(range(12)),
    how=Training(epochs=12, batch=64, rate=2e-3),
    others=(Training(epochs=12, batch=64, rate=5e-2, optimizer="sgd"),),
)
QUICK = Config(
    sets=(Images("digits", (2, 3), 0.3), Images("textures", (2,), 0.4)),
    seeds=(0, 1),
    how=Training(epochs=2, batch=32, rate=1e-2),
    train=96,
    test=96,
    width=4,
    others=(Training(epochs=1, batch=32, rate=5e-2, optimizer="sgd"),),
    other_layers=2,
)


@dataclass(frozen=True)
class Cell:
    """One shape of network with one training.

    Attributes:
        images: that it learned.
        layers: of the network.
        norm: with batch normalisation.
        optimizer: of the training.
        accuracy: by variant, one value a run, on images not learned from.
        steps: by variant, steps until the target accuracy was seen first; infinite if it was not.
        start: by variant.
    """

    images: str
    layers: int
    norm: bool
    optimizer: str
    accuracy: dict[Variant, list[float]]
    steps: dict[Variant, list[float]]
    start: dict[Variant, Beginning]

    def less(self, variant: Variant) -> list[float]:
        """Accuracy of a variant less that of the 2-D network, run by run."""
        return [a - b for a, b in zip(self.accuracy[variant], self.accuracy["2-D"], strict=True)]


def judge(normed: Estimate, plain: Estimate, margin: float) -> Verdict:
    """The verdict, from the accuracy of direct 3-D less that of 2-D, on average over images and depths of network.

    * It *loses* if the whole interval lies below ``-margin``, and *keeps up* if the whole interval lies above it.
    * confirmed: it loses with normalisation and without; corrected: it loses in one of the two and keeps up in the other;
      refuted: it keeps up in both; undecided: an interval holds ``-margin``.

    Args:
        normed: the difference with normalisation.
        plain: the difference without.
        margin: a difference that matters.
    """
    both = (normed, plain)
    if any(e.low <= -margin <= e.high for e in both):
        return "undecided"
    loses = [e.high < -margin for e in both]
    return "confirmed" if all(loses) else "corrected" if any(loses) else "refuted"


def run(config: Config, progress: Progress) -> Result:
    """Train every variant at every depth, with and without normalisation."""
    cells = []
    for images in config.sets:
        split = _split(images.name, config)
        for layers in images.layers:
            for norm, words in NORMS.items():
                progress(f"{images.name}: {layers} layers {words}")
                cells.append(_cell(images, split, layers, norm, config.how, config))
    first = config.sets[0]
    others = []
    for how in config.others:
        for norm, words in NORMS.items():
            progress(f"{first.name}: {config.other_layers} layers {words}, {how.optimizer}")
            others.append(_cell(first, _split(first.name, config), config.other_layers, norm, how, config))
    progress("the same start in 2-D and 3-D")
    return _result(config, cells, others, max(_apart(config, norm) for norm in NORMS))


def _cell(images: Images, split: Split, layers: int, norm: bool, how: Training, config: Config) -> Cell:
    accuracy: dict[Variant, list[float]] = {}
    steps: dict[Variant, list[float]] = {}
    start: dict[Variant, Beginning] = {}
    shape = Shape(layers, config.width, norm, SIZE, split.classes)
    for variant in VARIANTS:
        model = side_by_side([tower(variant, shape, seed) for seed in config.seeds])
        if variant == "corrected 3-D":
            reinit(model, (split.train[0][:2],))
        part = slice(0, 128)
        start[variant] = beginning(copy.deepcopy(model), split.train[0][part], split.train[1][part])
        each = -(-len(split.train[0]) // how.batch)
        seen: list[tuple[int, Tensor]] = []

        def look(step: int, _loss: float, model: torch.nn.Module = model, seen: list = seen, each: int = each) -> None:  # type: ignore[type-arg]
            if step and step % each == 0:
                seen.append((step, _right(model, split)))
                model.train()

        fit(model, *split.train, how, seed=0, loss=loss, each_step=look)
        seen.append((how.epochs * each, _right(model, split)))
        accuracy[variant] = seen[-1][1].tolist()
        steps[variant] = [
            next((float(step) for step, right in seen if right[i] >= images.target), math.inf)
            for i in range(len(config.seeds))
        ]
    return Cell(images.name, layers, norm, how.optimizer, accuracy, steps, start)


def _right(model: torch.nn.Module, split: Split) -> Tensor:
    inputs, labels = split.test
    return torch.eq(predict(model, inputs).argmax(2), labels).double().mean(0)


def _split(name: str, config: Config) -> Split:
    return labelled.side_by_side(name, config.seeds, config.train, config.test)


def _apart(config: Config, norm: bool) -> float:
    """Largest difference of the loss, as a share, between a 2-D and a direct 3-D training that start from the same weights."""
    split = _split("digits", config)
    shape = Shape(config.other_layers, config.width, norm, SIZE, split.classes)
    models = [side_by_side([tower(v, shape, s) for s in config.seeds[:2]]).double() for v in ("2-D", "direct 3-D")]
    copy_live(models[0], models[1])
    how = Training(1, 16, config.how.rate, config.how.optimizer, config.how.decay)
    losses: tuple[list[float], list[float]] = ([], [])
    for model, found in zip(models, losses, strict=True):
        inputs, labels = split.train[0][:96, :2].double(), split.train[1][:96, :2]
        fit(model, inputs, labels, how, 0, loss, lambda _step, value, found=found: found.append(value))  # type: ignore[misc]
    return max(abs(a - b) / a for a, b in zip(*losses, strict=True))


# --- what came out


def _result(config: Config, cells: Sequence[Cell], others: Sequence[Cell], apart: float) -> Result:
    def average(variant: Variant, norm: bool) -> Estimate:
        values = [c.less(variant) for c in cells if c.norm is norm]
        name = f"accuracy of {variant} less 2-D, {NORMS[norm]}"
        return statistics.mean(name, [fmean(run) for run in zip(*values, strict=True)])

    estimates = tuple(average(v, norm) for v in VARIANTS[1:] for norm in NORMS)
    direct = {norm: average("direct 3-D", norm) for norm in NORMS}
    corrected = average("corrected 3-D", False)
    verdict = judge(direct[True], direct[False], config.margin)
    deepest = max((c for c in cells if not c.norm), key=lambda c: c.layers)
    last = _less(deepest, "direct 3-D")
    shrunk = fmean(_signal(deepest, "2-D")[-1:]) / fmean(_signal(deepest, "direct 3-D")[-1:])
    finding = (
        f"With batch normalisation a direct 3-D network is {_points(direct[True])} points from the 2-D one, without any "
        f"{_points(direct[False])} ({_points(last)} at {deepest.layers} layers). After flatconv.reinit the latter is "
        f"{_points(corrected)}."
    )
    notes = (
        f"Accuracies are on images that were not learned from. Differences are paired over {len(config.seeds)} seeds, each "
        "with its own weights, split and order of images, and averaged over images and depths before the interval is taken.",
        f"Started from the same live weights, the 2-D and the direct 3-D network have the same losses within {apart:.0e} of "
        "them (float64): all that differs is the start.",
        f"The signal after {deepest.layers} layers without norm starts {shrunk:.3g} times smaller in direct 3-D than in 2-D. "
        f"Each layer alone is √3 times smaller: {math.sqrt(3) ** deepest.layers:.3g} times in all, less what biases carry.",
        "Unit depth has the fan-in of 2-D: from the same seed it draws the same weights and trains alike.",
        "Networks and images are small, and every network has the same few steps and one rate. What is lost without norm "
        "depends on the depth of the network, so the average depends on the depths that were chosen.",
    )
    advice = (
        "Train single images in 2-D. If the network must be 3-D, normalise, or call flatconv.reinit(model, example) before "
        "training; flatconv audit says which layers start too small."
    )
    tables: tuple[Table, ...] = (_accuracies(cells), _starts(cells), _speeds(config, cells))
    if others:
        tables += (_accuracies(others, "With other optimizers"),)
    return Result(verdict, finding, estimates, _charts(cells), tables, notes, advice)


def _points(e: Estimate) -> str:
    return f"{100 * e.value:+.1f} [{100 * e.low:+.1f}, {100 * e.high:+.1f}]"


def _less(cell: Cell, variant: Variant) -> Estimate:
    return statistics.mean(f"{variant} less 2-D", cell.less(variant))


def _signal(cell: Cell, variant: Variant) -> list[float]:
    """Of each layer, the geometric mean over the runs."""
    return [float(s.log().mean().exp()) for s in cell.start[variant].signal]


Row = tuple[str | int | float | Estimate, ...]


def _label(cell: Cell) -> Row:
    return cell.images, cell.layers, NORMS[cell.norm]


def _accuracies(cells: Sequence[Cell], title: str = "Accuracy") -> Table:
    columns = ("images", "layers", "norm", "optimizer", *VARIANTS, "direct less 2-D", "corrected less 2-D")
    rows: tuple[Row, ...] = tuple(
        (
            *_label(c),
            c.optimizer,
            *(statistics.mean(v, c.accuracy[v]) for v in VARIANTS),
            _less(c, "direct 3-D"),
            _less(c, "corrected 3-D"),
        )
        for c in cells
    )
    return Table(title, columns, rows)


def _starts(cells: Sequence[Cell]) -> Table:
    """Signal after the last layer and gradient in the first, before the first step."""
    shown: tuple[Variant, ...] = ("2-D", "direct 3-D", "corrected 3-D")
    columns = ("images", "layers", "norm", *(f"{what}, {v}" for what in ("signal", "gradient") for v in shown))
    rows: list[Row] = []
    for c in cells:
        signals = (_signal(c, v)[-1] for v in shown)
        gradients = (float(c.start[v].gradient[0].clamp_min(1e-300).log().mean().exp()) for v in shown)
        rows.append((*_label(c), *signals, *gradients))
    return Table(
        "Before the first step: spread of the last layer's result, gradient of the first", columns, tuple(rows)
    )


def _speeds(config: Config, cells: Sequence[Cell]) -> Table:
    targets = {i.name: i.target for i in config.sets}
    columns = ("images", "layers", "norm", "accuracy", *(f"{v}: reached, steps" for v in VARIANTS))

    def cell(values: list[float]) -> str:
        middle = median(values)
        reached = sum(math.isfinite(v) for v in values)
        return (
            f"{reached} of {len(values)}, {middle:.0f}" if math.isfinite(middle) else f"{reached} of {len(values)}, –"
        )

    rows: tuple[Row, ...] = tuple((*_label(c), targets[c.images], *(cell(c.steps[v]) for v in VARIANTS)) for c in cells)
    return Table("Steps until an accuracy is seen, the median of the runs", columns, rows)


def _charts(cells: Sequence[Cell]) -> tuple[Chart, ...]:
    charts = []
    for images in dict.fromkeys(c.images for c in cells):
        for norm, words in NORMS.items():
            shown = [c for c in cells if c.images == images and c.norm is norm]
            lines = []
            for v in VARIANTS:
                found = [statistics.mean(v, c.accuracy[v]) for c in shown]
                x = tuple(float(c.layers) for c in shown)
                lines.append(Series(v, x, *(tuple(getattr(e, f) for e in found) for f in ("value", "low", "high"))))
            chance = 1 / SETS[images][1]
            charts.append(
                Chart(
                    "lines",
                    f"Accuracy on {images} {words}",
                    "layers",
                    "accuracy",
                    tuple(lines),
                    reference=(chance, "chance"),
                )
            )
    for norm, words in NORMS.items():
        deepest = max((c for c in cells if c.norm is norm), key=lambda c: c.layers)
        lines = [Series(v, tuple(range(1, deepest.layers + 1)), tuple(_signal(deepest, v))) for v in VARIANTS]
        charts.append(
            Chart(
                "lines",
                f"Before the first step, {words}: how far a layer's result differs between images",
                "layer",
                "standard deviation over images",
                tuple(lines),
                log="y",
            )
        )
    return tuple(charts)
