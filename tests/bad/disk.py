"""Places that cannot be written to, and disks that fail meanwhile.

A row's ``given`` is a function of the place, a folder of its own, and of ``fail``, which makes a function of the operating
system raise from now on; it writes there and must raise.
"""

# A row that is a line reads better than one that is broken up.
# ruff: noqa: E501

from __future__ import annotations

import errno
import functools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import flatconv
from flatconv import files
from flatconv.errors import InputError
from tests.bad.table import bad

Fail = Callable[..., None]


@functools.cache
def flat() -> Any:
    """A folded model to write."""
    torch.manual_seed(0)
    return flatconv.fold(
        nn.Sequential(nn.Conv3d(3, 4, 3, padding=1)).eval(), (torch.randn(1, 3, 1, 8, 9),), dynamic=False, verify=False
    )


def fault(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def target(
    name: str, prepare: Callable[[Path], object] = lambda p: None, force: bool = False
) -> Callable[[Path, Fail], None]:
    """Save weights to this name, with something there."""

    def write(place: Path, fail: Fail) -> None:
        prepare(place / name)
        files.save_weights(flat(), place / name, force=force)

    return write


def old(path: Path) -> None:
    path.write_text("old")


def writing(how: Callable[[Path], object]) -> Callable[[Path, Fail], None]:
    """Replace a file by a writer that does this after the first half."""

    def write(place: Path, fail: Fail) -> None:
        old(place / "a.txt")

        def writer(path: Path) -> None:
            path.write_text("ne")
            how(place)

        files.write(place / "a.txt", writer, force=True)

    return write


def failing(number: int) -> Callable[[Path, Fail], None]:
    def now(place: Path) -> None:
        raise fault(number)

    return writing(now)


def system(owner: Any, name: str, number: int, kind: str = "file") -> Callable[[Path, Fail], None]:
    """Write while a function of the operating system fails."""

    def write(place: Path, fail: Fail) -> None:
        old(place / "a.txt")
        fail(owner, name, fault(number))
        if kind == "file":
            files.write(place / "a.txt", lambda p: p.write_text("new"), force=True)
        else:
            fill(place / "out", force=True)

    return write


def fill(path: Path, force: bool = False, meanwhile: Callable[[Path], object] = lambda p: None) -> None:
    with files.folder(path, force=force) as folder:
        (folder / "one.txt").write_text("new")
        (folder / "two.txt").write_text("new")
        meanwhile(path)


def folder(
    name: str,
    prepare: Callable[[Path], object] = lambda p: None,
    force: bool = False,
    meanwhile: Callable[[Path], object] = lambda p: None,
) -> Callable[[Path, Fail], None]:
    """Fill a folder of this name, with something there, or coming meanwhile."""

    def write(place: Path, fail: Fail) -> None:
        prepare(place / name)
        fill(place / name, force, meanwhile)

    return write


def stop(number: int) -> Callable[[Path], None]:
    def now(path: Path) -> None:
        raise fault(number)

    return now


def full_folder(path: Path) -> None:
    path.mkdir()
    old(path / "mine")


def folder_of_folders(path: Path) -> None:
    path.mkdir()
    old(path / "one.txt")
    (path / "two.txt").mkdir()


def folder_with_pipe(path: Path) -> None:
    path.mkdir()
    os.mkfifo(path / "two.txt")


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's name may not be long
        s.bind(path.name)
        os.chdir(here)


def program(name: str) -> Callable[[Path, Fail], None]:
    return lambda place, fail: flat().save(place / name)


FILES = [
    bad("a file is there", target("a.safetensors", old), InputError, "a.safetensors", "exists already", "--force"),
    bad("a program is there", lambda p, f: (old(p / "a.pt2"), flat().save(p / "a.pt2")), InputError, "a.pt2", "exists already"),
    bad("a folder is there", target("a.safetensors", Path.mkdir), InputError, "is a folder", "name a file in it"),
    bad("a folder is there, forced", target("a.safetensors", Path.mkdir, True), InputError, "is a folder"),
    bad("a pipe is there, forced", target("a.safetensors", os.mkfifo, True), InputError, "would be lost"),
    bad("a socket is there, forced", target("a.safetensors", bound, True), InputError, "would be lost"),
    bad("a device, forced", lambda p, f: files.save_weights(flat(), "/dev/null", force=True), InputError, "/dev/null", "would be lost"),
    bad("the full device, forced", lambda p, f: files.write("/dev/full", lambda q: q.write_text("new"), force=True), InputError, "/dev/full", "would be lost"),
    bad("a link is there", target("a.safetensors", lambda p: (old(p.parent / "b"), p.symlink_to("b"))), InputError, "exists already"),
    bad("a link to nothing is there", target("a.safetensors", lambda p: p.symlink_to("b")), InputError, "exists already"),
    bad("a link to a folder, forced", target("a.safetensors", lambda p: ((p.parent / "b").mkdir(), p.symlink_to("b")), True), InputError, "is a folder"),
    bad("no folder", target("none/a.safetensors"), InputError, "none/a.safetensors", "No such file or directory"),
    bad("under a file", target("a/b.safetensors", lambda p: old(p.parent)), InputError, "cannot be written", "Not a directory"),
    bad("where nothing can be", lambda p, f: files.save_weights(flat(), "/proc/a.safetensors"), InputError, "/proc/a.safetensors", "cannot be written"),
    bad("very long name", target("n" * 300 + ".safetensors"), InputError, "cannot be written", "too long"),
    bad("name with a nul", target("a\0.safetensors"), InputError, "a\\x00.safetensors", "cannot be written"),
    bad("name of half a character", target("\ud800.safetensors"), InputError, "\\ud800", "cannot be written"),
    bad("terminal code in a name", target("\x1b[2J/a.safetensors"), InputError, "\\x1b[2J"),
    bad("no name", lambda p, f: files.save_weights(flat(), ""), InputError, "is a folder"),
    bad("no path at all", lambda p, f: files.save_weights(flat(), 3), InputError, "not int", "name a file"),
    bad("nothing as a path", lambda p, f: flat().save(None), InputError, "not NoneType"),
    bad("program of another ending", program("a.bin"), InputError, "a.bin", "must end in .pt2"),
    bad("program without an ending", program("a"), InputError, "must end in .pt2"),
    bad("disk is full", failing(errno.ENOSPC), InputError, "a.txt", "No space left on device"),
    bad("quota is used up", failing(errno.EDQUOT), InputError, "cannot be written", "quota"),
    bad("disk breaks", failing(errno.EIO), InputError, "Input/output error"),
    bad("disk becomes read-only", failing(errno.EROFS), InputError, "Read-only file system"),
    bad("too many open files", failing(errno.EMFILE), InputError, "Too many open files"),
    bad("server is gone", failing(errno.ESTALE), InputError, "Stale file handle"),
    bad("syncing fails", system(os, "fsync", errno.EIO), InputError, "Input/output error"),
    bad("replacing fails", system(Path, "replace", errno.EACCES), InputError, "Permission denied"),
    bad("making the temporary fails", system(Path, "touch", errno.EACCES), InputError, "Permission denied"),
    bad("setting rights fails", system(Path, "chmod", errno.EPERM), InputError, "Operation not permitted"),
    bad("the file becomes a folder", writing(lambda p: ((p / "a.txt").unlink(), (p / "a.txt").mkdir())), InputError, "is a folder"),
    bad("the temporary is taken away", writing(lambda p: [t.unlink() for t in p.glob(".flatconv-tmp-*")]), InputError, "No such file or directory"),
    bad(
        "somebody comes first",
        lambda p, f: files.write(p / "a.txt", lambda t: (t.write_text("new"), old(p / "a.txt"))),
        InputError, "exists already",
    ),
]  # fmt: skip

FOLDERS = [
    bad("a file instead of a folder", folder("out", old), InputError, "is a file", "choose another name"),
    bad("a folder with files", folder("out", full_folder), InputError, "not empty", "--force"),
    bad("a link to nothing instead of a folder", folder("out", lambda p: p.symlink_to("none")), InputError, "link to nothing"),
    bad("a pipe instead of a folder", folder("out", os.mkfifo), InputError, "'", "folder is needed"),
    bad("a folder with a folder of a result's name", folder("out", folder_of_folders, True), InputError, "two.txt", "is a folder"),
    bad("a folder with a pipe of a result's name", folder("out", folder_with_pipe, True), InputError, "two.txt", "would be lost"),
    bad("folder with a very long name", folder("n" * 300), InputError, "cannot be written to", "too long"),
    bad("folder with a nul", folder("n\0"), InputError, "n\\x00", "cannot be written to"),
    bad("folder in a file", folder("a/out", lambda p: old(p.parent)), InputError, "cannot be written to"),
    bad("folder where nothing can be", lambda p, f: fill(Path("/proc/flatconv")), InputError, "/proc/flatconv"),
    bad("disk is full meanwhile", folder("out", meanwhile=stop(errno.ENOSPC)), InputError, "No space left on device"),
    bad("disk is full meanwhile, deep", folder("a/b/out", meanwhile=stop(errno.ENOSPC)), InputError, "a/b/out", "No space left"),
    bad("disk is full meanwhile, forced", folder("out", full_folder, True, stop(errno.ENOSPC)), InputError, "No space left"),
    bad("a full folder comes meanwhile", folder("out", meanwhile=full_folder), InputError, "not empty"),
    bad("a file comes meanwhile", folder("out", meanwhile=old), InputError, "is a file"),
    bad("syncing a folder's files fails", system(os, "fsync", errno.EIO, "folder"), InputError, "Input/output error"),
    bad("making a folder fails", system(Path, "mkdir", errno.EROFS, "folder"), InputError, "Read-only file system"),
    bad("putting a folder in place fails", system(Path, "rename", errno.EXDEV, "folder"), InputError, "cross-device"),
]  # fmt: skip

TABLE = [*FILES, *FOLDERS]
