"""C7: do neighbouring slices help, and does it take Conv3d to use them? A real chest CT, with slices missing or noisy."""

from __future__ import annotations

import math
import statistics as numbers
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flatconv.findings import Chart, Claim, Estimate, Progress, Result, Series, Table, Verdict
from flatconv.study import statistics
from flatconv.study.networks import Cost
from flatconv.study.slices import (
    RANGE,
    READINGS,
    UNIT,
    Name,
    Restorer,
    Stacks,
    cost,
    first_guess,
    patches,
    split,
    volume,
    whole,
    width_for,
)
from flatconv.study.training import Training, fit, predict

CLAIM = Claim(
    key="C7",
    title="Depth from slices",
    said="In volumes such as CT and MRI, the slices next to each other belong together, and Conv3d gains from it.",
    question="How much better is a slice of a real chest CT restored, from noise or from nothing, by networks of equal "
    "parameters that read it alone, its neighbours as channels of a Conv2d, or its neighbours with Conv3d?",
)

MARGIN = 0.1
"""Decibels below which a difference is taken as none."""

TASKS: dict[Name, str] = {"denoise": "a noisy slice", "missing": "a missing slice"}


@dataclass(frozen=True)
class Config:
    """All that decides the numbers.

    Attributes:
        size: of a slice, both ways.
        noise: spread of the noise that is added in the task of denoising, in Hounsfield units.
        width: of the 3-D network, whose number of parameters the others are given.
        blocks: of neighbouring slices, each held out in its turn.
        patches: to learn from.
        patch: their size, both ways.
        training: of every network alike.
        seeds: runs of each block; a block counts once, with their mean.
    """

    size: int
    noise: float
    width: float
    blocks: int
    patches: int
    patch: int
    training: Training
    seeds: tuple[int, ...]


FULL = Config(
    size=128,
    noise=60.0,
    width=12,
    blocks=8,
    patches=3072,
    patch=24,
    training=Training(epochs=3, batch=8, rate=3e-3, decay=0.0),
    seeds=(0,),
)
QUICK = Config(
    size=32,
    noise=60.0,
    width=3,
    blocks=3,
    patches=32,
    patch=16,
    training=Training(epochs=1, batch=16, rate=4e-3, decay=0.0),
    seeds=(0,),
)


@dataclass(frozen=True)
class Errors:
    """Of one task and one way to restore: one value for each block, and what the network costs for a slice."""

    psnr: list[float]
    mae: list[float]
    cost: Cost | None


Measured = dict[tuple[Name, str], Errors]


def run(config: Config, progress: Progress) -> Result:
    """Restore every block with networks that were trained far from it."""
    measured = {key: found for task in TASKS for key, found in _measure(task, config, progress).items()}

    def gain(task: Name, a: str, b: str) -> Estimate:
        return statistics.difference(
            f"{a} minus {b}: {TASKS[task]}", measured[task, a].psnr, measured[task, b].psnr, "dB"
        )

    neighbours = [gain(task, "3-D", "2-D") for task in TASKS]
    channels = [gain(task, "2.5-D", "2-D") for task in TASKS]
    kernel = [gain(task, "3-D", "2.5-D") for task in TASKS]
    linear = gain("missing", "3-D", "linear")
    return Result(
        verdict=judge(neighbours, kernel),
        finding=_finding(neighbours, kernel, linear),
        estimates=(*neighbours, *channels, *kernel, linear),
        charts=(_gains(neighbours, channels, kernel), _levels(measured)),
        tables=(_table(measured), _blocks(measured)),
        notes=(
            "One volume of one patient: the intervals are over blocks of slices of this chest, and say nothing of other "
            "patients, organs or scanners. Slices are 5 mm apart, averaged pixels 3.4 mm.",
            f"The noise is white, Gaussian, independent between slices, {config.noise:g} HU. That of a scanner is coloured, "
            "and thin slices share some of it; neighbours then help less.",
            "Blocks at the ends of the volume show a body that training lacks. A network that trusts neighbours may do worse "
            "there than one that reads a slice alone; the table of blocks shows it.",
            "A missing slice cannot be read alone: '2-D' gets its next neighbour on one side, so it has less to go on, and "
            "what neighbours are worth there is in part this.",
            "Equal parameters are not equal multiply-adds; the table has both. Here they differ by little, since the 3-D "
            "network keeps only the depth that still reaches the slice.",
            "Slices are averaged over 4 by 4 pixels at full size. Errors are taken where there is body, lungs included, with "
            f"values cut to {RANGE[0]:g} to {RANGE[1]:g} HU; PSNR refers to that span.",
        ),
        advice="Give a network the slices next to the one it works on. If they are few, channels of a Conv2d (2.5-D) are the "
        "first thing to try; `flatconv stack` makes both forms.",
    )


def judge(neighbours: Sequence[Estimate], kernel: Sequence[Estimate]) -> Verdict:
    """The rule of the verdict. All are differences of PSNR in dB, one for each task.

    * refuted, if 3-D is not better than 2-D on one slice (``neighbours``) by ``MARGIN`` in any task;
    * corrected, if 3-D is better than 2-D in some task, and in some task neighbours give nothing, or the same slices as
      channels do as well as 3-D (``kernel``) to within ``MARGIN``: slices help, but not always, or not only Conv3d;
    * confirmed, if it is better in all, and better than the same slices as channels in all;
    * undecided otherwise.
    """
    none = [e.high < MARGIN for e in neighbours]
    better = [e.low > 0 and not no for e, no in zip(neighbours, none, strict=True)]
    as_well = [e.high < MARGIN for e in kernel]
    if all(none):
        return "refuted"
    if any(better) and (any(none) or any(as_well)):
        return "corrected"
    return "confirmed" if all(better) and all(e.low > 0 for e in kernel) else "undecided"


