"""Where commands write: results to the standard output, what is going on to the standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status
from rich.text import Text

from flatconv.errors import InputError, plain
from flatconv.report.terminal import PIPE

# A pipe has no width of its own: wide enough for the tables.
out = Console(width=None if sys.stdout.isatty() else PIPE)
err = Console(stderr=True)


class StoppedError(SystemExit):
    """The process was told to stop."""


def step(words: str, work: Callable[[], Any]) -> Any:
    """Do a part of the work that takes a while, and say so.

    A model may print; what is asked for goes to the standard output alone.

    Raises:
        InputError: the model's own code ended the process.
    """
    with _spinner(words), redirect_stdout(sys.stderr):
        try:
            return work()
        except StoppedError:
            raise
        except SystemExit as e:
            raise InputError(f"{words}: the model's own code ended the process (SystemExit: {e.code})") from e


@contextmanager
def progress(words: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, one line elsewhere; what it gives is called after each part."""
    if not err.is_terminal:
        err.print(Text(f"{plain(words)} …"))
        yield lambda: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(plain(words), total=total)
        yield lambda: bar.advance(task)


_shown: list[Status] = []
"""The spinner that is turning, if one is."""


def say(words: str) -> None:
    """Put other words beside the spinner; nothing where there is none."""
    if _shown:
        _shown[-1].update(Text(plain(words)))


@contextmanager
def _spinner(words: str) -> Iterator[None]:
    shown = Text(plain(words))
    if err.is_terminal:
        with err.status(shown) as status:
            _shown.append(status)
            try:
                yield
            finally:
                _shown.remove(status)
    else:
        err.print(shown.append(" …"))
        yield
