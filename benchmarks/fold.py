"""Measures what folding is worth on this machine: time, memory, weights, and the time that folding itself takes.

    python benchmarks/fold.py --json benchmarks/results/fold.json --figure docs/bench.svg

Every engine, every memory figure and the fold time have a process of their own, started from here one after another.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import harness
from harness import ALLOCATORS, ENGINES, MIB, QUICK, SIDES, THREADS, Numbers, Protocol
from networks import networks

ROOT = Path(__file__).resolve().parent.parent
NAMES = (*networks(), "fold_time")
PACKAGES = ("torch", "onnxruntime", "openvino", "onnx", "onnxscript", "diffusers", "numpy")
WORKER_SECONDS = 3600

# What is asked of the fold. Speedups are the original's time over the fold's.
SPEEDUP = {
    "stack4": {"eager": 10.0, "compile": 10.0, "onnxruntime": 2.0},
    "qwen_decoder": {"eager": 3.8, "compile": 2.8, "onnxruntime": 1.8},
}
DISTURBED = 0.05  # the part of the CPUs that other processes may take before a warning
OVER_HAND, PEAK, WEIGHTS, FOLD_TIME = 1.05, 0.40, 0.36, 2.0


def main() -> None:
    arguments = _arguments()
    if arguments.worker:
        task, out = json.loads(arguments.worker)
        Path(out).write_text(json.dumps(work(**task)))
        return
    console = Console(width=150) if not sys.stdout.isatty() else Console()
    results = measure(tuple(arguments.only or NAMES), arguments.quick, console)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        console.print(f"numbers: {arguments.json}")
    show(results, console)
    if arguments.figure and results["networks"]:
        import figure

        figure.draw(results, arguments.figure)
        console.print(f"figure: {arguments.figure}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the times here (.svg)")
    parser.add_argument("--only", action="append", choices=NAMES, help="measure this alone; may be given again")
    parser.add_argument("--quick", action="store_true", help="small sizes and two rounds, to see that everything runs")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


# Measuring: tasks in processes of their own.


def work(task: str, quick: bool, workdir: str, network: str, engine: str = "", side: str = "") -> Numbers:
    """Does one task in this process."""
    harness.pin()
    measured, protocol = networks(quick)[network], QUICK if quick else Protocol()
    if task == "engine":
        return harness.time_engine(measured, engine, protocol, Path(workdir))
    if task == "memory":
        return harness.measure_memory(measured, side, networks(quick=True)[network])
    return harness.time_fold(measured, protocol)


def started(variables: dict[str, str] | None = None, /, **task: Any) -> Numbers:
    """The numbers of a task that runs in a new process with these variables; an `error` when it fails."""
    out = Path(task["workdir"]) / "numbers.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--worker", json.dumps([task, str(out)])]
    # A compiler cache of an earlier run would make the time to prepare a side depend on what ran before.
    inductor = str(Path(task["workdir"]) / "inductor")
    # The forms that were chosen while times were taken are those whose memory is measured.
    kept = {"FLATCONV_CACHE": str(Path(task["workdir"]) / "flatconv"), "TORCHINDUCTOR_CACHE_DIR": inductor}
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)} | kept | (variables or {})
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WORKER_SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"gave up after {WORKER_SECONDS} s"}
    if done.returncode != 0 or not out.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": f"the process ended with {done.returncode}: {last}"}
    return json.loads(out.read_text())


def measure(names: tuple[str, ...], quick: bool, console: Console) -> Numbers:
    """All results of the named measurements, as they are written to the JSON file."""
    protocol = QUICK if quick else Protocol()
    results: Numbers = {"environment": environment(), "settings": settings(quick, protocol), "networks": {}}
    with tempfile.TemporaryDirectory(prefix="flatconv-bench-") as workdir:
        common = {"quick": quick, "workdir": workdir}
        for name, network in networks(quick).items():
            if name not in names:
                continue
            found: Numbers = {"title": network.title, "input": network.shape, "settings": network.settings}
            found["engines"], found["memory"] = {}, {}
            for engine, label in ENGINES.items():
                console.print(f"{name}: {label} …", style="dim")
                found["engines"][engine] = started(task="engine", network=name, engine=engine, **common)
            for side in SIDES:
                console.print(f"{name}: memory of {side} …", style="dim")
                runs = {
                    allocator: [
                        started(variables, task="memory", network=name, side=side, **common)
                        for _ in range(protocol.processes)
                    ]
                    for allocator, variables in ALLOCATORS.items()
                }
                found["memory"][side] = harness.memory(runs)
            found["memory_ratios"] = harness.memory_ratios(found["memory"])
            results["networks"][name] = found
        if "fold_time" in names:
            console.print("fold_time …", style="dim")
            results["fold_time"] = started(task="fold_time", network="qwen_decoder", **common)
    results["targets"] = targets(results)
    return results


def settings(quick: bool, protocol: Protocol) -> Numbers:
    return {
        "quick": quick,
        "device": "cpu",
        "dtype": "float32",
        "batch": 1,
        "threads": THREADS,
        "protocol": asdict(protocol),
        "ratios": "medians of the ratios within a round; q1 and q3 are quartiles",
        "compile": "torch.compile, its default mode",
        "onnx": "torch.onnx.export(dynamo=True)",
        "onnxruntime": "CPU provider, intra-op threads as above, no spinning between calls",
        "openvino": "INFERENCE_PRECISION_HINT f32, PERFORMANCE_HINT LATENCY, from the ONNX file",
        "others": "the part of the pinned CPUs that other processes took while this was timed",
        "memory": "bytes at the peak of an eager call above the process at rest with the model; median of processes",
        "allocators": ALLOCATORS,
        "weights": "bytes of the storages behind parameters, buffers and constants, without the encoder",
    }


def environment() -> Numbers:
    """Where and with what the numbers were taken."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu[0] if cpu else platform.processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "flatconv": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted": (_git("status", "--porcelain", "--", "src", "benchmarks/*.py") or "").splitlines(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*command: str) -> str | None:
    call = ["git", "--no-optional-locks", *command]
    try:
        done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


