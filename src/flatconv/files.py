"""Writing results: to a temporary file in the same folder, synced, then put in place; a file is never half written.

Whatever stops the process leaves the old file or the new one. A process that is killed outright can leave a temporary
behind, whose name begins with ``.flatconv-tmp-``; any of those may be deleted.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from flatconv.errors import InputError
from flatconv.exporting import allow_one, export
from flatconv.ops.base import after

if TYPE_CHECKING:
    from flatconv.module import Folded

TEMPORARY = ".flatconv-tmp-"


def write(path: Any, writer: Callable[[Path], None], *, force: bool = False) -> None:
    """Write one file atomically.

    A link counts as the file that is there: it is replaced itself, and what it points to stays as it is.

    Args:
        path: of the file.
        writer: writes the whole content to the path it is given.
        force: replace a file that exists.

    Raises:
        InputError: the file exists and ``force`` is not set, it is no regular file, or the folder cannot be written to.
    """
    target = _path(path)
    with _told(f"'{target}' cannot be written"):
        mode = _check_target(target, force)
        temporary = _temporary(target)
        try:
            temporary.touch(0o666, exist_ok=False)
            writer(temporary)
            _sync(temporary)
            if mode is not None:
                temporary.chmod(mode)
            _check_target(target, force)  # writing takes time, and somebody may have come first
            temporary.replace(target)
            _sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def check_file(path: Any, *, force: bool = False) -> None:
    """Say now, and not after minutes of work, if a file cannot be written. Leaves nothing behind.

    Raises:
        InputError: it exists and ``force`` is not set, it is no regular file, or its folder is not there.
    """
    target = _path(path)
    with _told(f"'{target}' cannot be written"):
        _check_target(target, force)
        if not target.parent.is_dir():
            raise InputError(f"'{target}' cannot be written: there is no folder '{target.parent}'")


def _path(path: Any) -> Path:
    try:
        return Path(path)
    except TypeError as e:
        raise InputError(f"a path is needed to write to, not {type(path).__name__}: name a file") from e


def _check_target(target: Path, force: bool) -> int | None:
    """The rights of the file that is to be replaced; None if there is none."""
    try:
        held = target.lstat()
    except FileNotFoundError:
        return None
    if target.is_dir():
        raise InputError(f"'{target}' is a folder: name a file in it")
    if not stat.S_ISREG(held.st_mode) and not stat.S_ISLNK(held.st_mode):
        raise InputError(f"'{target}' is a device, a pipe or a socket, and would be lost: name a file")
    if not force:
        raise InputError(f"'{target}' exists already: choose another name, or say force=True (--force)")
    return stat.S_IMODE(held.st_mode) & 0o777 if stat.S_ISREG(held.st_mode) else None


def _temporary(target: Path) -> Path:
    suffix = target.suffix if len(target.suffix.encode("utf-8", "surrogatepass")) <= 20 else ""
    return target.parent / f"{TEMPORARY}{secrets.token_hex(6)}{suffix}"


@contextlib.contextmanager
def _told(words: str) -> Iterator[None]:
    """Faults of the disk, whoever reports them, as one error."""
    from safetensors import SafetensorError

    try:
        yield
    except OSError as e:
        raise InputError(f"{words}: {e.strerror or e}") from e
    except (ValueError, SafetensorError) as e:
        # A name with a NUL in it, or one that has no form in the file system's encoding; safetensors words its own.
        known = isinstance(e, SafetensorError | UnicodeError) or "null" in str(e)
        if not known:
            raise
        raise InputError(f"{words}: {e}") from e


def check_folder(path: Any, *, force: bool = False) -> None:
    """Say now, and not after minutes of work, if a folder cannot take results. Leaves nothing behind.

    Raises:
        InputError: it is a file, has files in it and ``force`` is not set, or cannot be written to.
    """
    target = Path(path)
    with _told(f"the folder '{target}' cannot be written to"):
        if target.is_symlink() and not target.exists():
            raise InputError(
                f"'{target}' is a link to nothing, and a folder is needed for the results: choose another name"
            )
        if target.exists() and not target.is_dir():
            raise InputError(f"'{target}' is a file, and a folder is needed for the results: choose another name")
        if target.exists() and any(target.iterdir()) and not force:
            raise InputError(
                f"the folder '{target}' is not empty: choose another, or say --force to overwrite results in it"
            )
        place = target
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise InputError(f"the folder '{target}' cannot be written to: '{place}' is a file")
        # Rights alone do not tell: a disk may be read-only, or not take folders at all.
        probe = place / f"{TEMPORARY}{secrets.token_hex(6)}"
        probe.mkdir()
        probe.rmdir()


@contextlib.contextmanager
def folder(path: Any, *, force: bool = False) -> Iterator[Path]:
    """A folder to fill: files made inside the ``with`` appear at ``path`` only if all of it succeeds.

    A folder that was not there appears at once and whole. In one that was there, each file is replaced whole.

    Raises:
        InputError: the folder has files in it and ``force`` is not set, or it cannot be written to.
    """
    check_folder(path, force=force)
    target = Path(path)
    words = f"the folder '{target}' cannot be written to"
    staging = target.parent / f"{TEMPORARY}{secrets.token_hex(6)}"
    with _told(words):
        made = _make_parents(target)
        try:
            staging.mkdir()
            yield staging
            for file in staging.iterdir():
                _sync(file)
            _sync_folder(staging)
            if target.exists():
                check_folder(target, force=force)  # filling takes time, and somebody may have come first
                _put(staging, target)
            else:
                staging.rename(target)
            made = []
            _sync_folder(target.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            for parent in made:
                with contextlib.suppress(OSError):
                    parent.rmdir()


def _make_parents(target: Path) -> list[Path]:
    """Make the folders that lead to ``target``; those that were missing, the deepest first."""
    missing = []
    for parent in target.parents:
        if parent.exists():
            break
        missing.append(parent)
    target.parent.mkdir(parents=True, exist_ok=True)
    return missing


def _put(staging: Path, target: Path) -> None:
    """Move files into a folder that is there; either all of them can go, or none does."""
    files = sorted(staging.iterdir())
    for file in files:
        _check_target(target / file.name, True)
    for file in files:
        file.replace(target / file.name)
    _sync_folder(target)


def _sync(path: Path) -> None:
    with path.open("r+b") as f:
        os.fsync(f.fileno())


def _sync_folder(path: Path) -> None:
    """Make a new name last. Not every file system can; the content itself is synced by then."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Kept(io.RawIOBase):
    """A file that keeps a failure to itself until it is asked.

    torch ends the whole process if writing an archive fails (its writer throws while it is being destroyed), so it is told
    that all went well.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._error: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as e:
                self._error = e
        return len(data)

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Torch goes back to the beginning when all is written."""
        return offset

    def finish(self) -> None:
        """Close, and raise what went wrong."""
        try:
            self._file.close()
        except OSError as e:
            self._error = self._error or e
        if self._error is not None:
            raise self._error


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
        return self.flat.run_flat(*tensors)


