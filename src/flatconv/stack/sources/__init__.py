"""Where frames come from, one format a file. ``open_source`` finds the one that fits what was given."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from flatconv.errors import InputError
from flatconv.stack.limits import MAX_FRAMES
from flatconv.stack.sources import arrays, dicom, nifti, pictures, tiff, video
from flatconv.stack.sources.base import Source

READS = (
    "pictures (.png, .jpg, …), video (.mp4, .mkv, …), DICOM (.dcm), NIfTI (.nii, .nii.gz), TIFF (.tif), arrays (.npy, "
    ".safetensors)"
)


def open_source(
    given: Any,
    *,
    layout: str | None = None,
    truncated: str = "error",
    gaps: str = "error",
    series: str | None = None,
    modality: str | None = None,
    volume: int | None = None,
) -> Source:
    """The source that fits.

    Args:
        given: a file, a folder, a list of files, a tensor or array, or a ``Source``.
        layout: of an array; needed there and only there.
        truncated: what is done about a video that ends too early: ``error`` or ``keep``.
        gaps: what is done about missing slices of a DICOM series: ``error`` or ``keep``.
        series: which DICOM series, if there are several.
        modality: of DICOM; anything else is refused.
        volume: which volume of a NIfTI file, if there are several.

    Raises:
        InputError: nothing fits, the source cannot be read, or an option is not for it.
    """
    found = _open(given, layout, truncated, gaps, series, modality, volume)
    _unused(found, layout=layout, series=series, modality=modality, volume=volume)
    return found


def _open(
    given: Any,
    layout: str | None,
    truncated: str,
    gaps: str,
    series: str | None,
    modality: str | None,
    volume: int | None,
) -> Source:
    if isinstance(given, Source):
        return given
    if isinstance(given, Tensor | np.ndarray):
        return arrays.Array(given, layout, "the array")
    if isinstance(given, str | os.PathLike):
        path = _path(given)
        if path.is_dir():
            files, notes = _listed(path)
            found = _files(files, str(path), series, modality, gaps)
            found.notes.extend(notes)
            return found
        if str(path).lower().endswith(nifti.SUFFIXES):
            return nifti.Nifti(path, volume)
        suffix = path.suffix.lower()
        if suffix in tiff.SUFFIXES:
            return tiff.Tiff(path)
        if suffix in video.SUFFIXES:
            return video.Video(path, truncated)
        if suffix in arrays.SUFFIXES:
            return arrays.array_file(path, layout)
        return _files([path], str(path), series, modality, gaps)
    if isinstance(given, Sequence):
        files = [_path(one) for one in given]
        return _files(files, f"{files[0]} and {len(files) - 1} more" if files else "the list", series, modality, gaps)
    raise InputError(f"a file, a folder, a list of files or an array is needed to stack, not {type(given).__name__}")


def _path(given: Any) -> Path:
    try:
        return Path(given)
    except TypeError as e:
        raise InputError(f"a list to stack holds names of files, not {type(given).__name__}") from e


def _files(files: list[Path], name: str, series: str | None, modality: str | None, gaps: str) -> Source:
    """Pictures, or a DICOM series; all files of one kind."""
    if not files:
        raise InputError(f"there is nothing to stack in {name}: name at least one file")
    shown = [f for f in files if f.suffix.lower() in pictures.SUFFIXES]
    if len(shown) == len(files):
        return pictures.Pictures(files, name)
    others = [f for f in files if f.suffix.lower() not in pictures.SUFFIXES and not dicom.is_dicom(f)]
    if others:
        _exists(others[0])
        raise InputError(f"'{others[0]}' is of no kind that can be stacked here: flatconv reads {READS}")
    if shown:
        raise InputError(
            f"'{shown[0]}' is a picture and others in {name} are DICOM: they are not of one stack, keep them apart"
        )
    return dicom.Dicom(files, name, series, modality, gaps)


def _exists(path: Path) -> None:
    from flatconv.archives import open_regular

    open_regular(path).close()


def _listed(folder: Path) -> tuple[list[Path], list[str]]:
    """The files of a folder that make a stack, in natural order, and what was left out.

    Hidden files and folders inside are not looked at, so a link back to the folder leads nowhere.
    """
    try:
        with os.scandir(folder) as entries:
            names = []
            for entry in entries:
                names.append(entry.name)
                if len(names) > 2 * MAX_FRAMES:
                    raise InputError(f"'{folder}' has more than {2 * MAX_FRAMES:,} entries: stack a smaller folder")
    except OSError as e:
        raise InputError(f"the folder '{folder}' cannot be read: {e.strerror or e}") from e
    seen = [folder / n for n in sorted(names, key=natural) if not n.startswith(".")]
    files = [p for p in seen if p.is_file()]
    shown = [p for p in files if p.suffix.lower() in pictures.SUFFIXES]
    # DICOM is often named without a suffix, so the mark inside counts, unless the suffix says what else it is.
    scans = [p for p in files if p not in set(shown) and dicom.is_dicom(p)]
    if shown and scans:
        raise InputError(
            f"'{folder}' holds {len(shown)} pictures and {len(scans)} DICOM files: keep them apart, or name the files"
        )
    chosen = shown or scans
    if not chosen:
        raise InputError(f"the folder '{folder}' holds nothing to stack: {_content(files, seen, names)}")
    left = len(seen) - len(chosen)
    return chosen, [f"{left} other entries of the folder are left out: {_kinds(seen, chosen)}"] if left else []


def _content(files: list[Path], seen: list[Path], names: list[str]) -> str:
    """What is in a folder, and what could be done about it."""
    if not names:
        return "it is empty"
    parts = [f"{len(files)} files ({_kinds(files, [])})"] if files else []
    folders = [p.name for p in seen if p.is_dir()]
    parts += [f"{len(folders)} folders ({', '.join(folders[:5])})"] if folders else []
    hidden = len(names) - len(seen)
    parts += [f"{hidden} hidden entries"] if hidden else []
    found = f"it holds {', '.join(parts) or 'links to nothing'}"
    alone = [p for p in files if str(p).lower().endswith((*video.SUFFIXES, *nifti.SUFFIXES, *arrays.SUFFIXES))]
    if alone:
        return f"{found}. Videos, volumes and arrays are given one at a time, such as '{alone[0]}'"
    return f"{found}. Name one of the folders, or the files; flatconv reads {READS}"


def _kinds(paths: list[Path], without: list[Path]) -> str:
    """How many of each suffix."""
    out = set(without)
    counted = Counter(("folder" if p.is_dir() else p.suffix.lower() or "no suffix") for p in paths if p not in out)
    return ", ".join(f"{n} {kind[:20]}" for kind, n in counted.most_common(6))


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A key that sorts img2 before img10."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", name)
    return [(0, int(p), "") if p[0] in "0123456789" else (1, 0, p.casefold()) for p in parts], name


def _unused(source: Source, **options: Any) -> None:
    """An option that does nothing is a mistake."""
    takes = {"layout": arrays.Array, "series": dicom.Dicom, "modality": dicom.Dicom, "volume": nifti.Nifti}
    for name, value in options.items():
        if value is not None and not isinstance(source, takes[name]) and type(source) in KINDS:
            raise InputError(f"{name}= is not for {source.KIND}: leave it out")


KINDS: tuple[type[Source], ...] = (
    pictures.Pictures, video.Video, dicom.Dicom, nifti.Nifti, tiff.Tiff, arrays.Array,
)  # fmt: skip

__all__ = ["KINDS", "READS", "Source", "natural", "open_source"]
