"""How many of the zero and equal slices of a network the facts find, and whether any claim is false.

Truth is measured: the captured program is run in float64 on several draws of inputs and of weights (literals of the code
stay what they are). A slice is truly zero if it is exactly zero in every draw; two slices of a tensor are truly equal if
they agree in every draw, up to the order in which sums are added. What is claimed is what ``flatconv.analyse`` says.

    python -m trust.recall --networks 500 --start 0 --json trust/results/recall.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flatconv.analyse import Analysis, analyse
from flatconv.capture import capture
from flatconv.errors import RefusedError
from flatconv.facts import ZERO, Slices
from flatconv.program import Node, Program
from trust.dense import dense_network
from trust.record import header, write
from trust.truth import CLOSE, Truth, Values, draw, run, sample, scale_of, truth

DRAWS = 6
MORE_DRAWS = 24
"""Taken besides where something true is not claimed, so that the accident of a few draws does not pass for truth."""
CREATED = {"zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "full", "full_like", "new_full"}
"""Operators whose results are known without looking at anything: they would only flatter the figures."""
AMPLIFIED = 64 * 2.0**-29
"""Rounding in float64 as a share of what the same program shows in float32, with room for a bad draw."""


# --- counting


@dataclass
class Family:
    """What is found and lost in the results of one operator.

    Attributes:
        slices: along all axes.
        zeros: truly zero slices.
        zeros_found: those claimed to be zero.
        redundant: non-zero slices that repeat another of their tensor.
        redundant_found: those claimed to.
        first_losses: results that lose something although nothing is lost in what they are made of.
        lost_there: slices lost in those.
        examples: where, for a few of them.
    """

    slices: int = 0
    zeros: int = 0
    zeros_found: int = 0
    redundant: int = 0
    redundant_found: int = 0
    first_losses: int = 0
    lost_there: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Recall:
    """Totals over networks.

    Attributes:
        networks: measured.
        nodes: tensors made of data.
        families: by operator.
        compared: pairs of slices with one number that were held against each other, and zeros against zero.
        false_claims: claims that some draw shows to be wrong, each in words.
        rounding: claims about values that are nothing but amplified rounding, where no draw can tell.
        not_finite: networks left out because some value overflowed.
        refused: networks left out because they are refused, so that nothing is claimed of them.
    """

    networks: int = 0
    nodes: int = 0
    families: dict[str, Family] = field(default_factory=dict)
    compared: int = 0
    false_claims: list[str] = field(default_factory=list)
    rounding: int = 0
    not_finite: int = 0
    refused: int = 0

    def total(self, name: str) -> int:
        """A count over all operators."""
        return sum(getattr(f, name) for f in self.families.values())

    @property
    def zero_recall(self) -> float:
        """Share of the truly zero slices that are claimed to be."""
        return self.total("zeros_found") / max(self.total("zeros"), 1)

    @property
    def equal_recall(self) -> float:
        """Share of the truly repeated slices that are claimed to be."""
        return self.total("redundant_found") / max(self.total("redundant"), 1)


def measure(program: Program, recall: Recall, label: str = "") -> None:
    """Add one program to the totals."""
    analysis = analyse(program)
    seeds = list(range(DRAWS))
    values = sample(program, seeds)
    if not all(np.isfinite(v).all() for v in values.values()):
        recall.not_finite += 1
        return
    recall.networks += 1
    found = {n: _truths(v) for n, v in values.items()}
    unclaimed = [n for n, t in found.items() if counted(n, program) and any(_lost(t, analysis.facts.of[n]))]
    if unclaimed:
        more = sample(program, range(DRAWS, DRAWS + MORE_DRAWS))
        if all(np.isfinite(v).all() for v in more.values()):
            values = {n: np.concatenate([v, more[n]]) for n, v in values.items()}
            found |= {n: _truths(values[n]) for n in unclaimed}
    _check_claims(program, analysis, values, recall, label)
    whole: dict[Node, bool] = {}
    for node in program.nodes:
        if node.shape is None:
            whole[node] = all(whole[n] for n in node.inputs)
            continue
        lost = sum(_lost(found[node], analysis.facts.of[node]))
        whole[node] = not lost or not counted(node, program)
        if not counted(node, program):
            continue
        recall.nodes += 1
        family = recall.families.setdefault(operator(node), Family())
        _count(family, found[node], analysis.facts.of[node])
        if lost and all(whole[n] for n in node.inputs):
            family.first_losses += 1
            family.lost_there += lost
            family.examples = [*family.examples, f"{label} {node.name} of {_makers(node)}".strip()][:5]


def counted(node: Node, program: Program) -> bool:
    """Whether a tensor is made of data: weights, literals and constants are not counted."""
    return node not in program.constant and operator(node) not in CREATED


def operator(node: Node) -> str:
    """The operator's name; for a piece of a list, that of what made the list."""
    while node.op == "getitem" and node.inputs:
        node = node.inputs[0]
    name: str = node.op.removeprefix("aten.").partition(".")[0]
    return name


