"""Random programs, folded through the public interface and held against the oracles.

    python -m trust.fuzz --operators 1000 --graphs 100 --start 0 --jobs 1 --json fuzz.json

Work is done in chunks of seeds. With ``--json`` the result of each chunk is appended to a file beside it, and a run that was
stopped goes on where it was when it is started again in the same way.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from trust import record
from trust.cases import Outcome, What, check, recipe_of, setting_of
from trust.recipes import Recipe, Setting
from trust.shrink import shrink

CHUNK = {"operator": 250, "graph": 25}
SHOWN = 20
"""Failures that are shrunk, of one chunk."""
SHRINKING = 40.0
"""Seconds for one of them."""

Chunk = tuple[What, int, int]


def chunk(job: Chunk) -> dict[str, Any]:
    """Run the cases of a range of seeds and count."""
    what, first, last = job
    _quiet()
    started = time.process_time()
    counts: dict[str, Counter[str]] = {
        k: Counter() for k in ("cases", "rules", "kinds", "oracles", "outputs", "calls", "refusals", "settings")
    }
    share = 0.0
    failures: list[dict[str, Any]] = []
    for seed in range(first, last):
        recipe, setting = recipe_of(what, seed), setting_of(what, seed)
        outcome = check(recipe, setting, what)
        counts["cases"].update(_marks(outcome))
        counts["rules"].update(outcome.rules)
        counts["kinds"].update(names(recipe, what))
        counts["outputs"].update(outcome.tally.outputs)
        counts["oracles"].update(outcome.tally.outputs.keys())
        counts["calls"].update(outcome.calls)
        if outcome.refused:
            counts["refusals"][outcome.refused] += 1
        counts["settings"].update([setting.dtype, setting.weights, f"dynamic {setting.dynamic}"])
        counts["settings"]["verified"] += setting.verify
        share = max(share, outcome.tally.share)
        if outcome.failure:
            failures.append(failure(recipe, setting, what, seed, outcome, len(failures) < SHOWN))
    found: dict[str, Any] = {k: dict(v) for k, v in counts.items()}
    return {
        "what": what,
        "seeds": [first, last],
        "seconds": round(time.process_time() - started, 2),
        "share": share,
        "failures": failures,
    } | found


def _marks(outcome: Outcome) -> Counter[str]:
    return Counter(
        {
            "run": 1,
            "refused": bool(outcome.refused),
            "skipped": outcome.skipped,
            "failed": bool(outcome.failure),
            "sites rewritten": outcome.sites,
            "ill-conditioned outputs": outcome.tally.ill,
        }
    )


def names(recipe: Recipe, what: What) -> list[str]:
    """What the steps are called in the counts; of a single operator, the operator alone."""
    found = []
    for step in recipe.steps[-1:] if what == "operator" else recipe.steps:
        if step.kind == "conv":
            found.append(f"conv{'_transpose' if step.args['transposed'] else ''}{step.args['axes']}d")
        else:
            found.append(step.kind)
    return found


def failure(recipe: Recipe, setting: Setting, what: What, seed: int, outcome: Outcome, small: bool) -> dict[str, Any]:
    """Everything that is needed to look into a failure."""
    if small:
        recipe = shrink(recipe, lambda r: fails_like(r, setting, what, outcome), seconds=SHRINKING)
        outcome = check(recipe, setting, what)
    met, feed = outcome.feed or (setting, None)
    return {
        "seed": seed,
        "what": what,
        "failure": outcome.failure,
        "detail": outcome.detail,
        "setting": asdict(setting),
        "recipe": recipe.to_json(),
        "source": recipe.source(met, feed),
    }


def fails_like(recipe: Recipe, setting: Setting, what: What, wanted: Outcome) -> bool:
    """Whether a recipe runs, and its fold fails in the way of an outcome."""
    if not recipe.steps:
        return False
    try:
        found = check(recipe, setting, what)
    except Exception:
        # A candidate of the shrinker need not make sense.
        return False
    return found.failure == wanted.failure and _gist(found) == _gist(wanted)


def _gist(outcome: Outcome) -> str:
    """What an exception says, without its numbers; of a difference, nothing."""
    if not outcome.failure.startswith(("fold", "call")):
        return ""
    return re.sub(r"\d+", "#", outcome.detail.strip().splitlines()[-1])[:40]


def merged(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The counts of several chunks together."""
    total: dict[str, Any] = {}
    for key in ("cases", "rules", "kinds", "oracles", "outputs", "calls", "refusals", "settings"):
        counter: Counter[str] = Counter()
        for c in chunks:
            counter.update(c[key])
        total[key] = dict(counter.most_common())
    total["share of the rounding bound"] = max((c["share"] for c in chunks), default=0.0)
    total["seconds"] = round(sum(c["seconds"] for c in chunks), 1)
    return total


