"""``flatconv study``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from flatconv import files
from flatconv.commands import options
from flatconv.commands.console import err, out
from flatconv.errors import InputError, plain
from flatconv.findings import Study


def study(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the report goes.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="The short form, to see that it works; its verdicts mean nothing.")
    ] = False,
    only: Annotated[str | None, typer.Option(metavar="KEYS", help="Some claims only, such as C1,C5.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 2,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted study in the folder.")] = False,
    force: options.Force = False,
    json_: options.Json = False,
) -> None:
    """Put the claims about 3-D kernels on 2-D images to the test, and write one report.

    study.html, study.md, study.json and the figures. In full it takes most of an hour on two cores.
    """
    from flatconv.report import study as report
    from flatconv.study import run, saved

    if resume and force:
        raise InputError("--resume keeps what is in the folder and --force replaces it: leave one of them out")
    files.check_folder(output, force=force or resume)
    # A resume where nothing was begun is a beginning.
    begun = resume and (output / saved.NAME).exists()
    earlier = saved.read(output / saved.NAME) if begun else None
    kept: list[Study] = []

    def keep(so_far: Study) -> None:
        with files.folder(output, force=True) as folder:
            (folder / saved.NAME).write_text(saved.text(so_far), encoding="utf-8")
        kept.append(so_far)

    keys = [key for key in (only or "").split(",") if key.strip()]
    try:
        with _told() as progress:
            found = run.run(quick=quick, only=keys, threads=threads, earlier=earlier, progress=progress, keep=keep)
    except KeyboardInterrupt:
        held = kept[-1] if kept else earlier
        if held is None:
            err.print(Text("error: interrupted, nothing was written", style="bold red"))
        else:
            done = ", ".join(e.claim.key for e in held.entries)
            err.print(Text(f"Interrupted. Kept in {plain(output / saved.NAME)}: {done}. --resume goes on from there."))
        raise SystemExit(130) from None
    with files.folder(output, force=True) as folder:
        (folder / saved.NAME).write_text(saved.text(found), encoding="utf-8")
        report.write(folder, found)
    if json_:
        sys.stdout.write(saved.text(found))
    else:
        out.print(report.view(found))
    err.print(Text(f"Wrote study.html, study.md, study.json and the figures to {plain(output)}"))


@contextmanager
def _told() -> Iterator[Callable[[str], None]]:
    """On a terminal one line that changes; elsewhere a line for each claim."""
    if err.is_terminal:
        with err.status("study") as status:
            yield lambda words: status.update(Text(plain(words)))
        return
    last = ""

    def line(words: str) -> None:
        nonlocal last
        claim = words.partition(":")[0]
        if claim != last:
            err.print(Text(f"{plain(words)} …"))
        last = claim

    yield line