# Judging: every target beside what was measured.


def targets(results: Numbers) -> list[Numbers]:
    """The targets, each with the number it is about and whether that meets it (None: there is no number)."""
    rows = []
    for name, network in results["networks"].items():
        for engine, limit in SPEEDUP[name].items():
            ratio = network["engines"][engine].get("ratios", {}).get("original/fold")
            rows.append(_target(f"{name}: original / fold, {ENGINES[engine]}", ">=", limit, ratio))
        for engine, label in ENGINES.items():
            # Held against the faster of the forms by hand: the memory format is chosen by timing on both sides.
            hand, ratio = faster_hand(network["engines"][engine])
            rows.append(_target(f"{name}: fold / {hand or 'hand'}, {label}", "<=", OVER_HAND, ratio))
        ratios = network["memory_ratios"].get("fold/original", {})
        for allocator in ALLOCATORS:
            peak = ratios.get(allocator, {}).get("first_call")
            rows.append(_target(f"{name}: fold / original, peak of a call, malloc {allocator}", "<=", PEAK, peak))
        weights = {"median": ratios["weights"]} if ratios else None
        rows.append(_target(f"{name}: fold / original, weights", "<=", WEIGHTS, weights))
    if "fold_time" in results:
        # Each is held against an export of the same kind: the audit fixes all sizes, the fold leaves some free if asked to.
        for step, export in (("audit", "static"), ("fold_static", "static"), ("fold", "dynamic")):
            ratio = results["fold_time"].get("ratios", {}).get(f"{step}/export_{export}")
            rows.append(_target(f"fold time: {step} / export_{export}", "<=", FOLD_TIME, ratio))
    return rows


def faster_hand(engine: Numbers) -> tuple[str | None, Numbers | None]:
    """The form by hand that is faster in this engine, and the ratio of the fold to it."""
    times = {side: form["ms"]["median"] for side, form in engine.get("sides", {}).items() if "ms" in form}
    hands = sorted((side for side in times if side.startswith("hand")), key=times.__getitem__)
    return (hands[0], engine["ratios"].get(f"fold/{hands[0]}")) if hands else (None, None)


def _target(what: str, sense: str, limit: float, ratio: Numbers | None) -> Numbers:
    row: Numbers = {"what": what, "sense": sense, "limit": limit, "measured": ratio, "met": None}
    if ratio:
        row["met"] = ratio["median"] >= limit if sense == ">=" else ratio["median"] <= limit
    return row


# Showing.


