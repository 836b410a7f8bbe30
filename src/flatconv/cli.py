"""The command line: which commands there are, and how errors become sentences and exit codes."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import typer
from rich.text import Text

from flatconv import __version__
from flatconv.commands.audit import audit
from flatconv.commands.bench import bench
from flatconv.commands.console import StoppedError, err
from flatconv.commands.fold import fold
from flatconv.commands.peak import peak
from flatconv.commands.stack import stack
from flatconv.commands.study import study
from flatconv.errors import FlatconvError, plain

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Run networks with 3-D convolutions on 2-D images at the cost of 2-D ones, and show why that is right.",
)
app.command()(audit)
app.command()(fold)
app.command()(bench)
app.command()(stack)
app.command()(study)
app.command(hidden=True)(peak)


@app.command()
def version() -> None:
    """Print the versions of flatconv and torch."""
    print(f"flatconv {__version__}, torch {torch.__version__}")


@contextmanager
def _stopped_cleanly() -> Iterator[None]:
    """Being told to stop ends the process by way of every ``finally``, so that no temporary stays behind."""

    def stop(number: int, _frame: Any) -> None:
        raise StoppedError(128 + number)

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
