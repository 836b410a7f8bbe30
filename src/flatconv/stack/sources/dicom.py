"""DICOM series, by pydicom: slices sorted by where they lie, in the units of the modality."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from flatconv.archives import open_regular
from flatconv.errors import FlatconvError, InputError
from flatconv.stack.limits import check_frames, check_pixels
from flatconv.stack.sources.base import Source, as_tensor, package, reading

SUFFIXES = (".dcm", ".dicom", ".ima")
GAPS = ("error", "keep")
DEFLATED = "1.2.840.10008.1.2.1.99"
"""Transfer syntax in which the whole file is compressed: a small one may ask for any amount of memory."""
UNEVEN = 1.5
"""A distance of so many usual ones means that slices are missing."""
SAME = 1e-3
"""Millimetres within which two slices lie at the same place."""


@dataclass(frozen=True)
class _Slice:
    """What the header of a file says."""

    path: Path
    series: str
    described: str
    modality: str
    size: tuple[int, int]
    samples: int
    frames: int
    inverted: bool
    number: int | None
    place: tuple[float, ...] | None
    directions: tuple[float, ...] | None


class Dicom(Source):
    """One series of DICOM files: (1, H, W), rescaled (Hounsfield units in CT, as stored where nothing is said).

    Slices are sorted along the normal of ImageOrientationPatient by ImagePositionPatient, in the direction of the normal (to
    the head, for axial slices). Without positions they are sorted by InstanceNumber, and the notes say so.

    Args:
        files: to look at; those that are no DICOM are refused.
        name: of the folder or file.
        series: the SeriesInstanceUID or the number of the list that is shown if there are several.
        modality: refuse anything else, such as ``CT``.
        gaps: ``error`` refuses a series in which slices are missing; ``keep`` stacks what there is.
    """

    KIND: ClassVar[str] = "DICOM series"
    UNITS: ClassVar[str] = "rescaled to the modality's units"

    def __init__(
        self,
        files: Sequence[Path],
        name: str,
        series: str | None = None,
        modality: str | None = None,
        gaps: str = "error",
    ) -> None:
        if gaps not in GAPS:
            raise InputError(f"gaps={gaps} is unknown: it may be {', '.join(GAPS)}")
        self.name, self.full, self.notes = name, None, []
        check_frames(name, len(files))
        chosen = self._choose([_look(path) for path in files], series)
        self._check(chosen, modality)
        self._slices = self._sorted(chosen, gaps)
        first = self._slices[0]
        self._multiple = first.frames > 1
        self.length = first.frames if self._multiple else len(self._slices)
        check_frames(name, self.length)
        self.sizes = {}
        for one in self._slices:
            self.sizes.setdefault(one.size, str(one.path))
        self.shape = (first.samples, *first.size)
        self.modality = first.modality
        if first.inverted:
            self.notes.append("small values are meant to be shown bright (MONOCHROME1); the values are kept")

    def read(self, index: int) -> Tensor:
        one = self._slices[0 if self._multiple else index]
        pydicom = _pydicom()
        with open_regular(one.path) as file, _quiet(), reading(str(one.path), "DICOM"):
            dataset = pydicom.dcmread(file)
            if self._multiple:
                pixels = package("pydicom.pixels", "pydicom", "dicom", "reading DICOM").pixel_array(
                    dataset, index=index
                )
            else:
                pixels = dataset.pixel_array
            pixels = package("pydicom.pixels", "pydicom", "dicom", "reading DICOM").apply_modality_lut(pixels, dataset)
            if pixels.shape[:2] != one.size:
                raise InputError(f"'{one.path}' has pixels of {pixels.shape}, and its header says {one.size}")
            found = as_tensor(pixels.astype(np.float32) if pixels.dtype == np.float64 else pixels)
            return found[None] if found.dim() == 2 else found.permute(2, 0, 1)

    def label(self, index: int) -> str:
        if self._multiple:
            return f"{self._slices[0].path.name}, frame {index}"
        one = self._slices[index]
        return f"{one.path.name}, {_along(one):.2f} mm" if one.place and one.directions else one.path.name

    def _choose(self, slices: list[_Slice], series: str | None) -> list[_Slice]:
        by: dict[str, list[_Slice]] = {}
        for one in slices:
            by.setdefault(one.series, []).append(one)
        shown = "; ".join(
            f"{i}: {len(s)} {s[0].modality} {s[0].described or 'without a description'} ({uid})"
            for i, (uid, s) in enumerate(by.items(), 1)
        )
        if series is None:
            if len(by) > 1:
                raise InputError(
                    f"'{self.name}' holds {len(by)} series: {shown[:2000]}. Say which by its number or UID: series= (--series)"
                )
            return slices
        if series in by:
            return by[series]
        if series.isascii() and series.isdigit() and 1 <= int(series[:9]) <= len(by):
            return list(by.values())[int(series) - 1]
        raise InputError(f"'{self.name}' has no series '{series}': it holds {shown[:2000]}")

    def _check(self, slices: list[_Slice], modality: str | None) -> None:
        first = slices[0]
        for one in slices:
            if modality is not None and one.modality != modality.upper():
                raise InputError(f"'{one.path}' is {one.modality}, and {modality.upper()} was asked for")
            if one.modality != first.modality or one.samples != first.samples or one.inverted != first.inverted:
                raise InputError(
                    f"'{one.path}' is {one.modality} with {one.samples} samples a pixel, and '{first.path}' is "
                    f"{first.modality} with {first.samples}: they are not of one stack, take one of them out"
                )
            if one.frames > 1 and len(slices) > 1:
                raise InputError(
                    f"'{one.path}' holds {one.frames} frames, and there are {len(slices)} files: give such a file alone"
                )

    def _sorted(self, slices: list[_Slice], gaps: str) -> list[_Slice]:
        if len(slices) == 1:
            if slices[0].frames > 1:
                self.notes.append("frames of one file are in the order in which they are stored")
            return slices
        if all(one.place is None for one in slices):
            return self._by_number(slices)
        first = slices[0]
        for one in slices:
            if one.place is None or one.directions is None:
                raise InputError(f"'{one.path}' does not say where it lies, and others do: take it out of the series")
            if not np.allclose(one.directions, first.directions or (), atol=1e-3):
                raise InputError(
                    f"'{one.path}' lies in another direction than '{first.path}' (a localizer?): take it out of the series"
                )
        found = sorted(slices, key=_along)
        places = np.array([_along(one) for one in found])
        distances = np.diff(places)
        twice = np.flatnonzero(distances < SAME)
        if len(twice):
            a, b = found[twice[0]], found[twice[0] + 1]
            raise InputError(
                f"'{a.path}' and '{b.path}' lie at the same place, {places[twice[0]]:.2f} mm: a series has one slice at each. "
                "Is it several volumes, one after the other? Take them apart"
            )
        usual = float(np.median(distances))
        wide = np.flatnonzero(distances > UNEVEN * usual)
        if len(wide):
            at = int(wide[0])
            missing = sum(round(float(d) / usual) - 1 for d in distances[wide])
            words = (
                f"slices are missing between '{found[at].path}' at {places[at]:.2f} mm and '{found[at + 1].path}' at "
                f"{places[at + 1]:.2f} mm, where the usual distance is {usual:.2f} mm; about {missing} in all"
            )
            if gaps == "error":
                raise InputError(f"'{self.name}': {words}. Get them, or say gaps=keep (--gaps keep)")
            self.notes.append(words)
        elif float(distances.max() - distances.min()) > 0.1 * usual:
            self.notes.append(f"distances of slices vary from {distances.min():.2f} to {distances.max():.2f} mm")
        return found

    def _by_number(self, slices: list[_Slice]) -> list[_Slice]:
        numbers = [one.number for one in slices]
        if None in numbers or len(set(numbers)) < len(numbers):
            raise InputError(
                f"the slices of '{self.name}' say neither where they lie nor in which order they come "
                "(ImagePositionPatient, InstanceNumber): they cannot be sorted"
            )
        self.notes.append("the slices do not say where they lie and are sorted by InstanceNumber")
        return sorted(slices, key=lambda one: one.number or 0)


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM, by its suffix or by the mark in its preamble."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with open_regular(path) as file:
            return file.read(132)[128:] == b"DICM"
    except (FlatconvError, OSError):
        return False


def _look(path: Path) -> _Slice:
    pydicom = _pydicom()
    with open_regular(path) as file, _quiet(), reading(str(path), "DICOM"):
        if str(_meta(path).get("TransferSyntaxUID", "")) == DEFLATED:
            raise InputError(f"'{path}' is compressed as a whole (deflated), which is not read: store it without")
        header = pydicom.dcmread(file, stop_before_pixels=True)
        if "Rows" not in header or "Columns" not in header:
            raise InputError(
                f"'{path}' is DICOM without a picture ({header.get('Modality', 'no modality')}): take it out"
            )
        rows, columns = int(header.Rows), int(header.Columns)
        check_pixels(str(path), columns, rows, "a slice")
        number = header.get("InstanceNumber")
        return _Slice(
            path, str(header.get("SeriesInstanceUID", "")), str(header.get("SeriesDescription", "")),
            str(header.get("Modality", "of no modality")), (rows, columns), int(header.get("SamplesPerPixel", 1)),
            int(header.get("NumberOfFrames") or 1), header.get("PhotometricInterpretation") == "MONOCHROME1",
            None if number is None else int(number), _numbers(header, "ImagePositionPatient", 3, path),
            _numbers(header, "ImageOrientationPatient", 6, path),
        )  # fmt: skip


def _meta(path: Path) -> Any:
    """The part of the header in front of everything that may be compressed."""
    return package("pydicom.filereader", "pydicom", "dicom", "reading DICOM").read_file_meta_info(path)


def _numbers(header: Any, tag: str, count: int, path: Path) -> tuple[float, ...] | None:
    value = header.get(tag)
    if value is None or value == "":
        return None
    found = tuple(float(v) for v in value)
    if len(found) != count or not np.isfinite(found).all():
        raise InputError(f"'{path}': {tag} is {str(value)[:80]}, and {count} numbers are needed")
    return found


def _along(one: _Slice) -> float:
    """Where a slice lies along the normal of its plane, in millimetres."""
    directions = np.array(one.directions)
    return float(np.dot(np.cross(directions[:3], directions[3:]), np.array(one.place)))


def _pydicom() -> Any:
    return package("pydicom", "pydicom", "dicom", "reading DICOM")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Odd values in a header are warned of by the dozen; what matters here is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
