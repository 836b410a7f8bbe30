"""Mutants: is every wrong version of the product noticed, and by what?

    python -m trust.mutate --jobs 2 --json trust/results/mutants.json
    python -m trust.mutate --only tap-off-by-one --only bias-lost
    python -m trust.mutate --substitute ops/conv.py "t + 1) for t" "t + 2) for t"

Each mutant is a copy of the package with one wrong line, imported in a process of its own, where every layer of evidence is
asked of every model of the corpus. The product as it is must pass them all. Exit code 1 if a mutant is not noticed, or if
the product itself does not pass.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from trust import captures, record
from trust.mutants import MUTANTS, Mutant
from trust.trap import FIELD, SENTENCES, Trap
from trust.traps import CORPUS

SOURCE = Path(__file__).parents[1] / "src" / "flatconv"
LAYERS = ("site oracle", "whole model", "traps", "facts", "alarms", "random programs")
PRODUCT = LAYERS[:2]
"""The layers that a user has."""
CRASH = "crash"
SEEDS = {"operator": 24, "graph": 4}
"""Random programs for each mutant, from seed 0 on."""
PATIENCE = 300
"""Seconds after which a mutant counts as hanging."""
ENOUGH = 40
"""Models without anything new, after which a mutant that users and verification both notice is looked at no further."""
NONE = Mutant("none", "", "", "", "", "the product as it is")


@dataclass
class Verdict:
    """What became of a mutant.

    Attributes:
        mutant: the wrong version.
        caught: by layer, what was said first, and of which model.
        models: by layer, how many models of the corpus showed it.
        seconds: it took.
    """

    mutant: Mutant
    caught: dict[str, str] = field(default_factory=dict)
    models: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def layers(self) -> list[str]:
        """Layers that caught it; a crash counts only where nothing else did."""
        found = [layer for layer in LAYERS if layer in self.caught]
        return found or [layer for layer in (CRASH,) if layer in self.caught]

    def note(self, layer: str, words: str) -> None:
        """A layer noticed it on one more model."""
        self.caught.setdefault(layer, words)
        self.models[layer] += 1

    def row(self) -> dict[str, Any]:
        """For JSON."""
        mutant = {k: v for k, v in asdict(self.mutant).items() if k not in ("old", "new")}
        return mutant | {
            "layers": self.layers,
            "models": dict(self.models),
            "said": self.caught,
            "seconds": round(self.seconds, 1),
        }


# --- one mutant, in a process of its own


def copied(mutant: Mutant, source: Path, folder: Path) -> None:
    """A copy of the package with the mistake in it."""
    shutil.copytree(source, folder / "flatconv")
    if mutant.file:
        path = folder / "flatconv" / mutant.file
        path.write_text(mutant.apply(path.read_text()))
        for stale in path.parent.glob(f"__pycache__/{path.stem}.*"):
            stale.unlink()


def forget() -> None:
    """Take the product, and what imported it, out of this process."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "flatconv" or name in (
            "trust.layers",
            "trust.alarms",
            "trust.cases",
            "trust.oracles",
        ):
            del sys.modules[name]


def examine(
    mutant: Mutant, source: Path, corpus: Sequence[tuple[Trap, captures.Kept]], layers: Sequence[str]
) -> Verdict:
    """Import the mutated copy and ask every layer. Meant for a process that ends afterwards."""
    started, verdict = time.perf_counter(), Verdict(mutant)
    with tempfile.TemporaryDirectory() as folder:
        copied(mutant, source, Path(folder))
        sys.path.insert(0, folder)
        forget()
        try:
            _ask(mutant, corpus, layers, verdict)
        except Exception as e:
            verdict.note(CRASH, f"{type(e).__name__}: {e}"[:300])
    verdict.seconds = time.perf_counter() - started
    return verdict


def _ask(mutant: Mutant, corpus: Sequence[tuple[Trap, captures.Kept]], layers: Sequence[str], verdict: Verdict) -> None:
    import flatconv
    from trust import alarms
    from trust.layers import look

    assert Path(str(flatconv.__file__)).parents[1] == Path(sys.path[0])
    if set(layers) & set(LAYERS[:4]):
        # The models of its own trap first: what is said of one of them explains most.
        last = 0
        for i, (trap, kept) in enumerate(sorted(corpus, key=lambda pair: pair[0].trap != mutant.trap)):
            if i - last > ENOUGH and "traps" in verdict.caught and set(PRODUCT) & set(verdict.caught):
                break
            known = len(verdict.caught)
            if mutant.file in captures.CAPTURING:
                found = look(trap)
            else:
                with captures.handed(kept):
                    found = look(trap, (kept.model, kept.args))
            for layer, words in found.said.items():
                if layer in layers or layer == CRASH:
                    verdict.note(layer, f"{trap.name}: {words}")
            last = i if len(verdict.caught) > known else last
    # A product that verification stops by itself raises other alarms than the ones that are rung here.
    if "alarms" in layers and not set(verdict.caught) & set(PRODUCT):
        missed = alarms.missed()
        if missed:
            verdict.note("alarms", missed)
    if "random programs" in layers:
        for words in random_programs():
            verdict.note("random programs", words)


def random_programs() -> Iterator[str]:
    """Failures of a fixed range of random programs."""
    from trust.cases import check, recipe_of, setting_of

    for what, count in SEEDS.items():
        for seed in range(count):
            outcome = check(recipe_of(what, seed), setting_of(what, seed), what)
            if outcome.failure:
                yield f"{what} {seed}: {outcome.failure}: {outcome.detail[-200:]}"


# --- all of them


def _child(work: Any, pipe: Any) -> None:
    # What torch logs of a capture that fails on purpose is of no use.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    pipe.send(examine(*work))
    pipe.close()


