"""``flatconv fold``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.text import Text
from torch import nn

from flatconv import files, inputs, measure, runtimes
from flatconv.commands import options
from flatconv.commands.call import Call, Example
from flatconv.commands.console import err, out, say, step
from flatconv.deploy import EXTRA, SUFFIXES
from flatconv.errors import InputError, plain
from flatconv.fold import fold as run_fold
from flatconv.lower import Weights
from flatconv.module import Folded
from flatconv.onnx_in import OnnxModel
from flatconv.report.jsonview import dumps
from flatconv.report.stacking import stack_view
from flatconv.report.terminal import audit_view, count, fold_view
from flatconv.signature import method_of
from flatconv.tune import Tuning


def fold(
    spec: options.Spec,
    input_: options.Input = None,
    image: options.Image = None,
    images: options.Images = None,
    how: options.How = None,
    size: options.Size = None,
    channels: options.Channels = None,
    layout: options.Layout = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER|FILE",
            help="Where the results go; the fold alone as a FILE.onnx or FILE.pt2.",
        ),
    ] = None,
    method: options.Method = "forward",
    weights: Annotated[
        str, typer.Option(help="folded: new weights of lower rank; shared: the original's own.")
    ] = "folded",
    trust: options.Trust = False,
    state: options.State = None,
    rank4: Annotated[
        bool, typer.Option("--rank4", help="No tensor of rank above four, or the reasons; files take the lower rank.")
    ] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write folded.onnx too, run in ONNX Runtime before.")] = False,
    static: Annotated[bool, typer.Option("--static", help="Fix batch, height and width too.")] = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Compare with the original.")] = True,
    tune: Annotated[
        bool, typer.Option("--tune/--no-tune", help="Time the exact forms and take the fastest, or a fixed choice.")
    ] = True,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Where the model will run: eager, compile (torch.compile), onnxruntime, openvino; or onnx for any runtime of "
            "ONNX files, untimed, which --onnx implies."
        ),
    ] = None,
    budget: Annotated[float, typer.Option(metavar="SECONDS", help="Time for choosing, about.")] = 30.0,
    more_memory: Annotated[
        bool, typer.Option("--more-memory", help="Allow forms that hold more at once than the original.")
    ] = False,
    timed: Annotated[bool, typer.Option("--measure", help="Time both sides, and measure their peak memory.")] = False,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    json_: options.Json = False,
) -> None:
    """Rewrite the model so that only the useful part is paid for, and check the rewrite.

    Exit codes: 0 done; 2 wrong usage or input; 3 the model was refused; 4 verification failed, nothing written.
    """
    kind: Weights = "shared" if weights == "shared" else "folded"
    if kind != weights:
        raise InputError(f"--weights is '{weights}'; it may be folded or shared")
    alone = output is not None and output.suffix in SUFFIXES
    to_onnx = output is not None and output.suffix == ".onnx"
    choice: bool | Tuning = False
    if rank4 and engine not in (None, "onnx"):
        raise InputError(f"--engine is '{engine}', and --rank4 takes the forms of onnx: leave one of them out")
    if tune:
        choice = Tuning(engine or ("onnx" if onnx or to_onnx else "eager"), budget, more_memory, progress=say)  # type: ignore[arg-type]
    if onnx:
        if output is None or alone:
            raise InputError("--onnx writes a file beside others: -o FOLDER")
        runtimes.require("onnx", "onnxruntime", extra=EXTRA)
    if output is not None and not dry_run:
        (files.check_file if alone else files.check_folder)(output, force=force)
    call = Call(spec, input_, image, images, how, size, channels, layout, method, trust, state)
    args, kwargs = call.example()
    model = call.model()
    dynamic = not static
    doing = "folding, choosing forms" if tune else "folding"
    doing += " and verifying" if verify else ""
    flat = step(
        doing,
        lambda: run_fold(
            model, args, kwargs, method=method, dynamic=dynamic, weights=kind, rank4=rank4, tune=choice, verify=verify
        ),
    )
    numbers: dict[str, Any] = {}
    if timed:
        numbers = step(
            "measuring both sides", lambda: _measure(model, flat, (args, kwargs), call, budget if tune else 0.0)
        )
    more = {"measured": numbers} if numbers else {}
    if call.stack is not None:
        more["stack"] = call.stack.summary().to_dict()
    if json_:
        sys.stdout.write(dumps(flat.report.to_dict() | more) + "\n")
    else:
        if call.stack is not None:
            out.print(stack_view(call.stack.summary()))
        out.print(audit_view(flat.report.audit, out.width))
        out.print(fold_view(flat.report))
        _print_measured(numbers)
    if output is not None and not dry_run and alone:
        made = step("writing", lambda: flat.export(output, force=force, names=_names(model)))
        ran = "; ".join(f"{name}: {apart:.1e} from the fold" for name, apart in made.differences.items())
        err.print(Text(f"Wrote {plain(output)}, which was run before. {ran}"))
    elif output is not None and not dry_run:
        written = step("writing", lambda: _write(output, force, model, flat, (args, kwargs), call, more, onnx))
        err.print(Text(f"Wrote {', '.join(written)} to {plain(output)}"))


def _names(model: nn.Module) -> tuple[list[str], list[str]] | None:
    """Those of the ONNX file that a model was read from, so that the new file can stand in its place."""
    if not isinstance(model, OnnxModel):
        return None
    return [g.name for g in model.graph.inputs], [g.name for g in model.graph.outputs]


def _measure(model: nn.Module, flat: Folded, example: Example, call: Call, budget: float) -> dict[str, Any]:
    args, kwargs = example
    called = method_of(model, call.method)
    asked = [*call.arguments(), *(["--budget", str(budget)] if budget else [])]
    timed = measure.timing(lambda: called(*args, **kwargs), lambda: flat(*args, **kwargs))
    return {
        "time": dataclasses.asdict(timed),
        "peak_memory": {side: measure.peak_in_process(asked, side) for side in ("original", "folded")},
        "weights": {"original": measure.weight_bytes(model), "folded": measure.weight_bytes(flat)},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _print_measured(numbers: dict[str, Any]) -> None:
    if not numbers:
        return
    t = numbers["time"]
    low, high = t["spread"]
    lines = [
        f"Time of a call, {numbers['threads']} threads: original {t['original'] * 1e3:.1f} ms, "
        f"folded {t['folded'] * 1e3:.1f} ms: {t['ratio']:.2f} times "
        f"(middle half of {t['rounds']} rounds: {low:.2f} to {high:.2f})."
    ]
    memory = numbers["peak_memory"]
    if memory["original"] and memory["folded"]:
        part = memory["folded"] / memory["original"]
        lines.append(
            f"Peak memory above the weights: original {count(memory['original'])}B, "
            f"folded {count(memory['folded'])}B ({part:.0%})."
        )
    weights = numbers["weights"]
    part = weights["folded"] / max(weights["original"], 1)
    lines.append(f"Weights: original {count(weights['original'])}B, folded {count(weights['folded'])}B ({part:.0%}).")
    for line in lines:
        out.print(Text(line))


def _write(
    output: Path,
    force: bool,
    model: nn.Module,
    flat: Folded,
    example: Example,
    call: Call,
    more: dict[str, Any],
    onnx: bool,
) -> list[str]:
    args, kwargs = example
    with files.folder(output, force=force) as folder:
        flat.save(folder / "folded.pt2")
        flat.save_weights(folder / "folded.safetensors")
        if onnx:
            written = flat.export(folder / "folded.onnx", names=_names(model))
            more = more | {"onnx": {"differences": dict(written.differences), "unread": dict(written.unread)}}
        report = flat.report.to_dict() | more
        (folder / "report.json").write_text(dumps(report) + "\n", encoding="utf-8")
        (folder / "report.txt").write_text(f"{flat.report.audit}\n\n{flat.report}\n", encoding="utf-8")
        flat.report.to_html(folder / "report.html", measured=more.get("measured"))
        code = "\n".join(plain(line) for line in flat.code.split("\n"))
        (folder / "folded.py.txt").write_text(code, encoding="utf-8")
        if call.image is not None:
            from flatconv.report.pictures import side_by_side

            called = method_of(model, call.method)
            with torch.no_grad():
                pictures = [inputs.as_picture(v) for v in (args[0], called(*args, **kwargs), flat(*args, **kwargs))]
            if all(p is not None for p in pictures):
                side_by_side(pictures).save(folder / "compare.png")
        return sorted(p.name for p in folder.iterdir())
