"""Writes the measured figures into the README and the documents, from the JSON of the last run of each benchmark.

python benchmarks/readme.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx_in
import patch
import training
import ways
import zoo

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "bench": "fold.json", "zoo": "zoo.json", "gpu": "gpu.json", "onnx": "onnx_in.json", "patch": "patch.json",
    "training": "training.json", "ways": "ways.json",
}  # fmt: skip
PLACES = {
    "README.md": ("bench", "zoo", "gpu"),
    "docs/onnx.md": ("onnx",),
    "docs/patch.md": ("patch", "training", "ways"),
}
ENGINES = {
    "eager": "PyTorch eager",
    "compile": "torch.compile",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO (f32)",
}
NETWORKS = {
    "stack4": "four 64-channel 3×3×3 layers, depth 1, 128×128",
    "qwen_decoder": "Qwen-Image decoder (`base_dim=32`), to 256×256",
}


def main() -> None:
    write = {
        "bench": table, "zoo": zoo.markdown, "gpu": gpu, "onnx": onnx_in.markdown, "patch": patch.markdown,
        "training": training.markdown, "ways": ways.markdown,
    }  # fmt: skip
    for place, names in PLACES.items():
        path = ROOT / place
        text = path.read_text(encoding="utf-8")
        for name in names:
            results = ROOT / "benchmarks/results" / FILES[name]
            if results.exists():
                text = between(text, name, write[name](json.loads(results.read_text(encoding="utf-8"))))
        path.write_text(text, encoding="utf-8")


def between(text: str, name: str, part: str) -> str:
    """The text with another part between the marks of that name."""
    begin, end = f"<!-- {name}:", f"<!-- end of {name} -->"
    head, rest = text.split(begin, 1)
    mark, tail = rest.split("\n", 1)[0], rest.split(end, 1)[1]
    return f"{head}{begin}{mark}\n{part}\n{end}{tail}"


def table(results: dict[str, Any]) -> str:
    """The figures in Markdown."""
    where = results["environment"]
    lines = [
        f"Measured {where['date'][:10]} on {where['cpu']}, {results['settings']['threads']} threads, batch 1, float32, torch "
        f"{where['packages']['torch']}; medians of calls made alternately, ratios with their quartiles. "
        "`make bench` makes them again. Forms of the fold are chosen by timing in the first two engines; by hand is the faster "
        "of two memory formats, which is given and returns tensors in that format, while the fold keeps the original's.",
        "",
        "| network | engine | original | folded | by hand, 2-D | original / folded | folded / by hand |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, network in results["networks"].items():
        for engine, label in ENGINES.items():
            numbers = network["engines"].get(engine, {})
            sides, ratios = numbers.get("sides", {}), numbers.get("ratios", {})
            # Of the forms by hand, the one in the memory format that is faster here.
            hands = {s: sides[s]["ms"]["median"] for s in ("hand", "hand_channels_last") if "ms" in sides.get(s, {})}
            hand = min(hands, key=hands.__getitem__, default="hand")
            times = [_ms(sides.get(s, {})) for s in ("original", "fold", hand)]
            row = [
                NETWORKS[name],
                label,
                *times,
                _ratio(ratios.get("original/fold")),
                _ratio(ratios.get(f"fold/{hand}")),
            ]
            lines.append(f"| {' | '.join(row)} |")
    lines.append("")
    for name, network in results["networks"].items():
        ratios = network["memory_ratios"].get("fold/original", {})
        if ratios:
            peaks = ", ".join(f"{ratios[a]['first_call']['median']:.0%} ({words})" for a, words in ALLOCATORS.items())
            lines.append(
                f"Memory, {NETWORKS[name]}: weights {ratios['weights']:.0%} of the original's; peak of an eager call above the "
                f"weights {peaks}."
            )
    lines += ["", *_fold_time(results), "", *_missed(results)]
    lines += ["", "![Times of both networks in each engine](docs/bench.svg)"]
    return "\n".join(lines).strip()


def gpu(results: dict[str, Any]) -> str:
    """The figures of a GPU in Markdown."""
    where = results["environment"]
    lines = [
        f"Measured {where['date'][:10]} on one {where['GPU']}, torch {where['torch']}, cuDNN's search on, TF32 off, batch 1; "
        "`benchmarks/gpu.py` makes them again. Forms are chosen by timing in eager PyTorch.",
        "",
        "| network | type | engine | original | folded | original / folded | folded / by hand | peak, folded / original |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for network in results["rows"].values():
        for dtype, row in network["dtypes"].items():
            for engine in ("eager", "compile"):
                if engine not in row:
                    continue
                sides, ratios = row[engine]["sides"], row[engine]["ratios"]
                by_hand = [r for r in (ratios.get(f"tuned/{h}") for h in ("hand", "hand_channels_last")) if r]
                hand = max(by_hand, key=lambda r: r["median"], default=None)  # the faster of the two
                peaks = row["eager"].get("peak_memory", {})
                peak = f"{peaks['tuned'] / peaks['original']:.0%}" if engine == "eager" and "tuned" in peaks else "–"
                cells = [network["title"], dtype, ENGINES[engine], _gpu_ms(sides["original"]), _gpu_ms(sides["tuned"])]
                lines.append(f"| {' | '.join([*cells, _ratio(ratios.get('original/tuned')), _ratio(hand), peak])} |")
    if results["left_out"]:
        lines += ["", f"Not measured, for want of time: {'; '.join(results['left_out'])}."]
    return "\n".join(lines)


def _gpu_ms(side: dict[str, Any]) -> str:
    return f"{side['ms']['median']:.3g} ms" if side.get("ms") else "–"


ALLOCATORS = {
    "default": "malloc as it is",
    "returning": "freed tensors returned to the system, MALLOC_MMAP_THRESHOLD_=131072",
}


def _fold_time(results: dict[str, Any]) -> list[str]:
    seconds = results.get("fold_time", {}).get("seconds")
    if not seconds:
        return []
    s = {k: v["median"] for k, v in seconds.items()}
    return [
        f"Time to fold the decoder, unverified: {s['fold']:.1f} s with batch, height and width free (torch.export alone "
        f"{s['export_dynamic']:.1f} s), {s['fold_static']:.1f} s with all sizes fixed (torch.export alone "
        f"{s['export_static']:.1f} s); audit {s['audit']:.1f} s."
    ]


def _missed(results: dict[str, Any]) -> list[str]:
    missed = [t for t in results["targets"] if t["met"] is False]
    if not missed:
        return ["Every target that was set for these figures is met."]
    words = "; ".join(
        f"{t['what']}: {t['measured']['median']:.2f}, asked for {t['sense']} {t['limit']:g}" for t in missed
    )
    return [f"Targets missed: {words}."]


def _ms(side: dict[str, Any]) -> str:
    return f"{side['ms']['median']:.1f} ms" if "ms" in side else "–"


def _ratio(numbers: dict[str, float] | None) -> str:
    return f"{numbers['median']:.2f} ({numbers['q1']:.2f}–{numbers['q3']:.2f})" if numbers else "–"


if __name__ == "__main__":
    main()
