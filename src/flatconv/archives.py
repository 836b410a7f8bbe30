"""Files from elsewhere, looked at before anything opens them.

``torch.save`` and ``torch.export.save`` write zip archives without compression, one folder deep in names, with a table of
contents at the very end. Anything else that a zip may hold (links, encrypted entries, names that lead out of the folder,
entries that lie over each other, sizes that the file cannot have) is not written by them and is refused. The checks read
the table of contents only, through a map of the file, so a small file can never ask for much memory.

A clean archive is no safe archive: a pickle inside it can still run any code. That is what ``--trust`` is for.
"""

from __future__ import annotations

import itertools
import json
import math
import mmap
import os
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from flatconv.errors import InputError, RefusedError

ENTRIES = 100_000
TABLE = 32 << 20
"""Bytes of a table of contents: an entry has about a hundred."""
NAME = 1024
RATIO = 20
"""Declared bytes for each byte of the file. Tensors are stored as they are; only code is compressed."""
DEPTH = 2
"""Archives inside archives: the example inputs of a .pt2 file are one."""
HEADER = 32 << 20
"""Bytes of a safetensors header: a tensor has about a hundred."""

# The bits of one element, as the safetensors format names its types.
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s2B4HL2L2H")


@dataclass(frozen=True)
class Entry:
    """One line of a zip's table of contents.

    Attributes:
        name: as written, undecoded parts refused before.
        size: bytes when unpacked.
        packed: bytes in the archive.
        stored: whether it is not compressed.
        start: where its local header lies.
    """

    name: str
    size: int
    packed: int
    stored: bool
    start: int


def open_regular(path: Any) -> BinaryIO:
    """Open a file for reading, if it is one: a pipe would block, a device has no end.

    Raises:
        InputError: there is no such file, it is no regular one, or it cannot be read.
    """
    place = Path(path)
    try:
        kind = place.stat().st_mode
        if stat.S_ISDIR(kind):
            raise InputError(f"'{place}' is a folder, and a file is needed")
        if not stat.S_ISREG(kind):
            raise InputError(f"'{place}' is a pipe or a device, and a file on disk is needed: copy it to one first")
        return place.open("rb")
    except FileNotFoundError as e:
        raise InputError(f"there is no file '{place}'") from e
    except (OSError, ValueError) as e:
        raise InputError(f"'{place}' cannot be read: {getattr(e, 'strerror', None) or e}") from e


def check_archive(file: BinaryIO, name: str) -> tuple[str, ...]:
    """Look at a file that torch.save or torch.export.save should have written, without unpacking any of it.

    Args:
        file: open for reading.
        name: for messages.

    Returns:
        The names of the entries, without the folder that all of them are in.

    Raises:
        InputError: it is no such archive, or not one to open.
        RefusedError: it holds TorchScript or compiled code.
    """
    size = os.fstat(file.fileno()).st_size
    if not size:
        raise InputError(f"'{name}' is empty: it should be an archive written by torch.save or torch.export.save")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
        names = _check(data, name, 1)
    if any(n == "constants.pkl" or n.startswith("code/") for n in names):
        raise RefusedError(
            f"'{name}' is a TorchScript archive, whose code torch.export cannot read: "
            "build the model from its Python source, and load the weights into it with --state"
        )
    if any(n.startswith("data/aotinductor/") for n in names):
        raise RefusedError(
            f"'{name}' holds a model compiled to machine code, which cannot be rewritten: "
            "name the .pt2 file that it was compiled from"
        )
    return names


def _check(data: memoryview, name: str, depth: int) -> tuple[str, ...]:
    entries = _entries(data, name)
    ends = _spans(data, entries, name)
    declared = sum(e.size for e in entries)
    if declared > RATIO * len(data):
        raise InputError(
            f"'{name}' would unpack to {declared:,} bytes, more than {RATIO} times its {len(data):,}: a bomb, it is not opened"
        )
    for entry, (start, end) in zip(entries, ends, strict=True):
        if (
            entry.name.endswith((".pt", ".pt2", ".pth", ".zip"))
            and end - start >= 4
            and bytes(data[start : start + 2]) == b"PK"
        ):
            if depth >= DEPTH:
                raise InputError(f"'{name}' holds archives in archives in archives ('{entry.name}'): it is not opened")
            with data[start:end] as inner:
                _check(inner, f"{name}/{entry.name}", depth + 1)
    tops = {e.name.partition("/")[0] for e in entries}
    if len(tops) != 1 or any("/" not in e.name for e in entries):
        raise InputError(
            f"'{name}' is a zip, but not one that torch wrote: its entries are not in one folder "
            f"({', '.join(sorted(tops)[:4])}). Write it with torch.save or torch.export.save"
        )
    return tuple(e.name.partition("/")[2] for e in entries)


