"""``flatconv stack``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from flatconv import files
from flatconv.commands import options
from flatconv.commands.console import err, out, progress, step
from flatconv.errors import InputError, plain
from flatconv.inputs import read_pair
from flatconv.report.jsonview import dumps
from flatconv.report.stacking import stack_view, windows_view
from flatconv.stack import Stack, Window
from flatconv.stack import stack as make_stack

SHOWN = 4
"""Windows in the table."""
FORMATS = ("safetensors", "npy")


def stack(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A folder of pictures or DICOM, a picture, video, .nii, .tif or array."),
    ],
    how: Annotated[
        str,
        typer.Option(
            "--stack",
            metavar="HOW",
            help="single; time:16,stride=1,step=16,edge=drop; slices:5,edge=replicate; bands; pyramid:4; bracket:5. "
            "edge is pad, drop, replicate, reflect or error.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Where the windows go, one file each.")
    ] = None,
    size: options.Size = None,
    channels: options.Channels = None,
    scale: Annotated[
        str | None,
        typer.Option(metavar="signed|unit|stored", help="Values in [-1, 1], in [0, 1] or as they are."),
    ] = None,
    sizes: Annotated[
        str, typer.Option(metavar="error|resize|crop", help="What to do about frames of different sizes.")
    ] = "error",
    patches: Annotated[str | None, typer.Option(metavar="HxW", help="Cut frames into patches.")] = None,
    overlap: Annotated[str, typer.Option(metavar="HxW", help="What patches share.")] = "0",
    layout: options.Layout = None,
    truncated: Annotated[
        str, typer.Option(metavar="error|keep", help="What to do about a video that ends too early.")
    ] = "error",
    gaps: Annotated[str, typer.Option(metavar="error|keep", help="What to do about missing slices.")] = "error",
    series: Annotated[str | None, typer.Option(help="Which DICOM series, by number or UID.")] = None,
    modality: Annotated[str | None, typer.Option(help="Refuse DICOM of any other, such as CT.")] = None,
    volume: Annotated[int | None, typer.Option(help="Which volume of a NIfTI file, from 0.")] = None,
    format_: Annotated[str, typer.Option("--format", metavar="safetensors|npy", help="Of the files.")] = "safetensors",
    dry_run: options.DryRun = False,
    force: options.Force = False,
    json_: options.Json = False,
) -> None:
    """Make depth from images: windows of shape 1xCxDxHxW, one file each, float32.

    A .safetensors file holds the window under the name 'x'. stack.json says which frames are in which file.
    """
    if format_ not in FORMATS:
        raise InputError(f"--format is '{format_}'; it may be {' or '.join(FORMATS)}")
    if output is not None and not dry_run:
        files.check_folder(output, force=force)
    cut = None if patches is None else read_pair(patches, "--patches")
    made: Stack = step(
        f"looking at {source}",
        lambda: make_stack(
            source, how, layout=layout, size=None if size is None else read_pair(size, "--size"), channels=channels,
            scale=scale, sizes=sizes, patches=cut, overlap=read_pair(overlap, "--overlap"), truncated=truncated, gaps=gaps,
            series=series, modality=modality, volume=volume,
        ),
    )  # fmt: skip
    table = _table(made, format_)
    if output is not None and not dry_run:
        _write(made, output, format_, table, force)
    if json_:
        sys.stdout.write(dumps(table) + "\n")
    else:
        out.print(stack_view(made.summary()))
        out.print(_windows(made, format_))
    if output is not None and not dry_run:
        err.print(Text(f"Wrote {len(made)} windows and stack.json to {plain(output)}"))
    elif output is None:
        err.print(Text("Nothing was written: -o FOLDER says where"))


def _table(made: Stack, kind: str) -> dict[str, Any]:
    """The stack in numbers, and the frames of each window."""
    found = made.summary().to_dict()
    found["files"] = [{"file": _file(w, kind), "frames": frames, "patch": patch} for w, frames, patch in made.plan()]
    return found


def _windows(made: Stack, kind: str) -> Any:
    plan = list(made.plan())
    chosen = plan if len(plan) <= SHOWN + 1 else [*plan[:SHOWN], plan[-1]]
    rows = [(index, frames, patch, _file(index, kind)) for index, frames, patch in chosen]
    return windows_view(rows, len(plan), made.source.label)


def _file(index: int, kind: str) -> str:
    return f"window-{index:06d}.{kind}"


def _write(made: Stack, output: Path, kind: str, table: dict[str, Any], force: bool) -> None:
    with files.folder(output, force=force) as folder, progress("stacking", len(made)) as done:
        for window in made:
            _save(window, folder / _file(window.index, kind), kind)
            done()
        (folder / "stack.json").write_text(dumps(table) + "\n", encoding="utf-8")


def _save(window: Window, path: Path, kind: str) -> None:
    if kind == "npy":
        import numpy as np

        np.save(path, window.data.numpy(), allow_pickle=False)
        return
    from safetensors.torch import save

    shown = " ".join("zeros" if f is None else str(f) for f in window.frames)
    path.write_bytes(save({"x": window.data}, metadata={"frames": shown, "layout": "NCDHW", "made by": "flatconv"}))
