"""Zip archives with every field in the hand of the test: the standard library writes only good ones."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """An entry; what is None is written as it truly is."""

    name: bytes
    data: bytes = b"x"
    method: int = 0
    flags: int = 0
    mode: int = 0
    size: int | None = None
    packed: int | None = None
    offset: int | None = None
    extra: bytes = b""
    own_name: bytes | None = None
    own_method: int | None = None
    disk: int = 0


def zipped(
    *items: Item,
    head: bytes = b"",
    tail: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
    length: int | None = None,
    start: int | None = None,
    disk: int = 0,
    large: tuple[int, int, int] | None = None,
    locator: int | None = None,
) -> bytes:
    """An archive.

    Args:
        items: its entries.
        head: bytes before the first.
        tail: bytes after all.
        comment: of the archive.
        count: entries, as the end says.
        length: of the table, as the end says.
        start: of the table, as the end says.
        disk: number of the part.
        large: count, length and start once more in the 64-bit form.
        locator: where that form is said to lie.
    """
    body, table = head, b""
    for item in items:
        at = len(body)
        packed = item.data
        if item.method == 8:
            squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
            packed = squeeze.compress(item.data) + squeeze.flush()
        crc = zlib.crc32(item.data)
        name = item.name if item.own_name is None else item.own_name
        method = item.method if item.own_method is None else item.own_method
        body += struct.pack("<4s2B4HL2L2H", b"PK\3\4", 20, 0, item.flags, method, 0, 0, crc, 0, 0, len(name), 0)
        body += name + packed
        size = len(item.data) if item.size is None else item.size
        kept = len(packed) if item.packed is None else item.packed
        offset = at if item.offset is None else item.offset
        table += struct.pack(
            "<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, item.flags, item.method, 0, 0, crc, kept, size,
            len(item.name), len(item.extra), 0, item.disk, 0, item.mode << 16, offset,
        ) + item.name + item.extra  # fmt: skip
    told_count = len(items) if count is None else count
    told_length = len(table) if length is None else length
    told_start = len(body) if start is None else start
    whole = body + table
    if large is not None:
        at = len(whole) if locator is None else locator
        whole += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, large[0], large[0], large[1], large[2])
        whole += struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    whole += struct.pack(
        "<4s4H2LH", b"PK\5\6", disk, disk, told_count, told_count, told_length, told_start, len(comment)
    )
    return whole + comment + tail