def _makers(node: Node) -> str:
    return ", ".join(operator(n) for n in node.inputs if n.op != "weight") or "nothing"


def _truths(value: np.ndarray) -> list[Truth]:
    return [truth(value, a) for a in range(value.ndim - 1)]


def _claimed(true: Truth, known: Slices | None) -> tuple[int, int]:
    """Zero slices and repeats that are claimed and true."""
    if known is None:
        return 0, 0
    zeros = sum(i == ZERO and c == ZERO for i, c in zip(known, true.classes, strict=True))
    rest = [(i, c) for i, c in zip(known, true.classes, strict=True) if i != ZERO and c != ZERO]
    # A claim counts only inside its true class, so a false claim is never taken for a find.
    return zeros, len(rest) - len(set(rest))


def _lost(truths: list[Truth], facts: Sequence[Slices | None]) -> list[int]:
    """Zero slices and repeats that are not claimed, by axis."""
    found = []
    for true, known in zip(truths, facts, strict=True):
        zeros, redundant = _claimed(true, known)
        found.append(true.zeros - zeros + true.redundant - redundant)
    return found


def _count(family: Family, truths: list[Truth], facts: Sequence[Slices | None]) -> None:
    for true, known in zip(truths, facts, strict=True):
        zeros, redundant = _claimed(true, known)
        family.slices += len(true.classes)
        family.zeros += true.zeros
        family.zeros_found += zeros
        family.redundant += true.redundant
        family.redundant_found += redundant


def _check_claims(program: Program, analysis: Analysis, values: Values, recall: Recall, label: str) -> None:
    """Hold every claim against every draw: zeros are zero, equal numbers are equal slices, in whatever tensors they are."""
    first: dict[int, tuple[Node, int, int]] = {}
    amplified: dict[Node, np.ndarray] = {}
    for node, value in values.items():
        for axis, known in enumerate(analysis.facts.of[node]):
            if known is None:
                continue
            if len(known) != value.shape[axis + 1]:
                recall.false_claims.append(f"{label} {node.name} axis {axis}: {len(known)} numbers")
                continue
            for i, number in enumerate(known):
                here = value.take(i, axis + 1)
                if number == ZERO:
                    recall.compared += 1
                    if here.any():
                        recall.false_claims.append(f"{label} {node.name} axis {axis} slice {i} is not zero")
                    continue
                if number not in first:
                    first[number] = (node, axis, i)
                    continue
                recall.compared += 1
                other, b, j = first[number]
                there = values[other].take(j, b + 1)
                if here.shape == there.shape and _agree(
                    here, there, CLOSE * scale_of(value), CLOSE * scale_of(values[other])
                ):
                    continue
                amplified = amplified or _amplified(program, values)
                if here.shape == there.shape and _agree(here, there, amplified[node], amplified[other]):
                    recall.rounding += 1
                else:
                    recall.false_claims.append(
                        f"{label} {node.name} axis {axis} slice {i} is not {other.name} axis {b} slice {j}"
                    )


