"""Two ways to read ONNX files, on the same files: flatconv's own, and the converter onnx2torch.

    python benchmarks/onnx_in.py --json benchmarks/results/onnx_in.json

The files are what torch.onnx writes for the small forms of the zoo (float32), with its newer exporter and, where it can, its
older one, and what Keras wrote through TensorFlow (``tests/onnx_in/files``). Each way must read a file, compute what ONNX
Runtime computes from it, and give a module that folds. onnx2torch is no dependency of flatconv: pip install onnx2torch.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import flatconv
import harness
from flatconv import onnx_in, runtimes
from flatconv.bench import machine
from zoo_networks import entries

FILES = Path(__file__).resolve().parent.parent / "tests/onnx_in/files"
OPSET = 17
"""Of the older exporter."""

File = tuple[str, Path, tuple[Tensor, ...]]
Numbers = dict[str, Any]


def own(path: Path) -> nn.Module:
    return onnx_in.load(path)


def converter(path: Path) -> nn.Module:
    module: nn.Module = _onnx2torch().convert(str(path)).eval()
    return module


def _onnx2torch() -> Any:
    """It imports torchvision for two operators of detectors, which no file here has; not every torch has a build of it."""
    if "onnx2torch" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("onnx2torch")
    made, inner = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    made.ops = inner  # type: ignore[attr-defined]
    inner.roi_align = None  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": made, "torchvision.ops": inner}
    try:
        return importlib.import_module("onnx2torch")
    finally:
        del sys.modules["torchvision"], sys.modules["torchvision.ops"]  # others look whether it is there


WAYS: dict[str, Callable[[Path], nn.Module]] = {"flatconv": own, "onnx2torch": converter}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    parser.add_argument("--only", action="append", metavar="WORD", help="networks whose names hold this")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    harness.pin()
    console = Console(width=150)
    rows: dict[str, dict[str, Numbers]] = {}
    with tempfile.TemporaryDirectory(prefix="flatconv-onnx-") as folder:
        for name, path, example in files(Path(folder), arguments.only):
            rows[name] = {way: tried(read, path, example) for way, read in WAYS.items()}
            words = "; ".join(f"{way} {outcome(numbers)}" for way, numbers in rows[name].items())
            console.print(f"{name}: {words}", highlight=False, markup=False)
    results = {"environment": machine.environment() | {"onnx2torch": _version()}, "rows": rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(results, console)


def files(folder: Path, only: list[str] | None) -> Iterator[File]:
    """Name, place and inputs of each file, written when it is its turn."""
    for path in sorted(FILES.glob("*.onnx")):
        if not only or any(w.lower() in path.stem for w in only):
            given = onnx_in.load(path).graph.inputs
            yield (
                f"{path.stem}, Keras through TensorFlow",
                path,
                tuple(torch.randn([n or 1 for n in g.shape]) for g in given),
            )
    for entry in entries().values():
        if entry.name.endswith("bfloat16") or (only and not any(w.lower() in entry.name.lower() for w in only)):
            continue
        try:
            case = entry.build(True)
        except ImportError:
            continue
        module = _module(case)
        for kind, options in (("torch.onnx", {}), ("older torch.onnx", {"dynamo": False, "opset_version": OPSET})):
            path = folder / "network.onnx"
            try:
                if options:
                    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                        torch.onnx.export(module, tuple(case.args), path, **options)
                else:
                    runtimes.to_onnx(module, case.args, path)
            except Exception:
                continue
            yield f"{entry.name}, {kind}", path, tuple(case.args)


def _module(case: Any) -> nn.Module:
    """The call of a case as a module that returns plain tensors."""

    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = case.model

        def forward(self, *args: Tensor) -> Any:
            found = getattr(self.model, case.method)(*args)
            if hasattr(found, "latent_dist"):
                return found.latent_dist.parameters
            return getattr(found, "sample", found)

    return Called().eval()


def tried(read: Callable[[Path], nn.Module], path: Path, example: tuple[Tensor, ...]) -> Numbers:
    """How far one way gets with one file."""
    found: Numbers = {"reads": False, "apart": None, "right": False, "folds": False, "seconds": None, "why_not": ""}
    try:
        begun = time.perf_counter()
        model = read(path)
        found |= {"reads": True, "seconds": time.perf_counter() - begun}
        wanted = runtimes.onnxruntime(path, example)()
        with torch.no_grad():
            made = model(*example)
        made = made if isinstance(made, tuple) else (made,)
        apart = max(runtimes.apart(a, b) for a, b in zip(made, wanted, strict=True))
        found |= {"apart": apart, "right": apart <= runtimes.LIMITS[torch.float32]}
        flat = flatconv.fold(model, example, tune=False)
        found |= {"folds": True, "sites": len(flat.report.sites)}
        found["conv3d"] = sum("3d" in s.becomes for s in flat.report.sites)
    except Exception as error:
        found["why_not"] = (
            f"{type(error).__name__}: {(str(error).replace(str(path), 'the file').splitlines() or [''])[0][:200]}"
        )
    return found


def outcome(numbers: Numbers) -> str:
    """In a word."""
    if not numbers["reads"]:
        return "not read"
    if not numbers["right"]:
        return "fails" if numbers["apart"] is None else "WRONG"
    return "folded" if numbers["folds"] else "not folded"


def show(results: Numbers, console: Console) -> None:
    """How many files each way reads, reads rightly, and makes something of that folds."""
    table = Table(title=f"{len(results['rows'])} files", title_justify="left")
    for column in ("way in", "read", "as ONNX Runtime", "otherwise", "folded", "seconds to read, median"):
        table.add_column(column, justify="right" if column != "way in" else "left")
    for way in WAYS:
        of = [row[way] for row in results["rows"].values()]
        table.add_row(
            way,
            *(str(sum(bool(n[key]) for n in of)) for key in ("reads", "right")),
            str(sum(n["apart"] is not None and not n["right"] for n in of)),
            str(sum(n["folds"] for n in of)),
            _seconds(of),
        )
    console.print(table)


def markdown(results: Numbers) -> str:
    """Both ways in numbers, for the documentation."""
    where = results["environment"]
    rows = results["rows"].values()
    lines = [
        f"Measured {where['date'][:10]} on {len(results['rows'])} files that torch.onnx (newer and older) wrote of the zoo and "
        f"that Keras wrote through TensorFlow, with torch {where['torch']} and onnx2torch {where['onnx2torch']}; "
        "`benchmarks/onnx_in.py` makes the figures again.",
        "",
        "| way in | reads | right, as ONNX Runtime | wrong | folds | seconds to read, median |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way in WAYS:
        of = [row[way] for row in rows]
        wrong = sum(n["apart"] is not None and not n["right"] for n in of)
        cells = [sum(bool(n[key]) for n in of) for key in ("reads", "right")]
        lines.append(f"| {way} | {cells[0]} | {cells[1]} | {wrong} | {sum(n['folds'] for n in of)} | {_seconds(of)} |")
    for way in WAYS:
        why: dict[str, int] = {}
        for row in rows:
            if not row[way]["folds"]:
                said = row[way]["why_not"] or "another result than ONNX Runtime's"
                why[said] = why.get(said, 0) + 1
        if why:
            most = sorted(why.items(), key=lambda w: -w[1])[:4]
            lines += ["", f"What stopped {way}: " + "; ".join(f"{said} ({count})" for said, count in most) + "."]
    return "\n".join(lines)


def _seconds(of: list[Numbers]) -> str:
    found = sorted(n["seconds"] for n in of if n["seconds"] is not None)
    return f"{found[len(found) // 2]:.2f}" if found else "–"


def _version() -> str:
    try:
        return version("onnx2torch")
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
