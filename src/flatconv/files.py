"""Writing results: to a temporary file in the same folder, synced, then put in place; a file is never half written."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from flatconv.errors import InputError
from flatconv.exporting import export

if TYPE_CHECKING:
    from flatconv.module import Folded


def write(path: Any, writer: Callable[[Path], None], *, force: bool = False) -> None:
    """Write one file atomically.

    Args:
        path: of the file.
        writer: writes the whole content to the path it is given.
        force: replace a file that exists.

    Raises:
        InputError: the file exists and ``force`` is not set, or the folder cannot be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"'{target}' is a folder: name a file in it")
    if target.exists() and not force:
        raise InputError(f"'{target}' exists already: choose another name, or say force=True (--force)")
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        writer(temporary)
        _sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as e:
        raise InputError(f"'{target}' cannot be written: {e.strerror or e}") from e
    finally:
        if temporary is not None and temporary.exists():
            temporary.unlink()


def check_folder(path: Any, *, force: bool = False) -> None:
    """Say now, and not after minutes of work, if a folder cannot take results. Changes nothing.

    Raises:
        InputError: it is a file, has files in it and ``force`` is not set, or cannot be written to.
    """
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise InputError(f"'{target}' is a file, and a folder is needed for the results: choose another name")
    place = target
    try:
        if target.exists() and any(target.iterdir()) and not force:
            raise InputError(
                f"the folder '{target}' is not empty: choose another, or say --force to overwrite results in it"
            )
        while not place.exists() and place != place.parent:
            place = place.parent
    except OSError as e:
        raise InputError(f"the folder '{target}' cannot be written to: {e.strerror or e}") from e
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        why = "permission denied" if place.is_dir() else "it is a file"
        raise InputError(f"the folder '{target}' cannot be written to: '{place}': {why}")


@contextlib.contextmanager
def folder(path: Any, *, force: bool = False) -> Iterator[Path]:
    """A folder to fill: files made inside the ``with`` appear at ``path`` only if all of it succeeds.

    Raises:
        InputError: the folder has files in it and ``force`` is not set, or it cannot be written to.
    """
    check_folder(path, force=force)
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", dir=target.parent))
    except OSError as e:
        raise InputError(f"the folder '{target}' cannot be written to: {e.strerror or e}") from e
    try:
        yield staging
        for file in staging.iterdir():
            _sync(file)
        target.mkdir(exist_ok=True)
        for file in sorted(staging.iterdir()):
            file.replace(target / file.name)
    except OSError as e:
        raise InputError(f"the folder '{target}' cannot be written to: {e.strerror or e}") from e
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as f:
        os.fsync(f.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_weights(flat: Folded, path: Any, *, force: bool = False) -> None:
    """The state of a folded model as ``.safetensors``."""
    from safetensors.torch import save_file

    # Shared storage is not for safetensors: a weight under two names is written twice.
    state = {k: v.detach().contiguous().clone() for k, v in flat.state_dict().items()}
    write(path, lambda p: save_file(state, p, metadata={"format": "pt", "made by": "flatconv"}), force=force)


class _Flat(nn.Module):
    """A folded model as a function of its tensors, for torch.export."""

    def __init__(self, flat: Folded) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.flat._run(self.flat, *tensors)


def exported(flat: Folded) -> torch.export.ExportedProgram:
    """The folded model as torch.export has it: the tensor inputs in order, the tensors of the result in order."""
    tensors, dims = [], []
    for guard, shape, device in zip(flat.guards.inputs, flat.example_shapes, flat.example_devices, strict=True):
        free = {a: torch.export.Dim.AUTO for a, s in enumerate(guard.shape) if s is None}
        given = [2 if a in free and s == 1 else s for a, s in enumerate(shape)]
        tensors.append(torch.zeros(given, dtype=guard.dtype, device=device))
        dims.append(free)
    module = _Flat(flat)
    module.training = flat.training
    return export(module, tensors, dims)


def save_program(flat: Folded, path: Any, *, force: bool = False) -> None:
    """A folded model as ``.pt2``."""
    if Path(path).suffix != ".pt2":
        raise InputError(f"'{path}' must end in .pt2")
    program = exported(flat)
    write(path, lambda p: torch.export.save(program, p), force=force)
