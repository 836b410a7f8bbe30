"""Times the original and its fold over a zoo of networks, in every engine: a fold must not be slower than what it replaces.

    python benchmarks/zoo.py --json benchmarks/results/zoo.json
    python benchmarks/zoo.py --json out/zoo.json --only MONAI --engines eager,compile --quick

Each network has a process of its own for each way of running it (the two engines that read ONNX files share one), in which
both sides alternate. The numbers are written after each, and --resume goes on where an earlier run was stopped. A network that
is refused, or whose package is missing, is a row with the reason. In full it takes some six hours on two cores, most of it
in torch.compile.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import harness
from flatconv.bench import ENGINES, NAMES, QUICK, Bench, Engine, Plan, Row, machine, run
from flatconv.errors import RefusedError
from zoo_networks import entries

TARGET = 1.03
"""Time of the fold over that of the original that is allowed: a fold that changes nothing may cost its guards."""
PLAN = Plan(threads=harness.THREADS, seconds=3.0, least=7, most=40, tune=15.0)
TOGETHER = (("eager",), ("compile",), ("onnxruntime", "openvino"))
"""Engines that share a process: one ONNX file serves two."""
WORKER_SECONDS = 1800

Numbers = dict[str, Any]


def main() -> None:
    arguments = _arguments()
    if arguments.worker:
        name, engines, quick, out = json.loads(arguments.worker)
        Path(out).write_text(json.dumps(work(name, engines, quick)), encoding="utf-8")
        return
    console = Console(width=150)
    results = measure(arguments, console)
    show(results, console)


def work(name: str, engines: list[Engine], quick: bool) -> dict[str, Numbers]:
    """One network in some engines, in this process."""
    harness.pin()
    plan = dataclasses.replace(QUICK if quick else PLAN, engines=tuple(engines), threads=harness.THREADS)
    try:
        found = run(entries()[name].build(quick), plan)
    except ImportError as error:
        return {e: {"why_not": f"not built: {error}"} for e in engines}
    except RefusedError as error:
        return {e: {"why_not": f"the fold is refused: {error}"} for e in engines}
    return {row.engine: numbers(found, row) for row in found.rows}


def numbers(found: Bench, row: Row) -> Numbers:
    """What is kept of a network in an engine."""
    ratio = row.ratio("folded", "original")
    return {
        "why_not": row.why_not or "; ".join(f"{s.side}: {s.why_not}" for s in row.sides if s.why_not),
        "ms": {s.side: 1e3 * s.time.median for s in row.sides if s.time},
        "errors": {s.side: s.error for s in row.sides},
        "prepared_s": {s.side: s.prepared for s in row.sides},
        "folded/original": asdict(ratio) if ratio else None,
        "chosen": row.chosen,
        "compared": found.compared,
        "tolerance": found.tolerance,
        "weights": dict(found.weights),
        "inputs": found.inputs,
        "others": row.others,
    }


def started(name: str, engines: list[Engine], quick: bool) -> dict[str, Numbers]:
    """The same in a new process."""
    with tempfile.TemporaryDirectory(prefix="flatconv-zoo-") as folder:
        out = Path(folder) / "numbers.json"
        command = [sys.executable, __file__, "--worker", json.dumps([name, engines, quick, str(out)])]
        # What an earlier process compiled must not make a later one quick to prepare.
        more = {"OMP_NUM_THREADS": str(harness.THREADS), "TORCHINDUCTOR_CACHE_DIR": str(Path(folder) / "inductor")}
        try:
            done = subprocess.run(
                command, env=os.environ | more, capture_output=True, text=True, timeout=WORKER_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return {e: {"why_not": f"gave up after {WORKER_SECONDS} s"} for e in engines}
        if done.returncode or not out.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return {e: {"why_not": f"the process ended with {done.returncode}: {last[:300]}"} for e in engines}
        found: dict[str, Numbers] = json.loads(out.read_text(encoding="utf-8"))
        return found


def measure(arguments: argparse.Namespace, console: Console) -> Numbers:
    """All rows that are asked for and not there yet."""
    results: Numbers = {
        "environment": machine.environment() | {"threads": str(harness.THREADS)},
        "settings": asdict(QUICK if arguments.quick else PLAN) | {"quick": arguments.quick, "target": TARGET},
        "rows": {},
    }
    if arguments.resume and arguments.json and arguments.json.exists():
        earlier = json.loads(arguments.json.read_text(encoding="utf-8"))
        if earlier["settings"] != json.loads(json.dumps(results["settings"])):
            raise SystemExit("the earlier run had other settings: run without --resume")
        results = earlier
    for name in entries():
        if arguments.only and not any(word.lower() in name.lower() for word in arguments.only):
            continue
        for group in TOGETHER:
            row = results["rows"].setdefault(name, {})
            engines = [e for e in group if e in arguments.engines and e not in row]
            if not engines:
                continue
            words = " and ".join(NAMES[e] for e in engines)
            console.print(f"{name}: {words} …", style="dim", highlight=False, markup=False)
            row |= started(name, engines, arguments.quick)
            results["rows"] = {n: results["rows"][n] for n in entries() if n in results["rows"]}
            if arguments.json:
                arguments.json.parent.mkdir(parents=True, exist_ok=True)
                text = json.dumps(results, indent=1, ensure_ascii=False)
                arguments.json.write_text(text + "\n", encoding="utf-8")
    return results


# Showing, here and in the README.


def ratios(results: Numbers) -> Iterator[tuple[str, str, Numbers]]:
    """Every ratio that was measured: network, engine, and time of the fold over that of the original."""
    for name, row in results["rows"].items():
        for engine, numbers in row.items():
            if ratio := numbers.get("folded/original"):
                yield name, engine, ratio


def summary(results: Numbers) -> list[str]:
    """How many meet the target, the best and the worst, in sentences."""
    found = sorted(ratios(results), key=lambda r: r[2]["median"])
    if not found:
        return ["Nothing was measured."]
    target = results["settings"]["target"]
    missed = [r for r in found if r[2]["median"] > target]
    (best, *_), worst = found, found[-1]
    lines = [
        f"In {len(found) - len(missed)} of {len(found)} combinations the fold takes at most {target:g} times as long as the "
        f"original. Best: {_where(*best)}. Worst: {_where(*worst)}."
    ]
    if missed:
        lines.append(f"Above the target: {'; '.join(_where(*r) for r in reversed(missed))}.")
    return lines


def _where(name: str, engine: str, ratio: Numbers) -> str:
    return f"{ratio['median']:.2f} ({name}, {NAMES[engine]})"


def cell(numbers: Numbers | None) -> str:
    """A ratio with its quartiles."""
    ratio = (numbers or {}).get("folded/original")
    return f"{ratio['median']:.2f} ({ratio['q1']:.2f}–{ratio['q3']:.2f})" if ratio else "–"


def reasons(results: Numbers) -> dict[str, list[str]]:
    """Why ratios are missing, each with where."""
    found: dict[str, list[str]] = {}
    for name, row in results["rows"].items():
        for engine, numbers in row.items():
            if numbers.get("why_not"):
                found.setdefault(numbers["why_not"], []).append(f"{name} in {NAMES[engine]}")
    return found


def markdown(results: Numbers) -> str:
    """The table for the README."""
    where = results["environment"]
    engines = [e for e in ENGINES if any(e in row for row in results["rows"].values())]
    lines = [
        f"Time of the fold over that of the original, medians within a round with quartiles; below 1 the fold is faster. "
        f"Measured {where['date'][:10]} on {where['processor']}, {where['threads']} threads, torch {where['torch']}; "
        f"{results['settings'].get('tune', PLAN.tune):g} s for the choice of forms. `make zoo` makes them again.",
        "",
        *summary(results),
        "",
        f"| network | {' | '.join(NAMES[e] for e in engines)} |",
        f"| --- |{' ---: |' * len(engines)}",
    ]
    for name, row in results["rows"].items():
        lines.append(f"| {name} | {' | '.join(cell(row.get(e)) for e in engines)} |")
    if missing := reasons(results):
        lines += ["", "No ratio:", ""]
        lines += [f"- {'; '.join(places)}: {why}" for why, places in missing.items()]
    return "\n".join(lines)


def show(results: Numbers, console: Console) -> None:
    """The table for the terminal."""
    table = Table(title="time, fold / original: median (quartiles)", title_justify="left")
    table.add_column("network")
    for engine in ENGINES:
        table.add_column(NAMES[engine], justify="right")
    for name, row in results["rows"].items():
        table.add_row(name, *(cell(row.get(engine)) for engine in ENGINES))
    console.print(table)
    lines = [f"No ratio for {'; '.join(places)}: {why}" for why, places in reasons(results).items()]
    disturbed = [
        f"{name} in {NAMES[engine]} ({numbers['others']:.0%})"
        for name, row in results["rows"].items()
        for engine, numbers in row.items()
        if (numbers.get("others") or 0) > 0.05
    ]
    if disturbed:
        lines.append(
            f"Other processes took part of the processors: {'; '.join(disturbed)}. Measure again without them."
        )
    for line in (*lines, *summary(results)):
        console.print(line, highlight=False, markup=False)
    if results["settings"]["quick"]:
        console.print("A quick run: small sizes and two rounds. The target is for the full one.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here, after each process")
    parser.add_argument(
        "--only", action="append", metavar="WORD", help="networks whose names hold this; may be repeated"
    )
    parser.add_argument("--engines", default=",".join(ENGINES), help="some engines only, such as eager,compile")
    parser.add_argument("--resume", action="store_true", help="keep what is in the file already")
    parser.add_argument("--quick", action="store_true", help="small sizes and two rounds, to see that everything runs")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    found = parser.parse_args()
    found.engines = tuple(found.engines.split(","))
    if unknown := set(found.engines) - set(ENGINES):
        parser.error(f"no such engine: {', '.join(sorted(unknown))}; there are {', '.join(ENGINES)}")
    return found


if __name__ == "__main__":
    main()
