"""One network by every way in and out: errors against float64, and times, in one table.

    python benchmarks/ways.py --json benchmarks/results/ways.json

The image decoder of ``flatconv.examples`` in eager PyTorch, folded, patched in place, compiled by Inductor and by the backend
``flatconv``, and as ONNX files of the original, of the fold and of the fold of rank four in ONNX Runtime and OpenVINO. The
original's file has fixed sizes.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import flatconv
import harness
from flatconv import examples, measure, runtimes
from flatconv.bench import machine

LATENT = (1, 16, 1, 32, 32)


class Decoder(torch.nn.Module):
    """``decode`` as ``forward``, for what knows no other."""

    def __init__(self, vae: torch.nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, z: Tensor) -> Tensor:
        return self.vae.decode(z)


def ways(folder: Path) -> dict[str, Callable[[], Tensor]]:
    """All of them, each as a call."""
    vae = examples.image_vae().eval()
    z = torch.randn(LATENT, generator=torch.Generator().manual_seed(0))
    patched, bare = copy.deepcopy(vae), Decoder(vae)
    flatconv.patch(patched, {"decode": (z,)})
    flat, compiled = (
        flatconv.fold(vae, (z,), method="decode", tune=flatconv.Tuning(engine)) for engine in ("eager", "compile")
    )
    onnx = flatconv.Tuning("onnx")
    portable = flatconv.fold(vae, (z,), method="decode", tune=onnx, dynamic=False)
    free = flatconv.fold(vae, (z,), method="decode", tune=onnx)
    planar = flatconv.fold(vae, (z,), method="decode", rank4=True, dynamic=False)
    runtimes.to_onnx(bare, (z,), folder / "original.onnx")
    portable.export(folder / "folded.onnx")
    free.export(folder / "folded, free sizes.onnx")
    planar.export(folder / "rank4.onnx")
    compiler = {how: torch.compile(bare, backend=how, dynamic=False) for how in ("inductor", "flatconv")}
    inductor = torch.compile(compiled, dynamic=False)
    found: dict[str, Callable[[], Tensor]] = {
        "original, eager": lambda: vae.decode(z),
        "fold, eager": lambda: flat(z),
        "patched in place, eager": lambda: patched.decode(z),
        "original, torch.compile": lambda: compiler["inductor"](z),
        "original, torch.compile(backend='flatconv')": lambda: compiler["flatconv"](z),
        "fold, torch.compile": lambda: inductor(z),
    }
    for name, run in (("ONNX Runtime", runtimes.onnxruntime), ("OpenVINO (f32)", runtimes.openvino)):
        for file in ("original", "folded", "folded, free sizes", "rank4"):
            given = z.squeeze(2) if file == "rank4" else z
            try:
                call = run(folder / f"{file}.onnx", (given,))
            except ImportError:
                continue
            found[f"{file}, {name}"] = lambda call=call, low=file == "rank4": (
                call()[0].unsqueeze(2) if low else call()[0]
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    arguments = parser.parse_args()
    harness.pin()
    vae = examples.image_vae().double().eval()
    z = torch.randn(LATENT, generator=torch.Generator().manual_seed(0)).double()
    with torch.inference_mode():
        wanted = vae.decode(z)
    with tempfile.TemporaryDirectory(prefix="flatconv-ways-") as folder:
        found = ways(Path(folder))
        with torch.inference_mode():
            errors = {n: harness.relative_error(call(), wanted) for n, call in found.items()}
        taken = dict(zip(found, measure.alternate(list(found.values()), 30.0, least=7, most=30, warmup=2), strict=True))
    first = taken["original, eager"]
    rows: dict[str, Any] = {
        name: {
            "ms": harness.summary([1e3 * s for s in seconds]),
            "original/this": harness.summary([a / b for a, b in zip(first, seconds, strict=True)]),
            "error": errors[name],
        }
        for name, seconds in taken.items()
    }
    results = {
        "environment": machine.environment(),
        "settings": {"latent": LATENT, "threads": harness.THREADS},
        "rows": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    table = Table(title="the decoder of image_vae, one image of 256×256", title_justify="left")
    for column in ("way", "ms", "original, eager / this", "error against float64"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, numbers in rows.items():
        ratio = numbers["original/this"]
        cells = [f"{numbers['ms']['median']:.1f}", f"{ratio['median']:.2f} ({ratio['q1']:.2f}–{ratio['q3']:.2f})"]
        table.add_row(name, *cells, f"{numbers['error']:.1e}")
    Console(width=120).print(table)


def markdown(results: dict[str, Any]) -> str:
    """The figures in Markdown."""
    where = results["environment"]
    lines = [
        f"The decoder of `flatconv.examples.image_vae`, one image of 256×256, measured {where['date'][:10]} on "
        f"{where['processor']}, {results['settings']['threads']} threads, torch {where['torch']}: medians and quartiles of "
        "calls in turns; errors are root mean squares against float64, over that of the result. `benchmarks/ways.py` makes "
        "them again.",
        "",
        "| way | time | original in eager / this | error |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, numbers in results["rows"].items():
        ratio = numbers["original/this"]
        cells = [f"{numbers['ms']['median']:.1f} ms", f"{ratio['median']:.2f} ({ratio['q1']:.2f}–{ratio['q3']:.2f})"]
        lines.append(f"| {name} | {' | '.join(cells)} | {numbers['error']:.1e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
