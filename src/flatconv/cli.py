"""The command line: parses, calls the API, prints; nothing else."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.console import Console
from torch import nn

from flatconv import __version__, files, measure, spec
from flatconv.audit import audit as run_audit
from flatconv.errors import FlatconvError, InputError
from flatconv.fold import fold as run_fold
from flatconv.lower import Weights
from flatconv.module import Folded
from flatconv.report.jsonview import dumps
from flatconv.report.terminal import PIPE, audit_view, clean, count, fold_view

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Run networks with 3-D convolutions on 2-D images at the cost of 2-D ones, and show why that is right.",
)
# A pipe has no width of its own: wide enough for the tables.
out = Console(width=None if sys.stdout.isatty() else PIPE)
err = Console(stderr=True)

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="package.module:factory, or path/to/file.py:factory.")]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="SIZES",
        help="Example input, such as 1x3x1x256x256, x=1x3x1x64x64 or 1x77:int64. Repeat for more.",
    ),
]
Image = Annotated[
    str | None, typer.Option("--image", metavar="FILE", help="A picture as the input, 1x3x1xHxW in [-1, 1].")
]
Method = Annotated[str, typer.Option(help="The method to call: forward, encode, decode, …")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.command()
def audit(
    spec_: Spec, input_: Input = None, image: Image = None, method: Method = "forward", json_: Json = False
) -> None:
    """Show which taps of each 3-D kernel meet data, and what the others cost."""
    model = _step(f"building {spec_}", lambda: spec.load_model(spec_))
    args, kwargs = _inputs(input_, image)
    found = _step("capturing and analysing", lambda: run_audit(model, args, kwargs, method=method))
    if json_:
        sys.stdout.write(found.to_json() + "\n")
    else:
        out.print(audit_view(found, out.width))


@app.command()
def fold(
    spec_: Spec,
    input_: Input = None,
    image: Image = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Where the results go.")
    ] = None,
    method: Method = "forward",
    weights: Annotated[
        str, typer.Option(help="folded: new weights of lower rank; shared: the original's own.")
    ] = "folded",
    static: Annotated[bool, typer.Option("--static", help="Fix batch, height and width too.")] = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Compare with the original.")] = True,
    timed: Annotated[bool, typer.Option("--measure", help="Time both sides, and measure their peak memory.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite earlier results.")] = False,
    json_: Json = False,
) -> None:
    """Rewrite the model so that only the useful part is paid for, and check the rewrite.

    Exit codes: 0 done; 2 wrong usage or input; 3 the model was refused; 4 verification failed, nothing written.
    """
    kind: Weights = "shared" if weights == "shared" else "folded"
    if kind != weights:
        raise InputError(f"--weights is '{weights}'; it may be folded or shared")
    if output is not None and not dry_run:
        files.check_folder(output, force=force)
    model = _step(f"building {spec_}", lambda: spec.load_model(spec_))
    args, kwargs = _inputs(input_, image)
    dynamic = not static
    doing = "folding and verifying" if verify else "folding"
    flat = _step(
        doing, lambda: run_fold(model, args, kwargs, method=method, dynamic=dynamic, weights=kind, verify=verify)
    )
    numbers: dict[str, Any] = {}
    if timed:
        numbers = _step(
            "measuring both sides", lambda: _measure(model, flat, args, kwargs, spec_, input_, image, method)
        )
    if json_:
        sys.stdout.write(dumps(flat.report.to_dict() | ({"measured": numbers} if numbers else {})) + "\n")
    else:
        out.print(audit_view(flat.report.audit, out.width))
        out.print(fold_view(flat.report))
        _print_measured(numbers)
    if output is not None and not dry_run:
        written = _step("writing", lambda: _write(output, force, model, flat, args, kwargs, method, numbers, image))
        err.print(f"Wrote {', '.join(written)} to {clean(str(output))}", highlight=False)


@app.command(hidden=True)
def peak(
    spec_: Spec,
    input_: Input = None,
    image: Image = None,
    method: Method = "forward",
    side: Literal["original", "folded"] = "original",
    threads: int = 0,
) -> None:
    """Print the peak memory of one call in this process, for --measure."""
    if threads:
        torch.set_num_threads(threads)
    model = spec.load_model(spec_)
    args, kwargs = _inputs(input_, image)
    if side == "folded":
        called: Any = run_fold(model, args, kwargs, method=method, verify=False)
        del model
        gc.collect()
    else:
        called = model if method == "forward" else getattr(model, method)
    print(json.dumps(measure.peak_memory(lambda: called(*args, **kwargs))))


@app.command()
def version() -> None:
    """Print the versions of flatconv and torch."""
    print(f"flatconv {__version__}, torch {torch.__version__}")


def _inputs(sizes: list[str] | None, image: str | None) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    if not sizes and image is None:
        raise InputError("an example input is needed: --input 1x3x1x256x256, or --image FILE")
    args: list[torch.Tensor] = [] if image is None else [spec.read_image(image)]
    kwargs: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    for text in sizes or []:
        name, tensor = spec.parse_input(text, generator)
        if name is None:
            args.append(tensor)
        else:
            kwargs[name] = tensor
    return args, kwargs


def _measure(
    model: nn.Module,
    flat: Folded,
    args: list[torch.Tensor],
    kwargs: dict[str, torch.Tensor],
    spec_: str,
    sizes: list[str] | None,
    image: str | None,
    method: str,
) -> dict[str, Any]:
    called = model if method == "forward" else getattr(model, method)
    timed = measure.timing(lambda: called(*args, **kwargs), lambda: flat(*args, **kwargs))
    arguments = [spec_, "--method", method, *(a for s in sizes or [] for a in ("--input", s))]
    arguments += ["--image", image] if image else []
    return {
        "time": dataclasses.asdict(timed),
        "peak_memory": {side: measure.peak_in_process(arguments, side) for side in ("original", "folded")},
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
        out.print(line, highlight=False, markup=False)


def _write(
    output: Path,
    force: bool,
    model: nn.Module,
    flat: Folded,
    args: list[torch.Tensor],
    kwargs: dict[str, torch.Tensor],
    method: str,
    numbers: dict[str, Any],
    image: str | None,
) -> list[str]:
    with files.folder(output, force=force) as folder:
        flat.save(folder / "folded.pt2")
        flat.save_weights(folder / "folded.safetensors")
        report = flat.report.to_dict() | ({"measured": numbers} if numbers else {})
        (folder / "report.json").write_text(dumps(report) + "\n", encoding="utf-8")
        (folder / "report.txt").write_text(f"{flat.report.audit}\n\n{flat.report}\n", encoding="utf-8")
        (folder / "folded.py.txt").write_text(flat.code, encoding="utf-8")
        if image is not None:
            from flatconv.report.pictures import side_by_side

            called = model if method == "forward" else getattr(model, method)
            with torch.no_grad():
                pictures = [spec.as_picture(v) for v in (args[0], called(*args, **kwargs), flat(*args, **kwargs))]
            if all(p is not None for p in pictures):
                side_by_side(pictures).save(folder / "compare.png")
        return sorted(p.name for p in folder.iterdir())


@contextmanager
def _spinner(words: str) -> Iterator[None]:
    if err.is_terminal:
        with err.status(clean(words)):
            yield
    else:
        err.print(f"{clean(words)} …", highlight=False, markup=False)
        yield


def _step(words: str, work: Any) -> Any:
    with _spinner(words):
        return work()


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors become sentences and exit codes."""
    try:
        app(arguments, standalone_mode=True)
    except FlatconvError as e:
        _fail(str(e), e.exit_code, e)
    except KeyboardInterrupt:
        _fail("interrupted, nothing was written", 130, None)
    except MemoryError as e:
        _fail("out of memory: use a smaller --input, or --no-verify, which needs less", 2, e)
    except Exception as e:
        text = (
            f"unexpected {type(e).__name__}: {str(e)[:500]}. This is a bug in flatconv: "
            "please report it with what is printed when FLATCONV_TRACEBACK=1 is set"
        )
        _fail(text, 1, e)


def _fail(words: str, code: int, error: BaseException | None) -> None:
    if error is not None and os.environ.get("FLATCONV_TRACEBACK"):
        traceback.print_exception(error)
    err.print(f"error: {clean(words)}", style="bold red", highlight=False, markup=False)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