def _entries(data: memoryview, name: str) -> list[Entry]:
    """The table of contents, every line of it fit to be opened."""
    if bytes(data[:4]) != b"PK\3\4":
        raise InputError(_no_zip(bytes(data[:16]), name))
    count, length, start = _end(data, name)
    found: list[Entry] = []
    seen: set[str] = set()
    at = start
    for _ in range(count):
        if at + _CENTRAL.size > start + length:
            raise _damaged(name, "its table of contents ends too early")
        sign, _, _, _, _, flags, method, _, _, _, packed, size, n, x, c, disk, _, mode, offset = _CENTRAL.unpack_from(
            data, at
        )
        at += _CENTRAL.size
        if sign != b"PK\1\2" or at + n + x + c > start + length:
            raise _damaged(name, "its table of contents is broken")
        written, extra = bytes(data[at : at + n]), bytes(data[at + n : at + n + x])
        at += n + x + c
        size, packed, offset = _wide(extra, size, packed, offset, name)
        entry = Entry(_name(written, name), size, packed, method == 0, offset)
        _check_entry(entry, name, flags, method, mode >> 16, disk)
        if entry.name in seen:
            raise InputError(
                f"'{name}' has two entries named '{entry.name}': readers differ on which counts; not opened"
            )
        seen.add(entry.name)
        found.append(entry)
    if at != start + length:
        raise _damaged(name, "its table of contents has bytes that belong to no entry")
    if not found:
        raise InputError(f"'{name}' is an archive without entries")
    return found


def _no_zip(head: bytes, name: str) -> str:
    if re.match(rb"\x80[\x02-\x05]", head):
        return (
            f"'{name}' is a bare pickle, as torch wrote it before version 1.6: it has no table of contents that could be "
            "checked. Load it where you trust it, and write it again with torch.save"
        )
    if head.startswith(b"PK"):
        return f"'{name}' begins like a zip, but with no entry: it is empty or damaged"
    kind = "it is neither a zip nor a pickle"
    return f"'{name}' was not written by torch.save or torch.export.save: {kind} (it begins with {head[:8]!r})"


def _damaged(name: str, what: str) -> InputError:
    return InputError(f"'{name}' is damaged: {what}. Fetch or write it again")


def _end(data: memoryview, name: str) -> tuple[int, int, int]:
    """Number of entries, length and place of the table of contents."""
    at = len(data) - _END.size
    if at < 0 or bytes(data[at : at + 4]) != b"PK\5\6":
        raise _damaged(name, "it does not end with a table of contents (it is cut short, or something was appended)")
    _, disk, disk2, here, count, length, start, comment = _END.unpack_from(data, at)
    told, stop, locator = (here, count, length, start), at, at - _LOCATOR.size
    # torch writes the large form too, always; where both are there they have to agree.
    if locator >= 0 and bytes(data[locator : locator + 4]) == b"PK\6\7":
        _, disk, stop, disks = _LOCATOR.unpack_from(data, locator)
        if disks > 1 or stop + _END64.size != locator or bytes(data[stop : stop + 4]) != b"PK\6\6":
            raise _damaged(name, "its large table of contents is broken")
        _, _, _, _, disk, disk2, here, count, length, start = _END64.unpack_from(data, stop)
        large = (here, count, length, start)
        if any(
            a not in (b, top) for a, b, top in zip(told, large, (0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1), strict=True)
        ):
            raise _damaged(name, "it has two tables of contents that differ")
    if disk or disk2 or comment or here != count:
        raise _damaged(name, "it says that it is one part of several, or has a comment")
    if start + length != stop:
        raise _damaged(name, "its table of contents is not where it says")
    if count > ENTRIES or length > TABLE:
        raise InputError(f"'{name}' says it has {count:,} entries; more than {ENTRIES:,} are not opened")
    return count, length, start


def _wide(extra: bytes, size: int, packed: int, offset: int, name: str) -> tuple[int, int, int]:
    """Sizes of more than four bytes, from the extra field."""
    values = [size, packed, offset]
    wanted = [i for i, v in enumerate(values) if v == 0xFFFFFFFF]
    at = 0
    while wanted and at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            if length < 8 * len(wanted) or at + 4 + length > len(extra):
                break
            for j, i in enumerate(wanted):
                (values[i],) = struct.unpack_from("<Q", extra, at + 4 + 8 * j)
            return values[0], values[1], values[2]
        at += 4 + length
    if wanted:
        raise _damaged(name, "the size of an entry is missing")
    return size, packed, offset


def _name(written: bytes, name: str) -> str:
    try:
        text = written.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InputError(f"'{name}' has an entry whose name is no text ({written[:40]!r}): it is not opened") from e
    where = f"'{name}' has an entry named '{text[:80]}'"
    if not text or len(text) > NAME:
        raise InputError(f"'{name}' has an entry whose name has {len(text):,} characters: it is not opened")
    if "\\" in text or not text.isprintable():
        raise InputError(f"{where}, with a backslash or a control character: it is not opened")
    if text.startswith("/") or re.match(r"[A-Za-z]:", text):
        raise InputError(f"{where}, an absolute path: unpacking it would write outside of its folder, it is not opened")
    parts = text.removesuffix("/").split("/")
    if ".." in parts:
        raise InputError(f"{where}, which leads out of its folder: it is not opened")
    if "" in parts or "." in parts:
        raise InputError(f"{where}, which is no plain path: it is not opened")
    return text