def show(results: Numbers, console: Console) -> None:
    for name, network in results["networks"].items():
        console.print(_times(name, network))
        for engine, label in ENGINES.items():
            for side, why in errors(network["engines"][engine]):
                console.print(f"{name}, {label}, {side}: {why}", highlight=False, markup=False)
        console.print(_memory(name, network))
        for side, numbers in network["memory"].items():
            if "error" in numbers:
                console.print(f"{name}, memory of {side}: {numbers['error']}", highlight=False, markup=False)
    if "fold_time" in results:
        console.print(_fold_time(results["fold_time"]))
    console.print(_targets(results["targets"]))
    if results["settings"]["quick"]:
        console.print("A quick run: small sizes and two rounds. The targets are for the full one.")
        return
    for what, share in shares(results):
        if share > DISTURBED:
            console.print(f"[yellow]{what}: other processes took {share:.0%} of the CPUs; measure again without them.")


def shares(results: Numbers) -> Iterator[tuple[str, float]]:
    """For every timed part, what other processes took of its CPUs."""
    for name, network in results["networks"].items():
        for engine, numbers in network["engines"].items():
            yield f"{name}, {ENGINES[engine]}", numbers.get("others", 0.0)
    yield "fold_time", results.get("fold_time", {}).get("others", 0.0)


def errors(engine: Numbers) -> list[tuple[str, str]]:
    """The sides of an engine that have no time, each with the reason."""
    if "error" in engine:
        return [("all sides", engine["error"])]
    return [(side, form["error"]) for side, form in engine["sides"].items() if "error" in form]


def _times(name: str, network: Numbers) -> Table:
    table = Table(title=f"{name}: {network['title']}, ms: median (quartiles)", title_justify="left")
    for column in ("engine", *SIDES, "original / fold", "fold / faster by hand"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for engine, label in ENGINES.items():
        numbers = network["engines"][engine]
        sides = numbers.get("sides", {})
        cells = [
            "no result" if "error" in sides.get(side, {}) else _cell(sides.get(side, {}).get("ms")) for side in SIDES
        ]
        ratio = numbers.get("ratios", {}).get("original/fold")
        table.add_row(label, *cells, _cell(ratio), _cell(faster_hand(numbers)[1]))
    return table


def _memory(name: str, network: Numbers) -> Table:
    table = Table(title=f"{name}: MiB in eager PyTorch: median (quartiles)", title_justify="left")
    calls = [(allocator, call) for allocator in ALLOCATORS for call in ("first_call", "later_call")]
    for column in ("side", "weights", *(f"{call}, malloc {allocator}".replace("_", " ") for allocator, call in calls)):
        table.add_column(column, justify="left" if column == "side" else "right")
    for side, numbers in network["memory"].items():
        if "error" in numbers:
            table.add_row(side, "no result")
            continue
        peaks = [{k: v / MIB for k, v in numbers[allocator][call].items()} for allocator, call in calls]
        table.add_row(side, f"{numbers['weights'] / MIB:.2f}", *map(_cell, peaks))
    return table


def _fold_time(numbers: Numbers) -> Table:
    table = Table(title="fold time, qwen_decoder: s: median (quartiles)", title_justify="left")
    for column in ("step", "s", "/ export_static", "/ export_dynamic"):
        table.add_column(column, justify="left" if column == "step" else "right")
    if "error" in numbers:
        table.add_row(numbers["error"])
        return table
    for step, seconds in numbers["seconds"].items():
        exports = ("export_static", "export_dynamic")
        table.add_row(step, _cell(seconds), *(_cell(numbers["ratios"].get(f"{step}/{export}")) for export in exports))
    return table


def _targets(rows: list[Numbers]) -> Table:
    table = Table(title="targets", title_justify="left")
    for column in ("what", "target", "measured", ""):
        table.add_column(column, justify="left" if column in ("what", "") else "right")
    verdicts = {True: "[green]met[/green]", False: "[bold red]missed[/bold red]", None: "[yellow]no number[/yellow]"}
    for row in rows:
        limit = f"{'≥' if row['sense'] == '>=' else '≤'} {row['limit']:g}"
        table.add_row(row["what"], limit, _cell(row["measured"]), verdicts[row["met"]])
    return table


def _cell(numbers: Numbers | None) -> str:
    if not numbers:
        return "–"
    middle = f"{numbers['median']:.3g}"
    low, high = (f"{numbers.get(name, numbers['median']):.3g}" for name in ("q1", "q3"))
    return middle if low == high else f"{middle} ({low}–{high})"


if __name__ == "__main__":
    main()
