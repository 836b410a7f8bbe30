"""Programs rewritten by identities fold to the same outputs, and as well.

A random program and a rewritten one (``trust.identities``) are both folded by the public API. The outputs of both programs
and of both folds must agree: bit for bit where all sums are exactly representable, within rounding elsewhere. What the
folds cost is counted by torch while they run, so that one sees after which rewrites a fold is no longer as good.

    python -m trust.metamorphic --programs 300 --start 0 --json trust/results/metamorphic.json
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import flatconv
from flatconv.errors import RefusedError
from trust.agreement import ILL, LIMIT, Outputs, Program, agree, run
from trust.draw import graph, single
from trust.identities import IDENTITIES, Identity
from trust.recipes import Recipe
from trust.record import header, write
from trust.steps import form

EACH = 2
"""Identities of either kind that a program is rewritten by, where it has places for so many."""
SEVERAL = "several, one after the other"


@dataclass
class Score:
    """What came of one identity.

    Attributes:
        applied: programs that it was applied to.
        no_place: programs without a place for it.
        refused: rewritten programs that fold refuses although it takes the program itself.
        kept: folds that are as good as the fold of the program itself, which saves something.
        idle: folds that are as good where the fold of the program saves nothing.
        lost: folds that multiply and add more.
        dearer: sum, over the lost, of how many times as much they cost.
        rank_lost: folds that cost no more but hold a 3-D convolution, where the fold of the program holds none.
        lost_at: some of the seeds where anything is lost.
    """

    applied: int = 0
    no_place: int = 0
    refused: int = 0
    kept: int = 0
    idle: int = 0
    lost: int = 0
    dearer: float = 0.0
    rank_lost: int = 0
    lost_at: list[int] = field(default_factory=list)

    def count(self, before: Price, behind: Price, seed: int) -> None:
        """Count the fold of a rewritten program against the fold of the program."""
        if behind.operations > before.operations:
            self.lost += 1
            self.dearer += behind.operations / max(before.operations, 1)
        elif behind.three and not before.three:
            self.rank_lost += 1
        elif before.saves:
            self.kept += 1
            return
        else:
            self.idle += 1
            return
        self.lost_at = [*self.lost_at, seed][:10]


@dataclass
class Report:
    """Totals over programs.

    Attributes:
        programs: folded.
        left_out: programs that are not rewritten, and why.
        scores: by identity.
        outputs: compared, by how.
        failures: in words, with what makes them again.
    """

    programs: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    scores: dict[str, Score] = field(default_factory=dict)
    outputs: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)


def cost(model: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> int:
    """Floating-point operations of convolutions and matrix products, counted while they run."""
    with FlopCounterMode(display=False) as counter:
        run(model, inputs)
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class Price:
    """What a fold costs.

    Attributes:
        operations: see ``cost``.
        three: 3-D convolutions in its graph.
        saves: whether that is less than the program itself costs, in either.
    """

    operations: int
    three: int
    saves: bool

    @classmethod
    def of(cls, program: Program, flat: flatconv.Folded) -> Price:
        """Count."""
        operations = cost(flat, program.inputs)
        three = threes(str(n.target) for n in flat.graph.nodes if n.op == "call_function")
        before = sum(s.kind == "conv" and s.args["axes"] == 3 for s in program.recipe.steps)
        return cls(operations, three, operations < cost(program.model, program.inputs) or three < before)


def threes(operators: Iterable[str]) -> int:
    """How many of the operators are 3-D convolutions."""
    return sum(o.startswith(("aten.conv3d", "aten.conv_transpose3d")) for o in operators)


@dataclass
class Trial:
    """A program, its fold, and rewritten forms of it.

    Attributes:
        program: as drawn.
        weights: as ``flatconv.fold`` takes it.
        report: where to count.
        price: of the program's own fold.
    """

    program: Program
    weights: str
    report: Report
    price: Price | None = None

    def fold(self, program: Program) -> flatconv.Folded:
        """By the public API, at fixed sizes."""
        options: dict[str, Any] = {"dynamic": False, "verify": False, "weights": self.weights}
        return flatconv.fold(program.model, program.inputs, **options)

    def holds(self, given: Callable[[], Outputs], recipe: Recipe, what: str) -> bool:
        """Whether outputs agree with the program's own; a failure is written down."""
        try:
            agree(self.program, given(), self.report.outputs)
        except Exception as e:
            self.report.failures.append(failure(recipe, what, e, self.weights))
            return False
        return True

    def start(self) -> bool:
        """Fold the program itself; whether there is anything to go on with."""
        try:
            flat = self.fold(self.program)
        except RefusedError:
            self.report.left_out["refused by fold"] += 1
            return False
        self.report.programs += 1
        self.price = Price.of(self.program, flat)
        return self.holds(lambda: run(flat, self.program.inputs), self.program.recipe, "the fold of the program")

    def compare(self, rewritten: Program, name: str) -> None:
        """Hold a rewritten program and its fold against the program, and count what its fold costs."""
        score = self.report.scores.setdefault(name, Score())
        score.applied += 1
        if not self.holds(lambda: rewritten.outputs, rewritten.recipe, f"{name}: the rewritten program itself"):
            return
        try:
            flat = self.fold(rewritten)
        except RefusedError:
            score.refused += 1
            return
        except Exception as e:
            self.report.failures.append(failure(rewritten.recipe, f"{name}: fold", e, self.weights))
            return
        if self.holds(lambda: run(flat, self.program.inputs), rewritten.recipe, f"{name}: the fold"):
            assert self.price is not None
            score.count(self.price, Price.of(rewritten, flat), rewritten.recipe.seed)


