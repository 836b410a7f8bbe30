"""What patching an autoencoder in place is worth: images before and after, a video between them, time and memory.

    python benchmarks/patch.py --json benchmarks/results/patch.json

Each network is patched with ``flatconv.integrations.diffusers.patch_autoencoder``. Images, a video of nine frames and images
again must come out as from the unpatched model. The model's own method and the patched one alternate in one process, on the
same weights; peak memory is taken in a process for each side.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import harness
from flatconv import measure
from flatconv.bench import machine
from flatconv.integrations.diffusers import patch_autoencoder

SIDE = 256
WAN = {"base_dim": 32, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 1}
HUNYUAN = {
    "block_out_channels": (32, 64, 128, 128), "latent_channels": 16, "layers_per_block": 1, "norm_num_groups": 8,
}  # fmt: skip
NETWORKS = {"AutoencoderKLQwenImage": WAN, "AutoencoderKLWan": WAN, "AutoencoderKLHunyuanVideo": HUNYUAN}
METHODS = ("decode", "encode")
SIDES = ("original", "patched")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    parser.add_argument("--peak", nargs=3, metavar=("NETWORK", "METHOD", "SIDE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    harness.pin()
    if arguments.peak:
        print(json.dumps(peak(*arguments.peak)))
        return
    results = {
        "environment": machine.environment(),
        "settings": {"side": SIDE, "threads": harness.THREADS},
        "rows": {name: row(name) for name in NETWORKS},
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(results["rows"], Console(width=140))


def network(name: str) -> nn.Module:
    """Built without a download; its weights mean nothing."""
    import diffusers

    torch.manual_seed(0)
    vae: nn.Module = getattr(diffusers, name)(**NETWORKS[name]).eval()
    return vae


def given(method: str, frames: int) -> Tensor:
    """A picture, or a latent."""
    noise = torch.Generator().manual_seed(1)
    sizes = (1, 3, frames, SIDE, SIDE) if method == "encode" else (1, 16, 1 + (frames - 1) // 4, SIDE // 8, SIDE // 8)
    return torch.randn(sizes, generator=noise)


def tensor(result: Any) -> Tensor:
    """What a method computes."""
    return result.sample if hasattr(result, "sample") else result.latent_dist.mode()


def row(name: str) -> dict[str, Any]:
    """One network: differences in turns, times, ratios and peaks of both methods."""
    vae = network(name)
    own = {method: getattr(type(vae), method) for method in METHODS}
    turns = {method: [given(method, frames) for frames in (1, 9, 1)] for method in METHODS}
    with torch.inference_mode():
        wanted = {m: [tensor(own[m](vae, x)) for x in turns[m]] for m in METHODS}
    patched = patch_autoencoder(vae, SIDE, SIDE)
    found: dict[str, Any] = {}
    for method in METHODS:
        with torch.inference_mode():
            results = [tensor(getattr(vae, method)(x)) for x in turns[method]]
        x = turns[method][0]
        calls: list[Callable[[], object]] = [
            lambda m=method, x=x: own[m](vae, x),
            lambda m=method, x=x: getattr(vae, m)(x),
        ]
        taken = measure.alternate(calls, 8.0, least=5, most=20)
        peaks = {side: peak_of(name, method, side) for side in SIDES}
        found[method] = {
            "differences": [apart(a, b) for a, b in zip(results, wanted[method], strict=True)],
            "ms": {s: harness.summary([1e3 * t for t in ts]) for s, ts in zip(SIDES, taken, strict=True)},
            "original/patched": harness.summary([a / b for a, b in zip(*taken, strict=True)]),
            "peak": peaks,
            "calls": vars(patched.counts[method]) if method in patched.counts else None,
            "left": patched.left.get(method, ""),
        }
    return found


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference over the largest magnitude."""
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())


def peak_of(name: str, method: str, side: str) -> int | None:
    """Bytes that a call needs, in a new process."""
    command = [sys.executable, __file__, "--peak", name, method, side]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None


def peak(name: str, method: str, side: str) -> int | None:
    """The same in this process."""
    vae, x = network(name), given(method, 1)
    if side == "patched":
        patch_autoencoder(vae, SIDE, SIDE, methods=[method], verify=False)
    with torch.inference_mode():
        getattr(vae, method)(x)
    return measure.peak_memory(lambda: getattr(vae, method)(x))


def markdown(results: dict[str, Any]) -> str:
    """The figures in Markdown."""
    where = results["environment"]
    lines = [
        f"One picture of {SIDE}×{SIDE} (its latent for `decode`), measured {where['date'][:10]} on {where['processor']}, "
        f"{results['settings']['threads']} threads, torch {where['torch']}, eager: medians and quartiles of calls in turns; "
        "peaks above the weights from a process each. `benchmarks/patch.py` makes them again. Differences are of an image, "
        "then a video of nine frames (by the original, on the same weights), then an image, over the largest value.",
        "",
        "| network | method | original | patched | original / patched | peak, patched / original | differences |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, methods in results["rows"].items():
        for method, numbers in methods.items():
            ratio, peaks = numbers["original/patched"], numbers["peak"]
            cells = [
                name,
                method,
                *(f"{numbers['ms'][s]['median']:.0f} ms" for s in SIDES),
                f"{ratio['median']:.2f} ({ratio['q1']:.2f}–{ratio['q3']:.2f})",
                f"{peaks['patched'] / peaks['original']:.0%}" if all(peaks.values()) else "–",
                ", ".join(f"{d:.0e}" for d in numbers["differences"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def show(rows: dict[str, Any], console: Console) -> None:
    """One table."""
    table = Table(title=f"one picture of {SIDE}×{SIDE}, ms: medians", title_justify="left")
    for column in (
        "network",
        "method",
        *SIDES,
        "original / patched",
        "peak, patched / original",
        "differences: image, video, image",
    ):
        table.add_column(column, justify="left" if column in ("network", "method") else "right")
    for name, methods in rows.items():
        for method, numbers in methods.items():
            ratio, peaks = numbers["original/patched"], numbers["peak"]
            table.add_row(
                name,
                method,
                *(f"{numbers['ms'][s]['median']:.0f}" for s in SIDES),
                f"{ratio['median']:.2f} ({ratio['q1']:.2f}–{ratio['q3']:.2f})",
                f"{peaks['patched'] / peaks['original']:.0%}" if all(peaks.values()) else "–",
                ", ".join(f"{d:.0e}" for d in numbers["differences"]),
            )
    console.print(table)


if __name__ == "__main__":
    main()
