"""C2: 'depth parameters will often learn to be close to zero'. Where do dead taps go when a network is trained on images?

A network with two 3x3x3 convolutions, padded by 1, learns handwritten digits of one slice: the outer taps meet zeros only.
The loss does not depend on them, so its gradient is zero, and what becomes of them is up to the optimizer alone. That can be
forecast without data: ``forecast`` takes the optimizer's published recursion with a gradient of zero, one weight at a time in
float64, and training is held against it.
"""

from __future__ import annotations

import math
import statistics as plain_statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flatconv.findings import Chart, Claim, Estimate, Progress, Result, Series, Table, Verdict
from flatconv.study import data, statistics
from flatconv.study.training import Optimizer, Training, accuracy, fit

CLAIM = Claim(
    key="C2",
    title="Depth parameters learn to be close to zero",
    said="Trained on single images, a Conv3d will often learn depth parameters close to zero.",
    question="What does the loss do to the taps that meet only padding, and where does each optimizer leave them?",
)

NEAR = 0.1
"""'Close to zero': a norm below this share of the first one."""

MOMENTUM, BETAS, EPS = 0.9, (0.9, 0.999), 1e-8
DEAD, LIVE = (0, 2), (1,)


@dataclass(frozen=True)
class Config:
    """What is trained.

    Attributes:
        ways: optimizers with rates and decay as people set them.
        seeds: of the first weights and of the order of the images.
        images: to learn from; the others are asked about.
    """

    ways: tuple[Training, ...]
    seeds: tuple[int, ...]
    images: int = 1024


def _ways(epochs: int) -> tuple[Training, ...]:
    return (
        Training(epochs, 32, 5e-2, "sgd", 0.0),
        Training(epochs, 32, 5e-2, "sgd with decay", 5e-4),
        Training(epochs, 32, 2e-3, "adam", 0.0),
        Training(epochs, 32, 2e-3, "adam with decay", 5e-4),
        Training(epochs, 32, 2e-3, "adamw", 1e-2),
    )


