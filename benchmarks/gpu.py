"""Measures the fold on a GPU, against the original and forms by hand: eager and torch.compile, three types.

    PYTHONPATH=src python benchmarks/gpu.py --json out/gpu.json

Needs torch, numpy and rich; diffusers for one network, which is left out where it is missing. The numbers are written after
each part, and parts that the budget has no time for are named, so that a machine lent for minutes gives what it can.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from flatconv import examples, measure
from flatconv.bench import QUICK, Engine, Plan, Row, machine
from flatconv.bench.agreement import Agreement
from flatconv.bench.run import agreed, row
from flatconv.bench.sides import Case, Side
from flatconv.tune import Tuning
from networks import qwen_decoder, stack4

DTYPES = ("bfloat16", "float32", "float16")
ENGINES: tuple[Engine, ...] = ("eager", "compile")
SIDES = ("original", "folded", "tuned", "hand", "hand_channels_last")
"""The fold in the fixed choice of forms, and in the one that was timed in eager PyTorch."""
HANDS = SIDES[3:]
PAIRS = (
    ("original", "folded"), ("original", "tuned"), ("folded", "original"), ("tuned", "original"), ("folded", "tuned"),
    *((side, hand) for side in ("folded", "tuned") for hand in HANDS),
)  # fmt: skip
TUNING = Tuning(budget=6.0, cache=False)
LONG = "qwen_decoder"
"""Has so many layers that a compiler takes minutes for all its sides and types."""
MIB = 2**20


class Squeezed(nn.Module):
    """A form of rank 4, called with the one image of rank 5 that the original takes."""

    def __init__(self, planar: nn.Module, layout: torch.memory_format = torch.contiguous_format) -> None:
        super().__init__()
        self.planar = planar.to(memory_format=layout)
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        return self.planar(x.squeeze(2).contiguous(memory_format=self.layout))


@dataclass(frozen=True)
class Entry:
    """A network on the bench.

    Attributes:
        name: its key in the results.
        title: its name in tables.
        model: builds the original.
        example: builds its input.
        hands: the same by hand, by name, made from the original.
    """

    name: str
    title: str
    model: Callable[[], nn.Module]
    example: Callable[[], Tensor]
    hands: dict[str, Callable[[nn.Module], nn.Module]] = dataclasses.field(default_factory=dict)


def entries(quick: bool) -> list[Entry]:
    """All networks; `quick` makes them small."""
    planar = [stack4(8, 32), qwen_decoder(8, 8)] if quick else [stack4(), qwen_decoder(base_dim=96, latent=64)]
    found = [
        Entry(
            network.name,
            network.title,
            network.original,
            network.example,
            {
                "hand": lambda original, n=network: Squeezed(n.by_hand(original)),
                "hand_channels_last": lambda original, n=network: Squeezed(n.by_hand(original), torch.channels_last),
            },
        )
        for network in planar
    ]
    patches, frames, size = (16, 4, 32) if quick else (4096, 16, 112)
    found.insert(1, Entry("patch_embed", f"Qwen2-VL patch embedding, {patches} patches", examples.patch_embed,
                          lambda: _noise(patches, 3 * 2 * 14 * 14), {"hand": product}))  # fmt: skip
    width = 8 if quick else 64
    found.insert(2, Entry("r3d18", f"R3D-18, width {width}, {frames} frames of {size}×{size}",
                          lambda: examples.r3d18(width=width), lambda: _noise(1, 3, frames, size, size)))  # fmt: skip
    return found


def product(embed: nn.Module) -> nn.Linear:
    """A patch embedding as the matrix product that it is."""
    kernel = embed.proj.weight
    linear = nn.Linear(kernel[0].numel(), len(kernel), bias=False)
    with torch.no_grad():
        linear.weight.copy_(kernel.flatten(1))
    return linear.eval()


def _noise(*sizes: int) -> Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(1))


@dataclass
class Ready:
    """A network on the device in one type: its sides and what they are held against."""

    sides: list[Side]
    agreement: Agreement
    fold_seconds: float
    chosen: str


def ready(entry: Entry, device: str, dtype: torch.dtype) -> Ready:
    model = entry.model()
    hands = {name: make(model) for name, make in entry.hands.items()}
    case = Case(model, (entry.example(),), verify=False).placed(device, dtype)
    begun = time.perf_counter()
    sides = [case.side("original"), case.side("folded")]
    taken = time.perf_counter() - begun
    tuned = dataclasses.replace(case, tune=TUNING).side("folded")
    sides.append(dataclasses.replace(tuned, name="tuned"))
    report = tuned.module.report.tuned
    sides += [Side(name, hand.to(device, dtype), case.args) for name, hand in hands.items()]
    return Ready(sides, agreed(sides[0], dtype), taken, report.chosen if report else "fixed")


def measured(entry: Entry, found: Ready, plan: Plan, engine: Engine, dtype: torch.dtype) -> dict[str, Any]:
    """Times of all sides in an engine; in eager PyTorch memory, too."""
    with tempfile.TemporaryDirectory() as folder:
        times = row(engine, found.sides, found.agreement, plan, dtype, Path(folder))
    numbers: dict[str, Any] = {"why_not": times.why_not, "sides": {}, "ratios": {}}
    for side in times.sides:
        ms = side.time and {k: v if k == "n" else round(1e3 * v, 5) for k, v in asdict(side.time).items()}
        numbers["sides"][side.side] = {
            "ms": ms, "error": side.error, "prepared_s": side.prepared, "why_not": side.why_not,
        }  # fmt: skip
    for above, below in PAIRS:
        if ratio := times.ratio(above, below):
            numbers["ratios"][f"{above}/{below}"] = asdict(ratio)
    if engine == "eager" and plan.device == "cuda":
        numbers["peak_memory"] = {s.name: measure.peak_on_gpu(s) for s in found.sides if _timed(times, s.name)}
        numbers["weights"] = {s.name: measure.weight_bytes(s.module) for s in found.sides}
    return numbers


def _timed(times: Row, name: str) -> bool:
    side = times.side(name)
    return side is not None and bool(side.seconds)


def parts(quick: bool) -> list[tuple[Engine, str, Entry]]:
    """What is measured, in the order of its worth: what takes long to compile comes last."""
    found = [(engine, dtype, entry) for engine in ENGINES for dtype in DTYPES for entry in entries(quick)]
    return sorted(found, key=lambda part: (part[0] == "compile", part[0] == "compile" and part[2].name == LONG))


def expected(entry: Entry, engine: Engine, taken: dict[tuple[str, str], float]) -> float:
    """Seconds that a part may take: what the same network took in another type, or a guess."""
    return taken.get((entry.name, engine), 75.0 if (entry.name, engine) == (LONG, "compile") else 10.0)


def main() -> None:
    arguments = _arguments()
    console = Console(width=150)
    begun = time.perf_counter()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        console.print("torch finds no CUDA device here; --device cpu --quick shows that the script runs")
        raise SystemExit(2)
    plan = Plan(engines=ENGINES, device=arguments.device, seconds=2.0, least=7, most=30)
    if arguments.quick:
        plan = dataclasses.replace(QUICK, engines=ENGINES, device=arguments.device)
    results: dict[str, Any] = {}
    held: dict[tuple[str, str], Ready | str] = {}
    with machine.set_up(plan.device, None):
        results |= {
            "environment": machine.environment(plan.device),
            "settings": asdict(plan) | {"quick": arguments.quick, "budget": arguments.budget},
            "rows": {},
            "left_out": [],
        }
        taken: dict[tuple[str, str], float] = {}
        for engine, name, entry in parts(arguments.quick):
            spent = time.perf_counter() - begun
            if spent + expected(entry, engine, taken) > arguments.budget:
                results["left_out"].append(f"{entry.name}, {name}, {engine}: no time left")
                continue
            dtype = getattr(torch, name)
            key = (entry.name, name)
            if key not in held:
                try:
                    held[key] = ready(entry, plan.device, dtype)
                except Exception as e:  # a package that is not there, or a device without room: the others still count
                    held[key] = f"{type(e).__name__}: {e}"[:300]
            found = held[key]
            where = results["rows"].setdefault(entry.name, {"title": entry.title, "dtypes": {}})["dtypes"]
            here = where.setdefault(name, {})
            if isinstance(found, str):
                here[engine] = {"why_not": found, "sides": {}, "ratios": {}}
            else:
                here["compared"], here["tolerance"] = found.agreement.how, found.agreement.tolerance
                here["fold_s"], here["chosen"] = round(found.fold_seconds, 2), found.chosen
                here[engine] = measured(entry, found, plan, engine, dtype)
            taken[entry.name, engine] = time.perf_counter() - begun - spent
            results["seconds"] = round(time.perf_counter() - begun, 1)
            console.print(f"{results['seconds']:6.1f} s  {entry.name}, {name}, {engine}", style="dim", highlight=False)
            if arguments.json:
                _write(arguments.json, results)
    if arguments.json:
        _write(arguments.json, results)
    show(results, console)


def _write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def show(results: dict[str, Any], console: Console) -> None:
    """One table: a row for each network, type and engine."""
    table = Table(title="ms: medians; ratios: median (quartiles) within a round", title_justify="left")
    for column in ("network", "dtype", "engine", *SIDES, "original / tuned", "tuned / hand", "/ channels last"):
        table.add_column(column, justify="left" if column in ("network", "dtype", "engine") else "right")
    said = []
    for name, network in results["rows"].items():
        for dtype, here in network["dtypes"].items():
            for engine in (e for e in ENGINES if e in here):
                numbers = here[engine]
                times = [numbers["sides"].get(side, {}).get("ms") for side in SIDES]
                cells = [f"{t['median']:.4g}" if t else "–" for t in times]
                ratios = [numbers["ratios"].get(p) for p in ("original/tuned", *(f"tuned/{s}" for s in HANDS))]
                table.add_row(name, dtype, engine, *cells, *map(_cell, ratios))
                reasons = {"": numbers["why_not"]} | {s: n["why_not"] for s, n in numbers["sides"].items()}
                said += [f"{name}, {dtype}, {engine}, {side}: {why}" for side, why in reasons.items() if why]
                if "peak_memory" in numbers:
                    peaks = ", ".join(f"{s} {b / MIB:.1f}" for s, b in numbers["peak_memory"].items())
                    said.append(f"{name}, {dtype}: peak of a call in eager, MiB: {peaks}")
    console.print(table)
    for line in (*said, *results["left_out"]):
        console.print(line, highlight=False, markup=False)
    console.print(json.dumps(results["environment"], ensure_ascii=False), highlight=False, markup=False)


def _cell(ratio: dict[str, float] | None) -> str:
    return f"{ratio['median']:.2f} ({ratio['q1']:.2f}–{ratio['q3']:.2f})" if ratio else "–"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here, after each part")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu only to see that it runs")
    parser.add_argument(
        "--budget", type=float, default=220.0, help="seconds; a part begins only if it should end within"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and two rounds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
