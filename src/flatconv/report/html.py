"""The report people look at: an audit or a fold as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flatconv import files
from flatconv.audit import Audit, SiteAudit
from flatconv.report import words
from flatconv.report.drawing import ACROSS, UP, Drawing, drawing
from flatconv.report.fold import FoldReport, SiteReport
from flatconv.report.page import page
from flatconv.report.terminal import count, share, short, size

CELLS = 8000
"""Taps drawn on one page. Above, slices are drawn whole, so that a strange model still makes a page that opens."""
CARDS = 12
SHOWN = 40
NAME = 600
LISTED = 200


@dataclass
class Kernel:
    """All layers whose kernels look alike.

    Attributes:
        id: of the drawing in the page.
        title: kernel and operator.
        text: which taps meet what.
        drawing: shared by all of them.
        layers: how many.
        wasted: multiply-adds.
        share: of all that is wasted, in words; empty if nothing is.
    """

    id: str
    title: str
    text: str
    drawing: Drawing
    layers: int = 0
    wasted: int = 0
    share: str = ""


@dataclass(frozen=True)
class Layer:
    """One row of the page.

    Attributes:
        site: its numbers.
        done: what a fold did; None in an audit.
        kernel: its drawing.
        number: in network order.
        useful: width of the bar's useful part, in per cent of the longest bar.
        wasted: of the rest.
        operator: what it is, and what it became.
        taps: kind of each tap, for the small signs; empty if there are too many.
        more: a remark on what the taps do not show.
    """

    site: SiteAudit
    done: SiteReport | None
    kernel: Kernel
    number: int
    useful: float
    wasted: float
    operator: str
    taps: tuple[str, ...]
    more: str


def write(path: Any, text: str, *, force: bool = False) -> None:
    """Put a page into a file, whole or not at all.

    Raises:
        InputError: the file exists and ``force`` is not set, or it cannot be written.
    """

    def save(place: Path) -> None:
        place.write_text(text, encoding="utf-8")

    files.write(path, save, force=force)


def audit_html(audit: Audit) -> str:
    """The page of an audit."""
    return page("audit.html.j2", scripts=("layers.js",), kind="audit report", fold=None, **_context(audit, None))


def fold_html(report: FoldReport, measured: Mapping[str, Any] | None = None) -> str:
    """The page of a fold.

    Args:
        report: what was done.
        measured: times and memory of both sides, as ``flatconv fold --measure`` takes them.
    """
    return page(
        "fold.html.j2",
        scripts=("layers.js",),
        kind="fold report",
        fold=report,
        levels=words.levels(report),
        refusals=words.refusals(report),
        measured=_measured(measured) if measured else [],
        facts=measured or {},
        **_context(report.audit, report),
    )


def _context(audit: Audit, report: FoldReport | None) -> dict[str, Any]:
    kernels, layers = _layers(audit, report.sites if report else ())
    t = audit.totals
    totals = [
        ("multiply-adds", t.useful_macs, t.macs, count),
        ("parameters", t.useful_parameters, t.parameters, count),
        ("bytes moved", t.useful_bytes, t.bytes, _bytes),
    ]
    return {
        "audit": audit,
        "kernels": kernels,
        "layers": layers,
        "meters": [
            (name, unit(useful), unit(whole), share(useful, whole), _percent(useful, whole), whole)
            for name, useful, whole, unit in totals
        ],
        "wide": any(k.drawing.width > 210 for k in kernels),
        "long": any(len(layer.taps) > 4 for layer in layers),
        "CARDS": CARDS,
        "SHOWN": SHOWN,
        "NAME": NAME,
        "LISTED": LISTED,
        "ACROSS": ACROSS,
        "UP": UP,
        "count": count,
        "bytes_": _bytes,
        "share": share,
        "short": short,
        "size": size,
        "words": words,
    }


def _layers(audit: Audit, done: tuple[SiteReport, ...]) -> tuple[list[Kernel], list[Layer]]:
    """All rows in network order, and the kinds of kernel, the most wasteful first."""
    kernels: dict[object, Kernel] = {}
    layers = []
    left = CELLS
    longest = max((s.macs for s in audit.sites), default=0)
    for number, site in enumerate(audit.sites):
        report = done[number] if done else None
        flat = _flat(site, report)
        key = (site.op, site.kernel, site.tap_groups, site.dead_taps, flat)
        if key not in kernels:
            drawn = drawing(site, becomes=flat) if left > 0 else drawing(site, becomes=flat, cells=0)
            left -= drawn.cells[0] * drawn.cells[1] * len(drawn.sheets)
            title = f"{size(site.kernel)} {site.op}"
            kernels[key] = Kernel(f"kernel-{len(kernels)}", title, words.taps_sentence(site), drawn)
        kernel = kernels[key]
        kernel.layers += 1
        kernel.wasted += site.macs - site.useful_macs
        layers.append(
            Layer(
                site=site,
                done=report,
                kernel=kernel,
                number=number,
                useful=_percent(site.useful_macs, longest),
                wasted=_percent(site.macs - site.useful_macs, longest),
                operator=f"{site.op} → {report.becomes}" if report and report.becomes != site.op else site.op,
                taps=_marks(site),
                more=words.more(site),
            )
        )
    wasted = audit.totals.macs - audit.totals.useful_macs
    for kernel in kernels.values():
        part = kernel.wasted / wasted if wasted else 0.0
        kernel.share = share(kernel.wasted, wasted) if part >= 0.0005 else "under 0.1 %" if part else ""
    return sorted(kernels.values(), key=lambda k: (-k.wasted, -k.layers)), layers


def _flat(site: SiteAudit, report: SiteReport | None) -> str | None:
    """What a 3-D kernel is called that has lost its depth and nothing else; None if it has not, or it is not certain."""
    if report is None or not site.op.endswith("3d") or not report.becomes.endswith("2d"):
        return None
    # The rule answers for the first axis in any case: it drops it, or says why it does not.
    first = f"axis {len(site.input_shape) - len(site.kernel)}:"
    kept = any(r.partition(": ")[2].startswith(first) and r.startswith("drop an axis") for r in report.refusal)
    return None if kept or "drop an axis" not in report.rule else f"{size(site.kernel[1:])} {report.becomes}"


def _marks(site: SiteAudit) -> tuple[str, ...]:
    if site.kernel[0] > 9:
        return ()
    live, merged = set(site.live_taps), set(site.merged_taps)
    return tuple("merged" if t in merged else "live" if t in live else "dead" for t in range(site.kernel[0]))


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 3) if whole else 0.0


def _measured(numbers: Mapping[str, Any]) -> list[tuple[str, str, str, float, float, str]]:
    """(what, original, folded, width, width, how they compare), bars in per cent of the longer side."""
    rows = []
    time = numbers["time"]
    low, high = time["spread"]
    rows.append((
        "time of a call", f"{time['original'] * 1e3:.1f} ms", f"{time['folded'] * 1e3:.1f} ms",
        *_pair(time["original"], time["folded"]), f"{time['ratio']:.2f} times as fast ({low:.2f} to {high:.2f})",
    ))  # fmt: skip
    for what, key in (("peak memory above the weights", "peak_memory"), ("weights", "weights")):
        original, folded = numbers[key]["original"], numbers[key]["folded"]
        if original and folded is not None:
            pair = _pair(original, folded)
            rows.append((what, _bytes(original), _bytes(folded), *pair, f"{folded / original:.0%}"))
    return rows


def _bytes(number: float) -> str:
    text = count(number)
    return f"{text}B" if " " in text else f"{text} B"


def _pair(original: float, folded: float) -> tuple[float, float]:
    longer = max(original, folded)
    return _percent(original, longer), _percent(folded, longer)
