"""Writes the figures of the committed runs into docs/trust.md.

python -m trust.page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trust.cases import IN_FLOAT64

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "trust/results"
BEGIN, END = "<!-- trust:", "<!-- end of trust -->"
MOST = 12
"""Rows of a list that is shown in part."""


def main() -> None:
    """Read every file of results and write the page anew."""
    parts = [fuzz(_read("fuzz")), mutants(_read("mutants")), recall(_read("recall")), metamorphic(_read("metamorphic"))]
    path = ROOT / "docs/trust.md"
    head, rest = path.read_text(encoding="utf-8").split(BEGIN, 1)
    mark, tail = rest.split("\n", 1)[0], rest.split(END, 1)[1]
    body = "\n\n".join([*parts, inputs()])
    path.write_text(f"{head}{BEGIN}{mark}\n{body}\n{END}{tail}", encoding="utf-8")


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _origin(found: dict[str, Any]) -> str:
    unclean = ", with uncommitted changes" if found["dirty"] else ""
    return f"{found['date']}, commit {found['commit'][:10]}{unclean}, torch {found['torch']}: `{found['command']}`"


def fuzz(found: dict[str, Any]) -> str:
    """Random programs: what was drawn, how it was compared, and how often it was wrong."""
    lines = ["### Random programs", "", _origin(found), ""]
    lines += ["| | single operators | graphs of 2 to 20 nodes |", "| --- | ---: | ---: |"]
    sides = [found["operators"], found["graphs"]]

    def row(words: str, value: Any) -> None:
        lines.append(f"| {words} | {' | '.join(_number(value(s)) for s in sides)} |")

    row("drawn and folded", lambda s: s["count"])
    row("left out, the original does not run in the drawn type", lambda s: s["cases"].get("skipped", 0))
    row("**failed**", lambda s: s["cases"]["failed"])
    row("convolutions rewritten", lambda s: s["cases"]["sites rewritten"])
    row("refused, with the reason", lambda s: s["cases"]["refused"])
    for name, words in (
        ("impulses", "outputs compared by unit impulses, bit for bit"),
        ("dyadics", "outputs compared on dyadic integers, bit for bit"),
        ("rounding", "outputs held against the rounding bound"),
        ("float64", "outputs compared in float64 at 1e-10"),
        ("own type", "outputs compared in their own type only"),
    ):
        row(words, lambda s, name=name: s["outputs"].get(name, 0))
    row("largest share of the rounding bound", lambda s: s["share of the rounding bound"])
    row("later calls at other sizes, right", lambda s: s["calls"].get("right", 0))
    row("later calls not compared, the original fails in float64", lambda s: s["calls"].get(IN_FLOAT64, 0))
    row("later calls refused by a guard", lambda s: sum(v for k, v in s["calls"].items() if k.startswith("guarded")))
    rules = {r: sum(s["rules"].get(r, 0) for s in sides) for s in sides for r in s["rules"]}
    kinds = {k: sum(s["kinds"].get(k, 0) for s in sides) for s in sides for k in s["kinds"]}
    first = found["seeds"][0]
    lines += [
        "",
        f"Seeds {first:,} to {max(first + s['count'] for s in sides) - 1:,}. Rules applied: {_listed(rules)}. "
        f"Operators drawn: {_listed(kinds)}.",
    ]
    return "\n".join(lines)


def mutants(found: dict[str, Any]) -> str:
    """Deliberately wrong versions, and which layer noticed."""
    totals = found["totals"]
    lines = ["### Mutants", "", _origin(found), ""]
    lines += [
        f"{totals['mutants']} deliberately wrong versions of the source; **{totals['caught']} caught, "
        f"{len(totals['survivors'])} survived**. Every layer was asked until nothing new came, so the counts are lower bounds.",
        "",
        "| layer | caught | by this layer alone |",
        "| --- | ---: | ---: |",
    ]
    for layer, count in totals["by layer"].items():
        lines.append(f"| {layer} | {count} | {totals['by this layer alone'].get(layer, 0)} |")
    left = totals["not by the product's own verification"]
    lines += [
        "",
        "The first two layers are those that every call of `fold` runs. Not noticed by them, and caught by the others: "
        f"{', '.join(f'`{n}`' for n in left) or 'none'}. These are wrong refusals, wrong behaviour after the fold was made, "
        "claims that no result shows, and weakened checks themselves.",
    ]
    return "\n".join(lines)


def recall(found: dict[str, Any]) -> str:
    """What the facts find of what is true."""
    return "\n".join(
        [
            "### Recall and false claims",
            "",
            _origin(found),
            "",
            f"{found['networks']:,} densely connected networks, {found['tensors']:,} tensors, {found['slices']:,} slices. What "
            "is true was measured, by running each network on several draws of inputs and weights.",
            "",
            "| | truly so | found |",
            "| --- | ---: | ---: |",
            f"| slices that are zero | {found['zeros']:,} | {found['zeros_found']:,} ({found['zero_recall']:.1%}) |",
            f"| slices that repeat another | {found['redundant']:,} | "
            f"{found['redundant_found']:,} ({found['equal_recall']:.1%}) |",
            "",
            f"Claims held against values: {found['claims_compared']:,}; **false: {found['false_claims']}**.",
        ]
    )


def metamorphic(found: dict[str, Any]) -> str:
    """Programs rewritten by identities."""
    kinds = found["identities"]
    lost = {name: k["lost"] for name, k in kinds.items() if k["lost"]}
    return "\n".join(
        [
            "### Metamorphic tests",
            "",
            _origin(found),
            "",
            f"{found['programs']:,} random programs, each also rewritten by some of {len(kinds)} identities that do not change "
            f"what it means, {sum(k['applied'] for k in kinds.values()):,} rewritings in all. Outputs compared: "
            f"{found['outputs']['bit for bit']:,} bit for bit, {found['outputs']['within rounding']:,} within rounding; "
            f"**different: {len(found['failures'])}**.",
            "",
            f"The rewritten program folded less well (never wrong, only dearer) in: {_listed(lost) if lost else 'none'}.",
        ]
    )


def inputs() -> str:
    """Rows of the tables of bad inputs."""
    from tests.bad import commands, disk, files, fine, models

    counts = {
        "hostile files": len(files.UNTRUSTED) + len(files.ARCHIVES) + len(files.STATES) + len(files.PICTURES),
        "models and calls": len(models.TABLE),
        "command lines": len(commands.TABLE),
        "disks": len(disk.TABLE),
    }
    return "\n".join(
        [
            "### Bad inputs",
            "",
            f"{sum(counts.values())} rows in `tests/bad/`, run by `make test`: {_listed(counts)}. Each must raise a typed "
            "error with a sentence that names what was given, write nothing and run no code. Beside them stand "
            f"{len(fine.NAMES)} rows of names that look bad and must work.",
        ]
    )


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    main()
