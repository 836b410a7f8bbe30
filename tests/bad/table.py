"""A row of a table of bad inputs, and what has to be true of every row."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flatconv.errors import FlatconvError

CANARY = "canary"
"""What hostile code makes if anything runs it."""
PEAK = 48 << 20
"""Bytes of Python objects that refusing one file may take."""
GROWTH = 256 << 10
"""Kilobytes that the process may grow by meanwhile."""


@dataclass(frozen=True)
class Bad:
    """One bad input.

    Attributes:
        name: of the row.
        given: makes the input; what it takes and returns is said at the top of each table.
        error: the class that is raised, or the exit code.
        words: what the message must hold: what was given, and what to do.
    """

    name: str
    given: Any
    error: type[FlatconvError] | int
    words: tuple[str, ...]


def bad(name: str, given: Any, error: type[FlatconvError] | int, *words: str) -> Bad:
    """A row."""
    return Bad(name, given, error, words)


def rows(table: list[Bad]) -> Callable[[Any], Any]:
    """Run a test with every row of a table."""
    names = [row.name for row in table]
    assert len(set(names)) == len(names), f"two rows of one name: {[n for n in names if names.count(n) > 1]}"
    assert all(row.words for row in table)
    return pytest.mark.parametrize("row", table, ids=names)


def listing(place: Path) -> dict[str, str]:
    """Everything in a folder with its content; pipes, devices and links by what they are."""
    found = {}
    for path in sorted(place.rglob("*")):
        if "__pycache__" in path.parts:
            continue
        if path.is_symlink():
            said = f"-> {os.readlink(path)}"
        elif path.is_file():
            head = path.open("rb").read(1 << 20)
            said = f"{path.stat().st_size} {hashlib.sha256(head).hexdigest()}"
        else:
            said = oct(path.stat().st_mode)
        found[str(path.relative_to(place))] = said
    return found


@contextlib.contextmanager
def nothing_happens(place: Path) -> Iterator[None]:
    """Inside the ``with`` no file appears, changes or goes, and no hostile code runs."""
    before = listing(place)
    assert CANARY not in before
    yield
    assert listing(place) == before


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Neither Python nor the whole process grows by much."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < PEAK
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH


def says(row: Bad, text: str) -> None:
    """The message is one printable sentence with every word that the row asks for."""
    flowing = " ".join(text.split())
    assert flowing.isprintable()
    assert len(flowing) > 20
    assert len(flowing) < 5000
    for word in row.words:
        assert word in flowing, f"{word!r} is not in: {flowing[:1500]}"
    assert "Traceback" not in flowing
    assert "bug in flatconv" not in flowing


def raises(row: Bad, call: Callable[[], object]) -> None:
    """The call raises the row's error, exactly that class and no child of it, and says why."""
    assert isinstance(row.error, type)
    with pytest.raises(FlatconvError) as caught:
        call()
    assert type(caught.value) is row.error, caught.value
    says(row, str(caught.value))