def examined(
    mutants: Sequence[Mutant],
    source: Path,
    corpus: Sequence[tuple[Trap, captures.Kept]],
    layers: Sequence[str],
    jobs: int,
) -> Iterator[Verdict]:
    """The verdicts, in the order in which they are reached."""
    context = multiprocessing.get_context("fork")
    todo, running = list(mutants), []
    while todo or running:
        while todo and len(running) < jobs:
            mutant = todo.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=((mutant, source, corpus, layers), theirs))
            process.start()
            theirs.close()
            running.append((mutant, process, ours, time.monotonic()))
        for entry in list(running):
            mutant, process, pipe, since = entry
            if pipe.poll(0.05):
                try:
                    yield pipe.recv()
                except EOFError:
                    yield Verdict(mutant, {CRASH: "the process ended"})
            elif time.monotonic() - since > PATIENCE:
                process.kill()
                yield Verdict(mutant, {CRASH: f"hangs: more than {PATIENCE} s"})
            else:
                continue
            process.join()
            running.remove(entry)


def prepared(source: Path, corpus: Sequence[Trap]) -> list[tuple[Trap, captures.Kept]]:
    """The corpus with its captures; the product is out of the process again afterwards."""
    sys.path.insert(0, str(source.parent))
    forget()
    found = [(trap, captures.keep(trap)) for trap in corpus]
    forget()
    sys.path.pop(0)
    return found


def totals(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The figures of a run."""
    by = Counter(layer for v in verdicts for layer in v.layers)
    alone = Counter(v.layers[0] for v in verdicts if len(v.layers) == 1)
    return {
        "mutants": len(verdicts),
        "caught": sum(bool(v.layers) for v in verdicts),
        "survivors": sorted(v.mutant.name for v in verdicts if not v.layers),
        "by layer": {layer: by[layer] for layer in (*LAYERS, CRASH)},
        "by this layer alone": {layer: alone[layer] for layer in (*LAYERS, CRASH)},
        "not by the product's own verification": sorted(
            v.mutant.name for v in verdicts if v.layers and not set(v.layers) & set(PRODUCT)
        ),
        "by trap": dict(Counter(v.mutant.trap for v in verdicts)),
    }


def show(verdicts: Sequence[Verdict]) -> None:
    """The table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("mutant", "trap", *LAYERS):
        table.add_column(column, overflow="fold")
    for v in verdicts:
        marks = [str(v.models[layer]) if layer in v.caught else "·" for layer in LAYERS]
        name = v.mutant.name if v.layers else f"[bold red]{v.mutant.name}: not noticed[/]"
        if v.layers == [CRASH]:
            name += " (crash)"
        table.add_row(name, v.mutant.trap, *marks)
    console = Console(width=150)
    console.print(table)
    found = totals(verdicts)
    console.print(f"{found['caught']} of {found['mutants']} mutants caught; numbers are models seen to show them.")
    for title in ("by layer", "by this layer alone"):
        console.print(f"Caught {title}: " + ", ".join(f"{k} {n}" for k, n in found[title].items()))
    unseen = found["not by the product's own verification"]
    console.print(f"Not by the product's own verification: {', '.join(unseen) or 'none'}")
    console.print(f"Survivors: {', '.join(found['survivors']) or 'none'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the mutants."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m trust.mutate", description="Is every wrong version noticed?")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--only", action="append", help="this mutant (may be given again)")
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--traps", nargs="+", help="these models of the corpus alone")
    parser.add_argument("--substitute", nargs=3, metavar=("FILE", "OLD", "NEW"), help="a mutant of your own")
    parser.add_argument("--json", type=Path, help="write the verdicts there")
    args = parser.parse_args(given)
    mutants = [m for m in MUTANTS if not args.only or m.name in args.only]
    if args.substitute:
        mutants = [Mutant("substitute", "", *args.substitute, "given by hand")]
    unknown = set(args.only or ()) - {m.name for m in MUTANTS} | set(args.traps or ()) - {t.name for t in CORPUS}
    if unknown:
        parser.error(f"no such mutant or trap: {', '.join(sorted(unknown))}")
    corpus = [t for t in CORPUS if not args.traps or t.name in args.traps]
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        # A snapshot: all copies are made of one and the same state of the product.
        source = Path(folder) / "flatconv"
        shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
        for mutant in mutants:
            mutant.apply((source / mutant.file).read_text())
        kept = prepared(source, corpus)
        (clean,) = examined([NONE], source, kept, args.layers, 1)
        if clean.caught:
            print("The product itself does not pass, so nothing can be said of mutants:")
            print("\n".join(f"  {layer}: {words}" for layer, words in clean.caught.items()))
            return 1
        verdicts = []
        for verdict in examined(mutants, source, kept, args.layers, args.jobs):
            verdicts.append(verdict)
            print(
                f"{verdict.mutant.name}: {', '.join(verdict.layers) or 'NOT NOTICED'} ({verdict.seconds:.0f} s)",
                file=sys.stderr,
                flush=True,
            )
    verdicts.sort(key=lambda v: mutants.index(v.mutant))
    show(verdicts)
    if args.json:
        settings = {"models": len(corpus), "layers": args.layers, "random programs": SEEDS, "jobs": args.jobs}
        found = record.header("trust.mutate", given, settings, 0, max(SEEDS.values()))
        found |= {"seconds": round(time.monotonic() - started), "totals": totals(verdicts)}
        found |= {"traps": SENTENCES | FIELD, "mutants": [v.row() for v in verdicts]}
        # Words of errors may hold the place of the copy.
        text = json.dumps(found, ensure_ascii=False).replace(tempfile.gettempdir(), "…")
        record.write(args.json, json.loads(text))
    return 1 if any(not v.layers for v in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
