"""Tables for the terminal, also what ``print`` shows of an audit or a fold."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from flatconv.audit import Audit, SiteAudit
from flatconv.errors import plain
from flatconv.report.fold import FoldReport
from flatconv.tune import RUNTIMES, Tuned

LIVE, DEAD, MERGED = "■", "·", "∪"
WIDE = 120
PIPE = 150
LONG = 100
SENTENCE = 600
FEW = 8


def short(name: str, longest: int = LONG) -> str:
    """A name for a table: nothing in it that a terminal would obey, and the middle left out if it is very long."""
    text = plain(name)
    return text if len(text) <= longest else f"{text[: longest // 2 - 1]}…{text[-longest // 2 :]}"


def count(number: float) -> str:
    """A number with a unit that keeps it short: 12.3 G."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def share(part: int, whole: int) -> str:
    """Per cent, one hundred only if nothing is missing."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    return f"{min(percent, 99.9):.1f} %" if part < whole else "100 %"


def taps(site: SiteAudit) -> str:
    """The kernel along depth, a sign for each tap."""
    marks = (
        dict.fromkeys(site.dead_taps, DEAD)
        | dict.fromkeys(site.live_taps, LIVE)
        | dict.fromkeys(site.merged_taps, MERGED)
    )
    shown = [marks.get(t, DEAD) for t in range(site.kernel[0])]
    return " ".join(shown) if len(shown) <= 9 else f"{len(site.live_taps)} of {len(shown)} live"


def size(shape: Sequence[int]) -> str:
    """1×3×1×256×256."""
    return "×".join(map(str, shape))


def render_audit(audit: Audit) -> str:
    """The audit as text."""
    return rendered(audit_view(audit))


def render_fold(report: FoldReport) -> str:
    """The fold as text."""
    return rendered(fold_view(report))


def audit_view(audit: Audit, width: int = WIDE) -> RenderableType:
    """Table of the sites, totals, and what was not understood. Narrow terminals get fewer columns."""
    wide = width >= WIDE
    inputs = ", ".join(f"{short(n)} {size(s)}" for n, s in audit.inputs[:FEW])
    more = f" and {len(audit.inputs) - FEW} more" if len(audit.inputs) > FEW else ""
    table = _table(f"{short(audit.model)}.{short(audit.method)} on {inputs}{more}")
    table.add_column("site", overflow="fold")
    if wide:
        table.add_column("operator", no_wrap=True)
    table.add_column("kernel", no_wrap=True)
    if wide:
        table.add_column("input", no_wrap=True)
    table.add_column("taps", no_wrap=True)
    table.add_column("multiply-adds", justify="right", no_wrap=True)
    table.add_column("useful", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=1)
    for site in audit.sites:
        known = [site.op] if wide else []
        shape = [size(site.input_shape)] if wide else []
        numbers = [taps(site), count(site.macs), share(site.useful_macs, site.macs)]
        table.add_row(
            *_cells(short(site.name), *known, size(site.kernel), *shape, *numbers, short(site.reason, SENTENCE))
        )
    return Group(table, *_notes([*_totals(audit), *_remarks(audit)]))


def fold_view(report: FoldReport) -> RenderableType:
    """What became of each site, and what is known of it."""
    table = _table("What was done")
    table.add_column("site", overflow="fold")
    for name in ("operator", "becomes", "taps"):
        table.add_column(name, no_wrap=True)
    table.add_column("by", overflow="fold", ratio=1)
    table.add_column("evidence", overflow="fold", ratio=1)
    for site in report.sites:
        done = ", ".join(site.rule)
        evidence = site.evidence
        known = "not verified" if evidence is None else f"{evidence.level} ({evidence.how})"
        table.add_row(*_cells(
            short(site.audit.name), site.audit.op, site.becomes if done else "unchanged", taps(site.audit),
            done or short("; ".join(site.refusal), SENTENCE) or "nothing to leave out", known if done else "",
        ))  # fmt: skip
    notes = _notes([*_totals(report.audit), *_evidence(report), *_remarks(report.audit)])
    return Group(table, *([_tuned(report.tuned)] if report.tuned else []), *notes)


ENGINES = {"eager": "eager PyTorch", "compile": "torch.compile"} | RUNTIMES


def _tuned(tuned: Tuned) -> RenderableType:
    """What was timed to choose between forms."""
    table = _table(f"Forms timed in {ENGINES[tuned.engine]} on {tuned.device}, {tuned.threads} threads")
    table.add_column("combination", overflow="fold", ratio=1)
    for name in ("ms", "part of the original's time", "middle half of rounds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(*_cells("original", f"{tuned.original * 1e3:.2f}", "1.00", ""))
    for trial in sorted(tuned.trials, key=lambda t: t.ratio):
        taken = " (taken)" if trial.name == tuned.chosen else ""
        low, high = trial.spread
        numbers = [f"{trial.seconds * 1e3:.2f}", f"{trial.ratio:.2f}", f"{low:.2f} to {high:.2f}"]
        table.add_row(*_cells(short(trial.name, SENTENCE) + taken, *numbers))
    said = f"Taken: {short(tuned.chosen, SENTENCE)}, {tuned.reason}"
    found = "from the cache" if tuned.cached else f"in {tuned.seconds:.1f} s"
    return Group(table, *_cells(f"{said} ({found})."))


def _totals(audit: Audit) -> list[str]:
    t = audit.totals
    unused = len(audit.unused_parameters)
    lines = [
        f"{t.sites} site{'' if t.sites == 1 else 's'}. "
        f"Useful multiply-adds: {count(t.useful_macs)} of {count(t.macs)} ({share(t.useful_macs, t.macs)}); "
        f"parameters: {count(t.useful_parameters)} of {count(t.parameters)} ({share(t.useful_parameters, t.parameters)}); "
        f"bytes moved: {count(t.useful_bytes)} of {count(t.bytes)} ({share(t.useful_bytes, t.bytes)}).",
    ]
    if any(s.dead_taps or s.merged_taps for s in audit.sites):
        lines.append(
            f"Taps along depth: {LIVE} live, {DEAD} dead (meets only zeros), {MERGED} merged (meets the same slice)."
        )
    if unused:
        few = ", ".join(short(n) for n in audit.unused_parameters[:4])
        lines.append(f"{unused} parameters are never read on this input: {few}{', …' if unused > 4 else ''}.")
    return lines


def _evidence(report: FoldReport) -> list[str]:
    lines = []
    if report.evidence.runs:
        levels: dict[str, int] = {}
        for site in report.evidence.sites.values():
            levels[site.level] = levels.get(site.level, 0) + 1
        sites = ", ".join(f"{n} {level}" for level, n in levels.items()) or "none rewritten"
        runs = report.evidence.runs
        lines.append(
            f"Evidence. Sites: {sites}. Whole model: tested on {len(runs)} inputs; in float64 the largest difference is "
            f"{report.evidence.float64_error:.1e} of the largest output; in its own type the error against float64 is "
            f"{max(r.folded_error for r in runs):.1e}, the original's {max(r.original_error for r in runs):.1e}."
        )
    else:
        lines.append("Evidence: none, verification was switched off.")
    lines.append(f"Sizes that may change from call to call: {', '.join(map(short, report.free)) or 'none'}.")
    lines.extend(f"Assumed: {a}." for a in report.assumptions)
    return lines


def _remarks(audit: Audit) -> list[str]:
    lines = [
        f"Unknown operator {short(op)} in {', '.join(short(w) for w in where[:3])}: left as it is, nothing is assumed of it."
        for op, where in audit.unknown.items()
    ]
    return lines + [note[0].upper() + note[1:] + "." for note in audit.notes]


def _cells(*texts: str) -> list[Text]:
    """Text and not markup, so that a bracket in a name is a bracket."""
    return [Text(plain(t)) for t in texts]


def _notes(lines: Iterable[str]) -> list[Text]:
    return _cells(*lines)


def _table(title: str) -> Table:
    return Table(title=Text(plain(title)), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, expand=False)


def rendered(view: RenderableType) -> str:
    """A view as text, as wide as the terminal but never narrow."""
    width = max(shutil.get_terminal_size((PIPE, 40)).columns, WIDE)
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(view)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