def exported(flat: Folded) -> torch.export.ExportedProgram:
    """The folded model as torch.export has it: the tensor inputs in order, the tensors of the result in order."""
    tensors: list[torch.Tensor] = []
    dims: list[dict[int, Any]] = []
    for guard, shape, device in zip(flat.guards.inputs, flat.example_shapes, flat.example_devices, strict=True):
        free = {a: torch.export.Dim.AUTO for a, s in enumerate(guard.shape) if s is None}
        given = [2 if a in free and s == 1 else s for a, s in enumerate(shape)]
        tensors.append(torch.zeros(given, dtype=guard.dtype, device=device))
        dims.append(free)
    if flat.boundary is not None:
        tensors = flat.boundary.enter(tensors)
        dims = [
            {after(frozenset(dropped), a): free for a, free in each.items()}
            for each, dropped in zip(dims, flat.boundary.dropped, strict=True)
        ]
    module = _Flat(flat)
    module.training = flat.training
    program = export(module, tensors, dims)
    free_of_one = [g.shape[:1] != (None,) or g.ranges[0][0] > 1 for g in flat.guards.inputs]
    allow_one(program, free_of_one)
    return program


def save_program(flat: Folded, path: Any, *, force: bool = False) -> None:
    """A folded model as ``.pt2``."""
    if _path(path).suffix != ".pt2":
        raise InputError(f"'{path}' must end in .pt2")
    check_one_form(flat)
    program = exported(flat)
    write(path, lambda place: put_program(program, place), force=force)


def put_program(program: torch.export.ExportedProgram, place: Path) -> None:
    """Write a program of torch.export."""
    file = _Kept(place)
    try:
        torch.export.save(program, file)  # type: ignore[arg-type]
    finally:
        file.finish()


def check_one_form(flat: Folded) -> None:
    """A file has one form of a model.

    Raises:
        InputError: this one has two, or changes buffers.
    """
    if flat._updates:
        raise InputError(
            f"a program cannot be written of a model whose calls change {flat._updates[0]} (batch norm in train mode): call "
            "model.eval() and fold again"
        )
    if flat._full is not None:
        names = ", ".join(f"'{a.name}'" for a in flat.assumed if a.otherwise == "full")
        raise InputError(
            f"a program has one form, and this model has two, since otherwise='full' was declared of {names}: fold again "
            "with otherwise='refuse' and save that, which asserts that slices are equal, or fold without the declaration"
        )
