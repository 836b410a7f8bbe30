"""The times of a benchmark run as bars, one panel a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from flatconv.report import style

ENGINES = {"eager": "PyTorch eager", "compile": "torch.compile", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
STYLES = {
    "original": ("original, 3-D", style.ORIGINAL),
    "fold": ("flatconv.fold", style.FOLDED),
    "hand": ("2-D by hand, the faster layout", style.BY_HAND),
}
WIDTH = 0.27
FLOOR = 0.6  # the bars begin at this part of the smallest time


def draw(results: dict[str, Any], path: Path) -> None:
    """Draws milliseconds per engine and side, on a logarithmic scale, to an SVG file with a white ground."""
    plt.rcParams.update(style.rc())
    found = results["networks"]
    figure, panels = plt.subplots(len(found), 1, figsize=(8.2, 3.3 * len(found) + 0.7), squeeze=False)
    for panel, (name, network) in zip(panels[:, 0], found.items(), strict=True):
        _panel(panel, name, network)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    where = results["environment"]
    figure.legend(handles, labels, loc="upper center", ncols=3)
    threads = results["settings"]["threads"]
    note = (
        f"{where['cpu']}, {threads} threads, batch 1, float32, torch {where['packages']['torch']}, {where['date'][:10]}"
    )
    note += ". In brackets: the original's time over this one's."
    figure.text(0.5, 0.006, note, ha="center", va="bottom", fontsize=7.5, color=style.QUIET)
    figure.tight_layout(rect=(0, 0.03, 1, 0.95))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)


def bars(engine: dict[str, Any]) -> dict[str, tuple[float, float | None] | str]:
    """Milliseconds and speedup of each side of an engine, or why there are none; of the forms by hand the faster."""
    sides = engine.get("sides", {})
    times = {side: form["ms"]["median"] for side, form in sides.items() if "ms" in form}
    hands = sorted((side for side in times if side.startswith("hand")), key=times.__getitem__)
    found: dict[str, tuple[float, float | None] | str] = {}
    for name in STYLES:
        side = hands[0] if name == "hand" and hands else name
        if side in times:
            ratio = engine["ratios"].get(f"original/{side}")
            found[name] = (times[side], ratio["median"] if ratio else None)
        else:
            found[name] = "no result"
    return found


def _panel(panel: Axes, name: str, network: dict[str, Any]) -> None:
    rows = {engine: bars(network["engines"][engine]) for engine in ENGINES}
    times = [bar[0] for row in rows.values() for bar in row.values() if not isinstance(bar, str)]
    low, high = (min(times), max(times)) if times else (1.0, 10.0)
    panel.set_yscale("log")
    panel.set_ylim(FLOOR * low, 2.6 * high)
    for number, (side, (label, mark)) in enumerate(STYLES.items()):
        for place, row in enumerate(rows.values()):
            x, bar = place + (number - 1) * WIDTH, row[side]
            if isinstance(bar, str):
                panel.text(x, FLOOR * low * 1.1, bar, ha="center", va="bottom", rotation=90, fontsize=8)
                continue
            panel.bar(x, bar[0], WIDTH * 0.94, label=label if place == 0 else None, **mark.area())
            speedup = f"\n({bar[1]:.{1 if bar[1] < 9.95 else 0}f}×)" if bar[1] else ""
            panel.text(x, bar[0] * 1.06, f"{bar[0]:.3g}{speedup}", ha="center", va="bottom", fontsize=8)
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_xlim(-0.5, len(rows) - 0.5)
    panel.set_xticks(range(len(rows)), ENGINES.values())
    panel.set_ylabel("ms, log scale (lower is better)")
    panel.set_title(f"{name}: {network['title']}")
    panel.tick_params(axis="x", length=0)