FULL = Config(_ways(15), (0, 1, 2, 3, 4, 5))
QUICK = Config(_ways(1), (0, 1), images=128)


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        dead: norm of all dead taps before each step and at the end, as shares of the first: (steps + 1,).
        live: the same of the live taps.
        gradient: largest absolute gradient of the loss in a dead tap at any step.
        live_gradient: smallest norm of the gradient of the live taps at any step.
        unchanged: whether every weight of the dead taps ended with the bits it began with.
        off: largest difference of a dead weight from the forecast, as a share of the largest first weight.
        forecast: norm at the end by the forecast, as a share of the first.
        accuracy: on images not learned from.
    """

    dead: tuple[float, ...]
    live: tuple[float, ...]
    gradient: float
    live_gradient: float
    unchanged: bool
    off: float
    forecast: float
    accuracy: float


def network() -> nn.Sequential:
    """Two convolutions and a linear layer for digits (N, 1, 1, 8, 8)."""
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv3d(8, 16, 3, (1, 2, 2), padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def rates(how: Training, steps: int) -> list[float]:
    """The learning rate of each step: half a cosine down to zero."""
    return [how.rate * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]


def forecast(first: Tensor, how: Training, steps: int) -> Tensor:
    """Weights after a training whose loss never pulls at them.

    Without decay they stay: ``w_t = w_0``. Decay makes its own gradient ``λ w``, which SGD passes through its momentum
    (``b ← μ b + λ w``, ``w ← w - η b``) and Adam divides by its own size, so that a step is about ``η`` however small ``λ``
    is (Kingma and Ba, 2015). AdamW multiplies: ``w_t = w_0 Π (1 - η_i λ)`` (Loshchilov and Hutter, 2019).

    Args:
        first: weights at the start, any shape.
        how: the training.
        steps: how many.

    Returns:
        Float64, the same shape.
    """
    w = first.double().clone()
    velocity, square = torch.zeros_like(w), torch.zeros_like(w)
    for step, rate in enumerate(rates(how, steps), 1):
        match how.optimizer:
            case "sgd" | "adam":
                return w
            case "adamw":
                w *= 1 - rate * how.decay
            case "sgd with decay":
                velocity = MOMENTUM * velocity + how.decay * w
                w -= rate * velocity
            case "adam with decay":
                pull = how.decay * w
                velocity = BETAS[0] * velocity + (1 - BETAS[0]) * pull
                square = BETAS[1] * square + (1 - BETAS[1]) * pull**2
                size = (square / (1 - BETAS[1] ** step)).sqrt() + EPS
                w -= rate * velocity / (1 - BETAS[0] ** step) / size
    return w


def steps_until_near(how: Training, most: int = 10_000_000) -> int | None:
    """Steps at a constant rate until a weight of 0.1 is below ``NEAR`` of that by decay; None if not within ``most``."""
    if how.optimizer in ("sgd", "adam"):
        return None
    if how.optimizer == "adamw":
        return math.ceil(math.log(NEAR) / math.log1p(-how.rate * how.decay))
    w = start = 0.1
    velocity = square = 0.0
    for step in range(1, most + 1):
        pull = how.decay * w
        if how.optimizer == "sgd with decay":
            velocity = MOMENTUM * velocity + pull
            w -= how.rate * velocity
        else:
            velocity = BETAS[0] * velocity + (1 - BETAS[0]) * pull
            square = BETAS[1] * square + (1 - BETAS[1]) * pull * pull
            size = math.sqrt(square / (1 - BETAS[1] ** step)) + EPS
            w -= how.rate * velocity / (1 - BETAS[0] ** step) / size
        if abs(w) < NEAR * start:
            return step
    return None


def train(how: Training, seed: int, inputs: Tensor, labels: Tensor, images: int) -> Run:
    """Train once and watch the taps of both convolutions."""
    torch.manual_seed(seed)
    net = network()
    convs = [m for m in net if isinstance(m, nn.Conv3d)]

    def taps(which: Sequence[int], gradients: bool = False) -> Tensor:
        found = []
        for conv in convs:
            held = conv.weight.grad if gradients else conv.weight
            assert held is not None
            found.append(held.detach()[:, :, list(which)].flatten())
        return torch.cat(found).clone()

    first = taps(DEAD)
    dead, live, pulls, live_pulls = [], [], [], []

    def look(step: int, loss: float) -> None:
        dead.append(float(taps(DEAD).norm()))
        live.append(float(taps(LIVE).norm()))
        pulls.append(float(taps(DEAD, gradients=True).abs().max()))
        live_pulls.append(float(taps(LIVE, gradients=True).norm()))

    fit(net, inputs[:images], labels[:images], how, seed, each_step=look)
    dead.append(float(taps(DEAD).norm()))
    live.append(float(taps(LIVE).norm()))
    expected = forecast(first, how, len(pulls))
    off = float((taps(DEAD).double() - expected).abs().max() / first.abs().max())
    return Run(
        dead=tuple(v / dead[0] for v in dead),
        live=tuple(v / live[0] for v in live),
        gradient=max(pulls),
        live_gradient=min(live_pulls),
        unchanged=torch.equal(first, taps(DEAD)),
        off=off,
        forecast=float(expected.norm() / first.double().norm()),
        accuracy=accuracy(net, inputs[images:], labels[images:]),
    )


def judge(ends: Sequence[Estimate], gradient: float) -> Verdict:
    """By where the dead taps end, and by whether the loss has anything to do with it.

    Args:
        ends: for each optimizer, the norm at the end as a share of the first.
        gradient: largest absolute gradient of the loss in a dead tap.
    """
    near, far = [e.high < NEAR for e in ends], [e.low > NEAR for e in ends]
    if not ends or not all(n or f for n, f in zip(near, far, strict=True)):
        return "undecided"
    if not any(near):
        return "refuted"
    learned = gradient > 0
    return "confirmed" if all(near) and learned else "corrected"


def run(config: Config, progress: Progress) -> Result:
    """Train with every optimizer and seed."""
    inputs, labels = data.digits()
    inputs = ((inputs - inputs.mean()) / inputs.std())[:, :, None]
    runs: dict[Optimizer, list[Run]] = {}
    for how in config.ways:
        for seed in config.seeds:
            progress(f"{how.optimizer}, seed {seed}")
            runs.setdefault(how.optimizer, []).append(train(how, seed, inputs, labels, config.images))
    return _result(config, runs)


def _result(config: Config, runs: dict[Optimizer, list[Run]]) -> Result:
    ends = {o: statistics.mean(f"dead taps at the end, {o}", [r.dead[-1] for r in mine]) for o, mine in runs.items()}
    live = {o: statistics.mean(f"live taps at the end, {o}", [r.live[-1] for r in mine]) for o, mine in runs.items()}
    gradient = max(r.gradient for mine in runs.values() for r in mine)
    steps = sum(len(r.dead) - 1 for mine in runs.values() for r in mine)
    near = [e for e in ends.values() if e.high < NEAR]
    others = [e for e in ends.values() if e.high >= NEAR]
    says = "exactly 0" if gradient == 0 else f"at most {gradient:.1e}"
    by = ", ".join(f"{e.name.split(', ')[1]} leaves {_share(e)} of their first norm" for e in near)
    finding = f"The gradient of the loss in the dead taps is {says} at every one of {steps} steps in {_count(runs)} trainings. "
    if near:
        why = "The decay alone takes them near zero" if gradient == 0 else "Near zero"
        finding += f"{why}: {by}. "
    if others:
        low, high = min(e.value for e in others), max(e.value for e in others)
        finding += f"The {'other ' if near else ''}optimizers leave {low:.1%} to {high:.1%}."
    return Result(
        verdict=judge(list(ends.values()), gradient),
        finding=finding.strip(),
        estimates=(
            Estimate("largest gradient of the loss in a dead tap", gradient, gradient, gradient, n=steps),
            *ends.values(),
        ),
        charts=(
            _chart("Dead taps: they meet only padding", {o: [r.dead for r in mine] for o, mine in runs.items()}),
            _chart("Live taps of the same kernels", {o: [r.live for r in mine] for o, mine in runs.items()}),
        ),
        tables=(_ends_table(config, runs, ends, live), _forecast_table(config, runs)),
        notes=(
            f"'Close to zero' means a norm below {NEAR:.0%} of the first. SGD has a momentum of {MOMENTUM}; rates fall to zero "
            "along half a cosine.",
            "The smallest gradient norm of the live taps at any step was "
            f"{min(r.live_gradient for mine in runs.values() for r in mine):.1e}: the measurement can see a gradient.",
            "Taps that nothing pulls at are not harmless: they are stored, moved and multiplied, and the default "
            "initialisation counts them in its fan-in (C5).",
        ),
        advice="Do not read small depth weights as a sign that depth was not needed, nor large ones as a sign that it was: on "
        "single images they tell which optimizer was used. `flatconv audit` says which taps meet data.",
    )


def _share(e: Estimate) -> str:
    return f"{e.value:.2%} ({e.low:.2%} to {e.high:.2%})"


def _count(runs: dict[Optimizer, list[Run]]) -> int:
    return sum(len(mine) for mine in runs.values())


def _chart(title: str, norms: dict[Optimizer, list[tuple[float, ...]]]) -> Chart:
    """Mean norms of all seeds with intervals, at some thirty steps."""
    series = []
    for name, mine in norms.items():
        steps = len(mine[0]) - 1
        shown = sorted({round(i * steps / 30) for i in range(31)})
        found = [statistics.mean(name, [norm[step] for norm in mine]) for step in shown]
        finite = all(math.isfinite(e.low) for e in found)
        series.append(
            Series(
                name,
                tuple(float(s) for s in shown),
                tuple(e.value for e in found),
                tuple(e.low for e in found) if finite else (),
                tuple(e.high for e in found) if finite else (),
            )
        )
    return Chart(
        "lines", title, "step", "norm, as a share of the first", tuple(series), reference=(NEAR, "close to zero")
    )


def _ends_table(
    config: Config, runs: dict[Optimizer, list[Run]], ends: dict[Optimizer, Estimate], live: dict[Optimizer, Estimate]
) -> Table:
    rows = []
    for how in config.ways:
        mine = runs[how.optimizer]
        rows.append((
            how.optimizer,
            how.rate,
            how.decay,
            max(r.gradient for r in mine),
            ends[how.optimizer],
            live[how.optimizer],
            "every bit" if all(r.unchanged for r in mine) else "changed",
            statistics.mean("accuracy", [r.accuracy for r in mine]),
        ))  # fmt: skip
    return Table(
        "Where the taps end, as a share of their first norm",
        (
            "optimizer",
            "rate",
            "decay",
            "largest gradient in dead taps",
            "dead taps",
            "live taps",
            "dead weights kept",
            "accuracy",
        ),
        tuple(rows),
    )


def _forecast_table(config: Config, runs: dict[Optimizer, list[Run]]) -> Table:
    rows = []
    for how in config.ways:
        mine = runs[how.optimizer]
        until = steps_until_near(how)
        rows.append((
            how.optimizer,
            plain_statistics.fmean(r.dead[-1] for r in mine),
            plain_statistics.fmean(r.forecast for r in mine),
            max(r.off for r in mine),
            "never" if until is None else f"{until:,}",
        ))  # fmt: skip
    return Table(
        "Training against the forecast that sees no data",
        (
            "optimizer",
            "dead taps, trained",
            "dead taps, forecast",
            "largest difference of a weight (share of the largest)",
            f"steps at the full rate until below {NEAR:.0%}",
        ),
        tuple(rows),
    )
