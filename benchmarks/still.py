"""What it is worth to say that the two frames of a still image are equal: patch embeddings of vision-language models.

    python benchmarks/still.py --json benchmarks/results/still.json

A processor doubles a still image into two frames and lays its patches out flat. Without a declaration the fold is one matrix
product; with ``flatconv.repeated(dim=1, within=(channels, 2, P, P), axis=1)`` it is one of half the size, after a look
whether the frames are equal. Both sides alternate in one process.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import flatconv
import harness
from flatconv import measure
from flatconv.bench import machine
from zoo_networks import qwen2_5_vl, qwen2_vl, qwen3_vl

PATCHES = 256
MODELS = {"Qwen2-VL": (qwen2_vl, 14), "Qwen2.5-VL": (qwen2_5_vl, 14), "Qwen3-VL": (qwen3_vl, 16)}
CHECKS = ("always", "first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    arguments = parser.parse_args()
    harness.pin()
    rows = {
        f"{name}, {str(dtype).removeprefix('torch.')}": row(build(), side, dtype)
        for name, (build, side) in MODELS.items()
        for dtype in (torch.float32, torch.bfloat16)
    }
    results = {"environment": machine.environment(), "patches": PATCHES, "threads": harness.THREADS, "rows": rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(rows, Console(width=150))


def row(model: torch.nn.Module, side: int, dtype: torch.dtype) -> dict[str, Any]:
    """Milliseconds of the original and of the folds, and ratios within a round."""
    model = model.to(dtype).eval()
    still = torch.randn(PATCHES, 3, 1, side, side, generator=torch.Generator().manual_seed(0))
    x = still.expand(-1, -1, 2, -1, -1).reshape(PATCHES, -1).to(dtype)
    name = next(iter(flatconv.fold(model, (x,), tune=False, verify=False).guards.inputs)).name
    folds = {"original": model, "undeclared": flatconv.fold(model, (x,))}
    for check in CHECKS:
        declared = flatconv.repeated(dim=1, within=(3, 2, side, side), axis=1, check=check)
        folds[f"declared, checked {check}"] = flatconv.fold(model, (x,), assume={name: declared})
    with torch.inference_mode():
        wanted = model(x).double()
        errors = {n: float((f(x).double() - wanted).abs().max() / wanted.abs().max()) for n, f in folds.items()}
    calls = [lambda f=f: f(x) for f in folds.values()]
    taken = dict(zip(folds, measure.alternate(calls, 4.0, least=15, most=60, warmup=3, turn=0.01), strict=True))
    ratios = {
        f"undeclared/{n}": harness.summary([a / b for a, b in zip(taken["undeclared"], taken[n], strict=True)])
        for n in folds
        if n != "undeclared"
    }
    return {
        "ms": {n: harness.summary([1e3 * s for s in t]) for n, t in taken.items()},
        "ratios": ratios,
        "errors": errors,
        "evidence": asdict(folds["declared, checked always"].report.sites[0].evidence),
    }


def show(rows: dict[str, Any], console: Console) -> None:
    """One table."""
    table = Table(title=f"{PATCHES} patches of a still image, ms: medians; how many times faster for being declared")
    sides = list(next(iter(rows.values()))["ms"])
    for column in ("model", *sides, *(f"checked {c}" for c in CHECKS)):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, numbers in rows.items():
        ratios = [numbers["ratios"][f"undeclared/declared, checked {c}"] for c in CHECKS]
        cells = [f"{r['median']:.2f} ({r['q1']:.2f}–{r['q3']:.2f})" for r in ratios]
        table.add_row(name, *(f"{numbers['ms'][s]['median']:.3f}" for s in sides), *cells)
    console.print(table)


if __name__ == "__main__":
    main()
