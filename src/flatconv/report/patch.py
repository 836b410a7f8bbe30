"""What was patched and how calls were computed, as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from flatconv.errors import plain
from flatconv.report.terminal import SENTENCE, count, rendered, share, short, size

if TYPE_CHECKING:
    from flatconv.patch import Patched


def text(patched: Patched) -> str:
    """The table, what was left, and why the original was called last."""
    title = f"Patched {type(patched.model).__name__}"
    table = Table(title=Text(plain(title)), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name in ("method", "folded for"):
        table.add_column(name, overflow="fold")
    table.add_column("sites", justify="right")
    table.add_column("useful", justify="right")
    table.add_column("float64 error", justify="right")
    for name in ("calls folded", "by the original"):
        table.add_column(name, justify="right")
    lines = []
    for name, route in patched.routes.items():
        for i, report in enumerate(route.reports):
            done = sum(bool(s.rule) for s in report.sites)
            t, error = report.audit.totals, report.evidence.float64_error
            counts = (str(route.counts.folded), str(route.counts.original)) if i == 0 else ("", "")
            inputs = ", ".join(f"{short(n)} {size(s)}" for n, s in report.audit.inputs)
            cells = [
                short(name) if i == 0 else "",
                inputs,
                f"{done} of {len(report.sites)}",
                share(t.useful_macs, t.macs),
                "not verified" if error is None else f"{error:.1e}",
                *counts,
            ]
            table.add_row(*(Text(plain(c)) for c in cells))
        if route.counts.why:
            lines.append(
                f"{short(name)}: the original computed a call last because {short(route.counts.why, SENTENCE)}."
            )
    if patched.freed:
        lines.append(f"Freed: {count(patched.freed)}B of the model's own weights, which only the programs have now.")
    lines += [f"Left as it is: {short(name)}: {short(why, SENTENCE)}." for name, why in patched.left.items()]
    return rendered(Group(table, *(Text(plain(line)) for line in lines)))