def _measure(task: Name, config: Config, progress: Progress) -> Measured:
    """Errors of all networks, and of what needs no network, on all blocks of one task."""
    ct = volume(config.size)
    wanted = cost(task, "3-D", config.width, config.size).parameters
    widths = {r: config.width if r == "3-D" else width_for(task, r, wanted) for r in READINGS}
    costs = {r: cost(task, r, width, config.size) for r, width in widths.items()}
    found: Measured = {(task, r): Errors([], [], costs[r]) for r in READINGS}
    plain = {"no network": "2-D"} if task == "denoise" else {"copy": "2-D", "linear": "3-D"}
    found |= {(task, name): Errors([], [], None) for name in plain}
    for block in range(config.blocks):
        held = split(len(ct), config.blocks, block)
        test = whole(task, ct, held.test, config.noise, torch.Generator().manual_seed(block))
        runs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for name, reading in plain.items():
            runs[name].append(_errors(first_guess(task, "2-D" if reading == "2-D" else "3-D", test.inputs), test))
        for seed in config.seeds:
            progress(f"{TASKS[task]}, block {block + 1} of {config.blocks}, seed {seed}")
            drawn = 1000 + block * len(config.seeds) + seed
            shown = patches(
                task, ct, held.train, config.patches, config.patch, config.noise, torch.Generator().manual_seed(drawn)
            )
            for reading in READINGS:
                torch.manual_seed(drawn)
                model = Restorer(task, reading, widths[reading])
                fit(model, shown.inputs, shown.targets, config.training, drawn, F.mse_loss)
                runs[reading].append(_errors(predict(model, test.inputs, 4), test))
        for name, pairs in runs.items():
            found[task, name].psnr.append(numbers.fmean(p for p, _ in pairs))
            found[task, name].mae.append(numbers.fmean(m for _, m in pairs))
    return found


def _errors(restored: Tensor, test: Stacks) -> tuple[float, float]:
    """PSNR in dB and mean absolute error in Hounsfield units, where there is body."""
    off = (restored - test.targets)[test.counts].double() * UNIT
    return 20 * math.log10(RANGE[1] - RANGE[0]) - 10 * math.log10(float(off.square().mean())), float(off.abs().mean())


def _finding(neighbours: Sequence[Estimate], kernel: Sequence[Estimate], linear: Estimate) -> str:
    parts = [
        f"for {task} 3-D gains {_decibels(n)} over 2-D and {_decibels(k)} over the same slices as channels"
        for task, n, k in zip(TASKS.values(), neighbours, kernel, strict=True)
    ]
    interpolated = f"Over linear interpolation of a missing slice it gains {_decibels(linear)}."
    return f"At equal parameters, {'; '.join(parts)}. {interpolated}"


def _decibels(e: Estimate) -> str:
    return f"{e.value:.2f} dB [{e.low:.2f}, {e.high:.2f}]"


def _gains(neighbours: Sequence[Estimate], channels: Sequence[Estimate], kernel: Sequence[Estimate]) -> Chart:
    groups = {"3-D minus 2-D": neighbours, "2.5-D minus 2-D": channels, "3-D minus 2.5-D": kernel}
    series = tuple(_series(name, tuple(TASKS.values()), bars) for name, bars in groups.items())
    label = "difference of PSNR (dB)"
    return Chart("bars", "What neighbours are worth", "to restore", label, series, reference=(0.0, "no difference"))


def _levels(measured: Measured) -> Chart:
    """Mean absolute error of all ways; a way that a task does not have is left out of its series."""

    def bars(task: Name) -> Series:
        names = [name for t, name in measured if t == task]
        return _series(TASKS[task], tuple(names), [statistics.mean(name, measured[task, name].mae) for name in names])

    return Chart(
        "bars", "Mean absolute error", "how neighbours are read", "error (HU)", tuple(bars(task) for task in TASKS)
    )


def _series(name: str, x: tuple[str, ...], bars: Sequence[Estimate]) -> Series:
    def part(of: Callable[[Estimate], float]) -> tuple[float, ...]:
        return tuple(of(b) for b in bars)

    return Series(name, x, part(lambda b: b.value), part(lambda b: b.low), part(lambda b: b.high))


def _table(measured: Measured) -> Table:
    rows: list[tuple[str | int | float | Estimate, ...]] = []
    for (task, name), found in measured.items():
        spent: tuple[str | int, ...] = (found.cost.parameters, found.cost.macs) if found.cost else ("none", "none")
        errors = (statistics.mean("PSNR", found.psnr, "dB"), statistics.mean("mean absolute error", found.mae, "HU"))
        rows.append((TASKS[task], name, *spent, *errors))
    columns = (
        "to restore",
        "network",
        "parameters",
        "multiply-adds per slice",
        "PSNR (dB)",
        "mean absolute error (HU)",
    )
    return Table("Errors on held-out slices", columns, tuple(rows))


def _blocks(measured: Measured) -> Table:
    rows: list[tuple[str | int | float | Estimate, ...]] = [
        (TASKS[task], name, *(round(p, 2) for p in found.psnr)) for (task, name), found in measured.items()
    ]
    count = len(next(iter(measured.values())).psnr)
    return Table(
        "PSNR of each block (dB)", ("to restore", "network", *(f"block {i + 1}" for i in range(count))), tuple(rows)
    )
