"""One epoch of training, with and without the fold: loss curves, accuracy and seconds.

    python benchmarks/training.py --json benchmarks/results/training.json

An R3D-18-style network learns handwritten digits (scikit-learn's 1,797 of 8×8, enlarged) as videos of one frame, batch norm
in train mode, with SGD and momentum. Both start from the same weights and take their steps alternately on the same batches; the
fold reads and moves the parameters of its own copy of the model (``weights="shared"``).
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import flatconv
import harness
from flatconv import examples
from flatconv.bench import machine

SIZE, BATCH, WIDTH, RATE = 32, 32, 16, 2e-2
HELD_OUT = 357


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    parser.add_argument("--steps", type=int, metavar="N", help="fewer steps, to see that it runs")
    arguments = parser.parse_args()
    harness.pin()
    results = {"environment": machine.environment(), "settings": settings(), **trained(arguments.steps)}
    # In float32 two roundings of one sum grow apart from step to step; in float64 they show that nothing else does.
    results["float64"] = trained(arguments.steps, torch.float64)["largest difference of losses"]
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(results, Console(width=120))


def settings() -> dict[str, Any]:
    return {"size": SIZE, "batch": BATCH, "width": WIDTH, "learning rate": RATE, "threads": harness.THREADS}


def digits() -> tuple[Tensor, Tensor]:
    """Pictures (1797, 3, 1, SIZE, SIZE) in [0, 1] in a fixed order of chance, and what they show."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = F.interpolate(
        torch.tensor(found.images, dtype=torch.float32)[:, None] / 16, (SIZE, SIZE), mode="bilinear"
    )
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))
    return pictures[order].expand(-1, 3, -1, -1)[:, :, None].contiguous(), torch.tensor(found.target)[order]


def trained(steps: int | None, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Both sides, step by step."""
    pictures, labels = digits()
    pictures = pictures.to(dtype)
    learn = len(pictures) - HELD_OUT
    torch.manual_seed(0)
    model = examples.r3d18(width=WIDTH, num_classes=10).to(dtype).train()
    models = {"original": model, "folded": copy.deepcopy(model)}
    flat = flatconv.fold(models["folded"], (pictures[:BATCH],), weights="shared")
    calls: dict[str, nn.Module] = {"original": models["original"], "folded": flat}
    optimisers = {side: torch.optim.SGD(m.parameters(), lr=RATE, momentum=0.9) for side, m in models.items()}
    losses: dict[str, list[float]] = {side: [] for side in calls}
    seconds: dict[str, list[float]] = {side: [] for side in calls}
    count = min(learn // BATCH, steps or learn)
    for i in range(count):
        x, y = pictures[i * BATCH : (i + 1) * BATCH], labels[i * BATCH : (i + 1) * BATCH]
        for side in calls if i % 2 else reversed(calls):
            begun = time.perf_counter()
            optimisers[side].zero_grad()
            loss = F.cross_entropy(calls[side](x), y)
            loss.backward()
            optimisers[side].step()
            seconds[side].append(time.perf_counter() - begun)
            losses[side].append(loss.item())
    accuracy = {}
    with torch.inference_mode():
        for side, each in models.items():
            accuracy[side] = float((each.eval()(pictures[learn:]).argmax(1) == labels[learn:]).float().mean())
    ratios = [a / b for a, b in zip(seconds["original"][1:], seconds["folded"][1:], strict=True)]
    return {
        "losses": losses,
        "largest difference of losses": max(abs(a - b) for a, b in zip(*losses.values(), strict=True)),
        "difference of the first ten": max(abs(a - b) for a, b in list(zip(*losses.values(), strict=True))[:10]),
        "ms": {side: harness.summary([1e3 * s for s in each[1:]]) for side, each in seconds.items()},
        "original/folded": harness.summary(ratios),
        "epoch_s": {side: sum(each) for side, each in seconds.items()},
        "accuracy": accuracy,
        "sites": [site.becomes for site in flat.report.sites],
    }


def show(results: dict[str, Any], console: Console) -> None:
    """One table and the curves' differences."""
    table = Table(title=f"one epoch of {len(results['losses']['original'])} steps", title_justify="left")
    for column in ("", "step, ms", "epoch, s", "first loss", "last loss", "held out, right"):
        table.add_column(column, justify="right" if column else "left")
    for side in ("original", "folded"):
        curve = results["losses"][side]
        table.add_row(
            side,
            f"{results['ms'][side]['median']:.1f}",
            f"{results['epoch_s'][side]:.1f}",
            f"{curve[0]:.4f}",
            f"{curve[-1]:.4f}",
            f"{results['accuracy'][side]:.1%}",
        )
    console.print(table)
    ratio, first = results["original/folded"], results["difference of the first ten"]
    console.print(
        f"original / folded: {ratio['median']:.2f} ({ratio['q1']:.2f}–{ratio['q3']:.2f}). Losses differ by at most "
        f"{first:.1e} in the first ten steps, {results['largest difference of losses']:.1e} in all; in float64 by at most "
        f"{results['float64']:.1e} in all."
    )


def markdown(results: dict[str, Any]) -> str:
    """The figures in Markdown."""
    where, ms = results["environment"], results["ms"]
    ratio = results["original/folded"]
    lines = [
        f"One epoch of an R3D-18-style network on handwritten digits ({len(results['losses']['original'])} steps of {BATCH} "
        f"pictures of {SIZE}×{SIZE}), with and without the fold, measured {where['date'][:10]} on {where['processor']}, "
        f"{results['settings']['threads']} threads, torch {where['torch']}; steps are taken in turns. "
        "`benchmarks/training.py` makes the figures again.",
        "",
        "| | step | epoch | first loss | last loss | held out, right |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for side in ("original", "folded"):
        curve = results["losses"][side]
        lines.append(
            f"| {side} | {ms[side]['median']:.1f} ms | {results['epoch_s'][side]:.1f} s | {curve[0]:.4f} | {curve[-1]:.4f} | "
            f"{results['accuracy'][side]:.1%} |"
        )
    lines += [
        "",
        f"Time of a step, original / folded: {ratio['median']:.2f} ({ratio['q1']:.2f}–{ratio['q3']:.2f}). The losses differ by "
        f"at most {results['difference of the first ten']:.1e} in the first ten steps and "
        f"{results['largest difference of losses']:.1e} in all, where rounding grows from step to step; in float64 by at most "
        f"{results['float64']:.1e} in all.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