def _check_entry(entry: Entry, name: str, flags: int, method: int, mode: int, disk: int) -> None:
    where = f"'{name}': entry '{entry.name}'"
    if flags & 0x2041:
        raise InputError(f"{where} is encrypted: it is not opened")
    if stat.S_ISLNK(mode):
        raise InputError(f"{where} is a link, which could point anywhere: it is not opened")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError(f"{where} is a device, a pipe or a socket: it is not opened")
    if method not in (0, 8):
        raise InputError(f"{where} is compressed in a way that torch does not use (method {method}): it is not opened")
    if disk:
        raise _damaged(name, "it says that it is one part of several")
    if entry.stored and entry.size != entry.packed:
        raise _damaged(name, f"entry '{entry.name}' is stored as it is, and has two different sizes")


def _spans(data: memoryview, entries: list[Entry], name: str) -> list[tuple[int, int]]:
    """Where the bytes of each entry lie. They lie inside the file, before the table, and none over another."""
    limit = _end(data, name)[2]
    found: list[tuple[int, int]] = []
    for entry in entries:
        if entry.start + _LOCAL.size > limit:
            raise _damaged(name, f"entry '{entry.name}' lies outside of the file")
        sign, _, _, _, method, *_, n, x = _LOCAL.unpack_from(data, entry.start)
        begin = entry.start + _LOCAL.size + n + x
        if sign != b"PK\3\4" or begin + entry.packed > limit:
            raise _damaged(
                name, f"entry '{entry.name}' says it has {entry.packed:,} bytes, more than the file has left"
            )
        written = bytes(data[entry.start + _LOCAL.size : entry.start + _LOCAL.size + n])
        if written != entry.name.encode() or (method == 0) != entry.stored:
            raise InputError(f"'{name}': entry '{entry.name}' has another name or form where it lies: it is not opened")
        found.append((begin, begin + entry.packed))
    order = sorted(range(len(entries)), key=lambda i: entries[i].start)
    for a, b in itertools.pairwise(order):
        if found[a][1] > entries[b].start:
            raise InputError(
                f"'{name}': the entries '{entries[a].name}' and '{entries[b].name}' overlap: it is not opened"
            )
    return found


def check_safetensors(file: BinaryIO, name: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Look at the header of a ``.safetensors`` file, before anything maps the rest.

    Returns:
        Type and shape of every tensor, by name.

    Raises:
        InputError: the header is not what the format says, or does not fit the file.
    """
    size = os.fstat(file.fileno()).st_size
    head = file.read(8)
    if len(head) < 8:
        raise InputError(f"'{name}' is no .safetensors file: it has {size} bytes, and its header alone takes 8")
    (length,) = struct.unpack("<Q", head)
    if head.startswith((b"PK\3\4", b"\x80\x02")):
        raise InputError(f"'{name}' is named .safetensors, but torch.save wrote it: it is a pickle. Rename it to .pt")
    if length > HEADER:
        raise InputError(f"'{name}' says that its header has {length:,} bytes; more than {HEADER:,} are not read")
    if 8 + length > size:
        raise _damaged(name, f"it says that its header has {length:,} bytes, and the file has {size:,}")
    try:
        table = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as e:
        raise _damaged(name, f"its header is no JSON ({str(e)[:120]})") from e
    if not isinstance(table, dict):
        raise _damaged(name, "its header is no table of names")
    notes = table.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(v, str) for v in notes.values()):
        raise _damaged(name, "its metadata is not text by name")
    found = {}
    spans = []
    for tensor, told in table.items():
        dtype, shape, begin, end = _told(told, f"'{name}': tensor '{tensor[:200]}'")
        found[tensor] = (dtype, shape)
        spans.append((begin, end, tensor))
    at = 0
    for begin, end, tensor in sorted(spans):
        if begin != at:
            what = "lies over another" if begin < at else "leaves a hole in front of it"
            raise _damaged(name, f"tensor '{tensor[:200]}' {what}")
        at = end
    if 8 + length + at != size:
        raise _damaged(name, f"its tensors have {at:,} bytes, and the file has {size - 8 - length:,} for them")
    return found


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is in it twice")
    return found


def _told(told: Any, where: str) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape and place of one tensor, fit together."""
    if not isinstance(told, dict) or set(told) != {"dtype", "shape", "data_offsets"}:
        raise InputError(f"{where} is not told by dtype, shape and data_offsets: the file is damaged")
    dtype, shape, offsets = told["dtype"], told["shape"], told["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise InputError(f"{where} has the unknown type {str(dtype)[:40]!r}")
    if not _sizes(shape) or not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise InputError(f"{where} has no proper shape or place: the file is damaged")
    if math.prod(shape) * BITS[dtype] != 8 * (offsets[1] - offsets[0]):
        size = "×".join(map(str, shape))[:80]
        raise InputError(f"{where} is {dtype} {size} and has {offsets[1] - offsets[0]:,} bytes, which is not the same")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 64 and all(type(v) is int and 0 <= v < 2**63 for v in value)
