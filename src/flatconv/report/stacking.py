"""Tables of stacks, and of what stacking does to the use of each kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flatconv.depths import Compared, useful
from flatconv.errors import plain
from flatconv.report.terminal import SENTENCE, share, short, size, taps

if TYPE_CHECKING:
    from flatconv.stack.summary import Summary

FEW = 6


def stack_view(summary: Summary) -> RenderableType:
    """What goes in, what comes out, and what was done at the edges."""
    table = _table("Stack", ())
    table.show_header = False
    table.add_column("what", no_wrap=True)
    table.add_column("is", overflow="fold")
    cut = f", {summary.patches} patches of each" if summary.patches > 1 else ""
    outside = {"drop": "windows that would stick out are not made", "pad": "zeros", "error": "refused"}
    beyond = outside.get(summary.outside, summary.outside)
    if summary.beyond:
        beyond += f", in {summary.beyond} of {summary.windows} windows"
    rows = {
        "source": f"{summary.kind} {short(summary.source)}",
        "frames": f"{summary.frames} of {size(summary.frame_shape)} (channels × height × width)",
        "values": summary.range,
        "stacked": f"{summary.how}: depth is {summary.axis}",
        "windows": f"{summary.windows}{cut}",
        "shape": f"{size(summary.shape)} (items × channels × depth × height × width)",
        **({} if summary.outside == "none" else {"beyond the ends": beyond}),
        "frames in no window": str(summary.unused),
    }
    for name, value in rows.items():
        table.add_row(name, Text(plain(value)))
    return Group(table, *(Text(plain(f"{n[0].upper()}{n[1:]}.")) for n in summary.notes))


def windows_view(
    rows: Sequence[tuple[int, Sequence[int | None], tuple[int, int], str]], total: int, label: Callable[[int], str]
) -> RenderableType:
    """Some windows: which frames each one shows, and the file it is in.

    Args:
        rows: index, frames, first row and column, and file of those that are shown.
        total: how many there are.
        label: what the source calls a frame.
    """
    table = _table("Windows", ("window", "frames", "from", "to", "file"))
    before = -1
    for index, shown, patch, file in rows:
        if index > before + 1:
            table.add_row("…")
        before = index
        place = f" at row {patch[0]}, column {patch[1]}" if any(p[2] != (0, 0) for p in rows) else ""
        known = [f for f in shown if f is not None]
        ends = [short(label(f), 40) for f in (known[0], known[-1])] if known else ["zeros", "zeros"]
        table.add_row(*(Text(plain(c)) for c in (f"{index}{place}", frames(shown), *ends, file)))
    if total > before + 1:
        table.add_row("…")
    return table


def frames(shown: Sequence[int | None]) -> str:
    """Indices of frames, short: 0–15, 0–30 by 2, or one by one."""
    known = [f for f in shown if f is not None]
    if len(known) == len(shown) > 2:
        by = known[1] - known[0]
        if by > 0 and known == list(range(known[0], known[-1] + 1, by)):
            return f"{known[0]}–{known[-1]}" + (f" by {by}" if by > 1 else "")
    names = ["zeros" if f is None else str(f) for f in shown]
    return " ".join(names if len(names) <= 2 * FEW else [*names[:FEW], "…", *names[-FEW:]])


def comparison_view(compared: Compared) -> RenderableType:
    """The use of each kernel on a window and on one image."""
    words = f"What stacking changes: depth {compared.depth} ({compared.how}) against one image"
    table = _table(words, ())
    for name in ("site", "kernel", "taps, stacked", "useful, stacked", "taps, one image", "useful, one image"):
        table.add_column(name, justify="right" if name.startswith("useful") else "left", no_wrap=name != "site")
    for one, other in zip(compared.stacked, compared.single, strict=True):
        cells = [short(one.name), size(one.kernel), taps(one), share(one.useful_macs, one.macs)]
        cells += ["–", "–"] if other is None else [taps(other), share(other.useful_macs, other.macs)]
        table.add_row(*(Text(plain(c)) for c in cells))
    stacked, single = compared.useful
    lines = []
    if single is None:
        lines.append(f"On one image the model does not run: {short(compared.refusal, SENTENCE)}")
    else:
        lines.append(
            f"Useful multiply-adds: {stacked:.1%} on a window of depth {compared.depth}, {single:.1%} on one image."
        )
        gained = sum(
            o is not None and useful(s) > useful(o) for s, o in zip(compared.stacked, compared.single, strict=True)
        )
        lines.append(
            f"{gained} of {len(compared.stacked)} kernels meet more data when images are stacked."
            if gained
            else "No kernel meets more data when images are stacked: depth of 1 would do."
        )
    return Group(table, *(Text(plain(line)) for line in lines))


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=Text(plain(title)), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