def failure(recipe: Recipe, what: str, error: Exception, weights: str) -> dict[str, Any]:
    """What went wrong, with what makes it again."""
    return {
        "seed": recipe.seed,
        "what": what,
        "why": f"{type(error).__name__}: {error}",
        "weights": weights,
        "recipe": recipe.to_json(),
        "code": recipe.class_source,
    }


def chosen(seed: int) -> Recipe:
    """The program of a seed: a graph, or one operator behind a step that creates facts."""
    return graph(seed) if seed % 2 == 0 else single(seed)


def check_recipe(recipe: Recipe, report: Report, identities: Sequence[Identity] = IDENTITIES, each: int = EACH) -> None:
    """Rewrite a program by some of the identities, one at a time and then one after the other."""
    if any(form(s).statement for s in recipe.steps):
        # A write reaches every view of a value, and a rewrite changes what is a view of what.
        report.left_out["writes in place"] += 1
        return
    program = Program.of(recipe)
    if not all(bool(o.isfinite().all()) for o in program.outputs):
        report.left_out["not finite"] += 1
        return
    trial = Trial(program, "shared" if recipe.seed % 4 > 1 else "folded", report)
    if not trial.start():
        return
    r = random.Random(f"rewrite {recipe.seed}")
    chain, names = program, list[str]()
    for detours in (True, False):
        wanted = each
        alike = [i for i in identities if (i.detour is not None) is detours]
        for identity in r.sample(alike, len(alike)):
            if not wanted:
                break
            rewritten = program.rewritten(identity, r)
            if rewritten is None:
                report.scores.setdefault(identity.name, Score()).no_place += 1
                continue
            wanted -= 1
            trial.compare(rewritten, identity.name)
            longer = chain.rewritten(identity, r)
            if longer is not None:
                chain, names = longer, [*names, identity.name]
    if len(names) > 1:
        trial.compare(chain, SEVERAL)


def check_programs(start: int, programs: int) -> Report:
    """The totals over the programs of a range of seeds."""
    report = Report()
    for seed in range(start, start + programs):
        try:
            check_recipe(chosen(seed), report)
        except Exception as e:  # a crash of fold is a finding like any other
            report.failures.append(failure(chosen(seed), "crash", e, ""))
    return report


def table(report: Report) -> str:
    """The totals for a terminal."""
    left_out = ", ".join(f"{n} {why}" for why, n in report.left_out.items()) or "none"
    outputs = ", ".join(f"{n} {how}" for how, n in report.outputs.items())
    lines = [
        f"{report.programs} programs, left out: {left_out}",
        f"outputs compared: {outputs}; failures: {len(report.failures)}",
        "",
        f"{'identity':32}{'applied':>8}{'no place':>10}{'refused':>9}{'kept':>7}{'idle':>7}{'lost':>7}"
        f"{'dearer':>9}{'rank lost':>11}",
    ]
    order = [*(i.name for i in IDENTITIES), SEVERAL]
    for name, s in sorted(report.scores.items(), key=lambda item: order.index(item[0])):
        dearer = f"{s.dearer / s.lost:.2f}×" if s.lost else ""
        lines.append(
            f"{name:32}{s.applied:8}{s.no_place:10}{s.refused:9}{s.kept:7}{s.idle:7}{s.lost:7}{dearer:>9}{s.rank_lost:11}"
        )
    return "\n".join(
        [*lines, *(f"FAILED: seed {f['seed']}: {f['what']}: {f['why'][:200]}" for f in report.failures[:20])]
    )


def as_json(report: Report) -> dict[str, Any]:
    """The totals as data."""
    equations = {i.name: i.equation for i in IDENTITIES}
    return {
        "programs": report.programs,
        "left_out": dict(report.left_out),
        "outputs": dict(report.outputs),
        "identities": {n: {"equation": equations.get(n, "")} | asdict(s) for n, s in report.scores.items()},
        "failures": report.failures,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Check a range of seeds, print the table, write the JSON. The exit code is 1 if anything differs."""
    parser = argparse.ArgumentParser(
        prog="python -m trust.metamorphic", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--programs", type=int, default=300, help="how many")
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    started = time.perf_counter()
    report = check_programs(options.start, options.programs)
    print(table(report))
    if options.json is not None:
        settings = {"identities_of_either_kind": EACH, "limit": LIMIT, "ill": ILL}
        arguments = sys.argv[1:] if argv is None else list(argv)
        head = header("trust.metamorphic", arguments, settings, options.start, options.programs)
        write(options.json, head | {"seconds": round(time.perf_counter() - started, 1)} | as_json(report))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