def _agree(a: np.ndarray, b: np.ndarray, one: np.ndarray, other: np.ndarray) -> bool:
    limit = np.maximum(one, other).reshape(-1, *[1] * (a.ndim - 1))
    return bool((np.abs(a - b) <= limit).all())


def _amplified(program: Program, values: Values) -> Values:
    """How far rounding in float64 may have come, judged by a run in float32 of each draw."""
    found: dict[Node, list[float]] = {n: [] for n in values}
    draws = next(iter(values.values())).shape[0]
    for seed in range(draws):
        with torch.no_grad():
            narrow = run(program, draw(program, seed), narrow=True)
        for node, value in values.items():
            difference = np.abs(narrow[node].to(torch.float64).numpy() - value[seed]).max(initial=0.0)
            found[node].append(AMPLIFIED * float(difference))
    return {n: np.array(v) for n, v in found.items()}


# --- the command


def measure_networks(start: int, networks: int) -> Recall:
    """The totals over the dense networks of a range of seeds."""
    recall = Recall()
    for seed in range(start, start + networks):
        net = dense_network(seed)
        try:
            program = capture(net, net.example, dynamic=False).program
        except RefusedError:
            recall.refused += 1
            continue
        measure(program, recall, f"seed {seed}:")
    return recall


def table(recall: Recall) -> str:
    """The totals for a terminal."""
    lines = [
        f"{recall.networks} networks, {recall.nodes} tensors, {recall.total('slices')} slices along all axes",
        f"zero slices:     {recall.total('zeros_found')} of {recall.total('zeros')} found, {recall.zero_recall:.2%}",
        f"repeated slices: {recall.total('redundant_found')} of {recall.total('redundant')} found, {recall.equal_recall:.2%}",
        f"claims held against the draws: {recall.compared}; false: {len(recall.false_claims)}; "
        f"beyond telling, nothing but rounding: {recall.rounding}; networks left out as not finite: "
        f"{recall.not_finite}, as refused: {recall.refused}",
        "",
        f"{'operator':26}{'zero':>9}{'found':>9}{'repeated':>10}{'found':>9}{'first losses':>14}{'lost there':>12}",
    ]
    for name, f in sorted(recall.families.items(), key=lambda item: -item[1].lost_there):
        if f.zeros or f.redundant:
            lines.append(
                f"{name:26}{f.zeros:9}{f.zeros_found:9}{f.redundant:10}{f.redundant_found:9}{f.first_losses:14}{f.lost_there:12}"
            )
    return "\n".join([*lines, *(f"FALSE: {c}" for c in recall.false_claims[:20])])


def as_json(recall: Recall) -> dict[str, Any]:
    """The totals as data."""
    names = ("slices", "zeros", "zeros_found", "redundant", "redundant_found")
    return {
        "networks": recall.networks,
        "tensors": recall.nodes,
        **{n: recall.total(n) for n in names},
        "zero_recall": recall.zero_recall,
        "equal_recall": recall.equal_recall,
        "claims_compared": recall.compared,
        "false_claims": len(recall.false_claims),
        "false_claims_in_words": recall.false_claims[:50],
        "rounding_only": recall.rounding,
        "not_finite": recall.not_finite,
        "refused": recall.refused,
        "operators": {n: asdict(f) for n, f in sorted(recall.families.items())},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a range of seeds, print the table, write the JSON. The exit code is 1 if a claim is false."""
    parser = argparse.ArgumentParser(
        prog="python -m trust.recall", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--networks", type=int, default=500, help="how many")
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    started = time.perf_counter()
    recall = measure_networks(options.start, options.networks)
    print(table(recall))
    if options.json is not None:
        settings = {"draws": DRAWS, "more_draws": MORE_DRAWS, "close": CLOSE}
        head = header(
            "trust.recall", sys.argv[1:] if argv is None else list(argv), settings, options.start, options.networks
        )
        write(options.json, head | {"seconds": round(time.perf_counter() - started, 1)} | as_json(recall))
    return 1 if recall.false_claims else 0


if __name__ == "__main__":
    sys.exit(main())
