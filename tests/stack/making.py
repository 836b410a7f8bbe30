"""Small files of every format, made for the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from flatconv.stack.sources.base import Source


def picture(path: Path, seed: int, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    """A picture of noise, (H, W, 3)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def pictures(folder: Path, count: int, size: tuple[int, int] = (12, 16)) -> list[np.ndarray]:
    """img1.png to imgN.png."""
    folder.mkdir(parents=True, exist_ok=True)
    return [picture(folder / f"img{i + 1}.png", i, size) for i in range(count)]


def video(path: Path, count: int, size: tuple[int, int] = (32, 48), codec: str = "libx264", gap: int = 4) -> None:
    """A video in which frame i is a grey of 8·i, with a key frame every ``gap`` frames."""
    import av

    # The table of contents in front, so that a file that is cut off can still be opened.
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gap
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 8 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def slice_(
    path: Path,
    at: float | None,
    value: int = 0,
    *,
    series: str = "1.2.3",
    modality: str = "CT",
    number: int | None = None,
    size: tuple[int, int] = (6, 8),
    directions: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    **more: object,
) -> None:
    """A DICOM slice with all pixels of one value, rescaled by 2·v − 1000."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    d.SOPClassUID, d.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    d.SeriesInstanceUID, d.Modality, d.SeriesDescription = series, modality, f"series {series}"
    if at is not None:
        normal = np.cross(directions[:3], directions[3:])
        d.ImagePositionPatient = [float(v) for v in normal * at]
        d.ImageOrientationPatient = list(directions)
    if number is not None:
        d.InstanceNumber = number
    d.Rows, d.Columns = size
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit, d.PixelRepresentation = 15, 0
    d.RescaleSlope, d.RescaleIntercept = 2, -1000
    frames = int(more.get("NumberOfFrames", 1))  # type: ignore[call-overload]
    d.PixelData = np.repeat(np.arange(value, value + frames, dtype=np.uint16), size[0] * size[1]).tobytes()
    for name, given in more.items():
        setattr(d, name, given)
    pydicom.dcmwrite(path, d, enforce_file_format=True)


def series(folder: Path, places: list[float], **more: object) -> None:
    """Slices at the places, named so that the order of the names is not theirs; the value is the rank of the place."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (rank, place) in enumerate(sorted(enumerate(places), key=lambda p: -p[1])):
        slice_(folder / f"{i:02d}", place, sorted(places).index(places[rank]), **more)  # type: ignore[arg-type]


class Counting(Source):
    """Frames of one number each, (1, 2, 3), that counts how many of its frames are alive."""

    KIND = "counted frames"

    def __init__(self, length: int, sequential: bool = False) -> None:
        self.name, self.length, self.shape = "counted", length, (1, 2, 3)
        self.sizes, self.full, self.notes = {(2, 3): "counted"}, None, []
        self.SEQUENTIAL = sequential  # type: ignore[misc]
        self.read_frames: list[int] = []
        self.starts: list[int] = []

    def read(self, index: int) -> torch.Tensor:
        assert 0 <= index < self.length
        self.read_frames.append(index)
        return torch.full(self.shape, float(index))

    def scan(self, start: int):
        self.starts.append(start)
        yield from super().scan(start)
