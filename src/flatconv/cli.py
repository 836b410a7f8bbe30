"""The command line: parses, calls the API, prints; nothing else."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.console import Console
from rich.text import Text
from torch import nn

from flatconv import __version__, files, inputs, measure
from flatconv.audit import audit as run_audit
from flatconv.errors import FlatconvError, InputError, plain
from flatconv.fold import fold as run_fold
from flatconv.lower import Weights
from flatconv.module import Folded
from flatconv.report.jsonview import dumps
from flatconv.report.terminal import PIPE, audit_view, count, fold_view
from flatconv.signature import method_of
from flatconv.spec import load_model

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Run networks with 3-D convolutions on 2-D images at the cost of 2-D ones, and show why that is right.",
)
# A pipe has no width of its own: wide enough for the tables.
out = Console(width=None if sys.stdout.isatty() else PIPE)
err = Console(stderr=True)

Spec = Annotated[
    str, typer.Argument(metavar="SPEC", help="package.module:factory, path/to/file.py:factory, model.pt2 or model.pt.")
]
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
Trust = Annotated[
    bool, typer.Option("--trust", help="Open files that can run any code as you: .pt2, .pt, .bin, .ckpt.")
]
State = Annotated[str | None, typer.Option("--state", metavar="FILE", help="Weights for the model: .safetensors.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.command()
def audit(
    spec_: Spec,
    input_: Input = None,
    image: Image = None,
    method: Method = "forward",
    trust: Trust = False,
    state: State = None,
    json_: Json = False,
) -> None:
    """Show which taps of each 3-D kernel meet data, and what the others cost."""
    args, kwargs = inputs.read_inputs(input_ or (), image)
    model = _step(f"building {spec_}", lambda: load_model(spec_, trust, state))
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
    trust: Trust = False,
    state: State = None,
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
    args, kwargs = inputs.read_inputs(input_ or (), image)
    model = _step(f"building {spec_}", lambda: load_model(spec_, trust, state))
    dynamic = not static
    doing = "folding and verifying" if verify else "folding"
    flat = _step(
        doing, lambda: run_fold(model, args, kwargs, method=method, dynamic=dynamic, weights=kind, verify=verify)
    )
    numbers: dict[str, Any] = {}
    if timed:
        numbers = _step(
            "measuring both sides",
            lambda: _measure(model, flat, args, kwargs, method, _arguments(spec_, input_, image, method, trust, state)),
        )
    if json_:
        sys.stdout.write(dumps(flat.report.to_dict() | ({"measured": numbers} if numbers else {})) + "\n")
    else:
        out.print(audit_view(flat.report.audit, out.width))
        out.print(fold_view(flat.report))
        _print_measured(numbers)
    if output is not None and not dry_run:
        written = _step("writing", lambda: _write(output, force, model, flat, args, kwargs, method, numbers, image))
        err.print(Text(f"Wrote {', '.join(written)} to {plain(output)}"))


@app.command(hidden=True)
def peak(
    spec_: Spec,
    input_: Input = None,
    image: Image = None,
    method: Method = "forward",
    side: Literal["original", "folded"] = "original",
    threads: int = 0,
    trust: Trust = False,
    state: State = None,
) -> None:
    """Print the peak memory of one call in this process, for --measure."""
    if threads:
        torch.set_num_threads(threads)
    args, kwargs = inputs.read_inputs(input_ or (), image)
    model = load_model(spec_, trust, state)
    if side == "folded":
        called: Any = run_fold(model, args, kwargs, method=method, verify=False)
        del model
        gc.collect()
    else:
        called = method_of(model, method)
    print(json.dumps(measure.peak_memory(lambda: called(*args, **kwargs))))


@app.command()
def version() -> None:
    """Print the versions of flatconv and torch."""
    print(f"flatconv {__version__}, torch {torch.__version__}")


def _arguments(
    spec_: str, sizes: list[str] | None, image: str | None, method: str, trust: bool, state: str | None
) -> list[str]:
    """The same model and call, for another process."""
    given = [spec_, "--method", method, *(a for s in sizes or [] for a in ("--input", s))]
    given += [*(["--image", image] if image else []), *(["--state", state] if state else [])]
    return [*given, *(["--trust"] if trust else [])]


def _measure(
    model: nn.Module,
    flat: Folded,
    args: list[torch.Tensor],
    kwargs: dict[str, torch.Tensor],
    method: str,
    arguments: list[str],
) -> dict[str, Any]:
    called = method_of(model, method)
    timed = measure.timing(lambda: called(*args, **kwargs), lambda: flat(*args, **kwargs))
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
        out.print(Text(line))


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
        code = "\n".join(plain(line) for line in flat.code.split("\n"))
        (folder / "folded.py.txt").write_text(code, encoding="utf-8")
        if image is not None:
            from flatconv.report.pictures import side_by_side

            called = method_of(model, method)
            with torch.no_grad():
                pictures = [inputs.as_picture(v) for v in (args[0], called(*args, **kwargs), flat(*args, **kwargs))]
            if all(p is not None for p in pictures):
                side_by_side(pictures).save(folder / "compare.png")
        return sorted(p.name for p in folder.iterdir())


@contextmanager
def _spinner(words: str) -> Iterator[None]:
    shown = Text(plain(words))
    if err.is_terminal:
        with err.status(shown):
            yield
    else:
        err.print(shown.append(" …"))
        yield


def _step(words: str, work: Any) -> Any:
    # A model may print; what is asked for goes to the standard output alone.
    with _spinner(words), redirect_stdout(sys.stderr):
        try:
            return work()
        except _StoppedError:
            raise
        except SystemExit as e:
            raise InputError(f"{words}: the model's own code ended the process (SystemExit: {e.code})") from e


class _StoppedError(SystemExit):
    """The process was told to stop."""


@contextmanager
def _stopped_cleanly() -> Iterator[None]:
    """Being told to stop ends the process by way of every ``finally``, so that no temporary stays behind."""

    def stop(number: int, _frame: Any) -> None:
        raise _StoppedError(128 + number)

    numbers = [getattr(signal, n) for n in ("SIGTERM", "SIGHUP") if hasattr(signal, n)]
    try:
        before = {n: signal.signal(n, stop) for n in numbers if signal.getsignal(n) == signal.SIG_DFL}
    except ValueError:  # only the main thread can
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors become sentences and exit codes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without our signs is told their numbers
    try:
        with _stopped_cleanly():
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
    err.print(Text(f"error: {plain(words)}", style="bold red"))
    raise SystemExit(code)


if __name__ == "__main__":
    main()