def jobs(operators: int, graphs: int, start: int) -> Iterator[Chunk]:
    """All chunks of a run."""
    counts: tuple[tuple[What, int], ...] = (("operator", operators), ("graph", graphs))
    for what, count in counts:
        for first in range(start, start + count, CHUNK[what]):
            yield what, first, min(first + CHUNK[what], start + count)


def run(todo: Sequence[Chunk], processes: int, log: Path | None) -> list[dict[str, Any]]:
    """Run the chunks that the log does not have yet; print a line for each."""
    done: dict[Chunk, dict[str, Any]] = {}
    if log is not None and log.exists():
        for line in log.read_text().splitlines():
            found = json.loads(line)
            done[found["what"], *found["seeds"]] = found
    left = [c for c in todo if c not in done]
    if len(left) < len(todo):
        print(f"{len(todo) - len(left)} chunks were done before", flush=True)
    started = time.monotonic()
    for i, found in enumerate(_results(left, processes)):
        done[found["what"], *found["seeds"]] = found
        if log is not None:
            with log.open("a") as file:
                file.write(json.dumps(found) + "\n")
        a, b = found["seeds"]
        print(
            f"{found['what']}s {a} to {b - 1}: {len(found['failures'])} failures, "
            f"{found['cases'].get('refused', 0)} refused, "
            f"{1e3 * found['seconds'] / (b - a):.0f} ms each; {i + 1} of {len(left)} chunks in "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )
        for bad in found["failures"]:
            print(
                f"--- {bad['what']} {bad['seed']}: {bad['failure']}: {bad['detail'][-400:]}\n{bad['source']}",
                flush=True,
            )
    return [done[c] for c in todo]


def _results(left: Sequence[Chunk], processes: int) -> Iterator[dict[str, Any]]:
    if processes <= 1:
        yield from map(chunk, left)
        return
    # Fresh processes, since torch's threads do not survive a fork; replaced now and then, since captures leave memory behind.
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=20) as pool:
        yield from pool.imap_unordered(chunk, left)


def _quiet() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m trust.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--operators", type=int, default=1000, help="single operators")
    parser.add_argument("--graphs", type=int, default=100, help="small graphs")
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, help="where to write the result")
    words = list(sys.argv[1:] if argv is None else argv)
    options = parser.parse_args(words)
    todo = list(jobs(options.operators, options.graphs, options.start))
    log = options.json.with_suffix(".chunks.jsonl") if options.json else None
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    print(f"seeds {options.start} to {options.start + max(options.operators, options.graphs) - 1}", flush=True)
    found = run(todo, options.jobs, log)
    failures = [f for c in found for f in c["failures"]]
    result = {
        name: {"count": count, "seeds": [options.start, options.start + count]}
        | merged([c for c in found if c["what"] == what])
        for name, what, count in (
            ("operators", "operator", options.operators),
            ("graphs", "graph", options.graphs),
        )
    }
    print(json.dumps(result, indent=2))
    print(f"{len(failures)} failures")
    if options.json:
        count = max(options.operators, options.graphs)
        settings = {"chunk": CHUNK, "jobs": options.jobs}
        data = record.header("trust.fuzz", words, settings, options.start, count) | result | {"failures": failures}
        record.write(options.json, data)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
