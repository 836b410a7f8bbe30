"""Hostile and broken files.

A row's ``given`` is (how it is opened, file name, maker). The maker takes the path and returns the content; if it returns
None it has made something there itself, or nothing.
"""

# A row that is a line reads better than one that is broken up.
# ruff: noqa: E501

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flatconv.errors import InputError, RefusedError
from tests.bad.table import CANARY, Bad, bad
from tests.bad.zipped import Item, zipped

Maker = Callable[[Path], bytes | None]


class Hostile:
    """A pickle that makes the canary where the test runs."""

    def __reduce__(self) -> Any:
        return open, (CANARY, "w")


class Leaves:
    """A pickle that ends the process."""

    def __reduce__(self) -> Any:
        return exit, (3,)


def saved(value: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    held = io.BytesIO()
    torch.save(value, held, **options)
    return held.getvalue()


@functools.cache
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4)).eval()


@functools.cache
def module_file() -> bytes:
    return saved(net())


@functools.cache
def program_file() -> bytes:
    held = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net(), (torch.zeros(1, 3, 1, 4, 4),)), held)
    return held.getvalue()


@functools.cache
def script_file() -> bytes:
    held = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(net()), held)
    return held.getvalue()


def repacked(content: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """A torch archive with other entries, well formed."""
    import zipfile

    with zipfile.ZipFile(io.BytesIO(content)) as z:
        held = {i.filename: z.read(i) for i in z.infolist()}
    change(held)
    return zipped(*(Item(n.encode(), d) for n, d in held.items()))


def entry(**fields: Any) -> Maker:
    """An archive with one odd entry beside a usual one."""
    made = Item(**({"name": b"m/odd"} | fields))
    return lambda p: zipped(Item(b"m/data.pkl"), made)


def archive(*items: Item, **fields: Any) -> Maker:
    """An archive as given."""
    return lambda p: zipped(*items, **fields)


def cut(content: Callable[[], bytes], at: Callable[[bytes], int]) -> Maker:
    """The beginning of a good file."""
    return lambda p: content()[: at(content())]


def raw(content: bytes) -> Maker:
    """These bytes."""
    return lambda p: content


def sparse(begin: bytes, size: int, end: bytes = b"") -> Maker:
    """A file with a hole in it: large, and nearly nothing on disk."""

    def make(path: Path) -> None:
        with path.open("wb") as f:
            f.write(begin)
            f.truncate(size)
            f.seek(0, 2)
            f.write(end)

    return make


def link(to: str) -> Maker:
    return lambda p: p.symlink_to(to)


ONE = Item(b"m/data.pkl")
NESTED = zipped(Item(b"n/data.pkl"))

# Every fault of an archive that can be told from its table of contents. All are opened with --trust: the checks hold there too.
ZIPS: list[tuple[str, Maker, tuple[str, ...]]] = [
    ("absolute name", entry(name=b"/etc/passwd"), ("/etc/passwd", "absolute path", "not opened")),
    ("drive letter", entry(name=b"C:/windows/x"), ("C:/windows/x", "absolute path")),
    ("leads up", entry(name=b"m/../../x"), ("m/../../x", "leads out of its folder")),
    ("ends up", entry(name=b"m/data/.."), ("m/data/..", "leads out of its folder")),
    ("backslash", entry(name=b"m\\..\\x"), ("backslash",)),
    ("nul in a name", entry(name=b"m/a\0.pkl"), ("m/a\\x00.pkl", "control character")),
    ("line end in a name", entry(name=b"m/a\nb"), ("m/a\\nb", "control character")),
    ("terminal code in a name", entry(name=b"m/\x1b[2Jx"), ("m/\\x1b[2Jx", "control character")),
    ("direction mark in a name", entry(name="m/\u202egpj".encode()), ("m/\\u202egpj", "control character")),
    ("empty part", entry(name=b"m//x"), ("no plain path",)),
    ("dot part", entry(name=b"m/./x"), ("no plain path",)),
    ("empty name", entry(name=b""), ("has 0 characters",)),
    ("very long name", entry(name=b"m/" + b"a" * 5000), ("has 5,002 characters",)),
    ("name that is no text", entry(name=b"m/\xff\xfe"), ("is no text",)),
    ("same name twice", archive(ONE, ONE), ("two entries named 'm/data.pkl'",)),
    ("symbolic link", entry(mode=0o120777, data=b"/etc/passwd"), ("'m/odd' is a link",)),
    ("character device", entry(mode=0o020666), ("device",)),
    ("block device", entry(mode=0o060666), ("device",)),
    ("named pipe", entry(mode=0o010666), ("pipe",)),
    ("socket", entry(mode=0o140666), ("socket",)),
    ("encrypted", entry(flags=1), ("'m/odd' is encrypted",)),
    ("strongly encrypted", entry(flags=0x40), ("encrypted",)),
    ("masked table", entry(flags=0x2000), ("encrypted",)),
    ("bzip2", entry(method=12), ("method 12",)),
    ("lzma", entry(method=14), ("method 14",)),
    ("stored with two sizes", entry(size=99), ("two different sizes",)),
    ("larger than the file", entry(size=10**6, packed=10**6), ("says it has 1,000,000 bytes",)),
    ("larger than memory", entry(size=2**32 - 2, packed=2**32 - 2), ("more than the file has left",)),
    ("real bomb", entry(method=8, data=bytes(8 << 20)), ("unpack to 8,388,", "bomb")),
    ("declared bomb", entry(method=8, size=2**31), ("a bomb",)),
    (
        "64-bit bomb",
        entry(method=8, size=2**32 - 1, extra=struct.pack("<HHQ", 1, 8, 2**60)),
        ("unpack to 1,152,921,504,606,846,", "bomb"),
    ),
    (
        "many small bombs",
        archive(ONE, *(Item(b"m/%d" % i, bytes(1 << 14), 8) for i in range(60))),
        ("bomb",),
    ),
    ("64-bit size missing", entry(size=2**32 - 1, packed=2**32 - 1), ("size of an entry is missing",)),
    (
        "64-bit size too short",
        entry(size=2**32 - 1, extra=struct.pack("<HHL", 1, 4, 5)),
        ("size of an entry is missing",),
    ),
    ("two entries over each other", archive(ONE, Item(b"m/x", own_name=b"m/data.pkl", offset=0)), ("another name",)),
    (
        "entry inside another",
        archive(Item(b"m/data.pkl", zipped(Item(b"m/x"))[:36]), Item(b"m/x", offset=40)),
        ("overlap",),
    ),
    ("entry outside", entry(offset=10**8), ("lies outside of the file",)),
    ("entry at no header", entry(offset=3), ("damaged", "more than the file has left")),
    ("two names", entry(own_name=b"m/evil"), ("another name",)),
    ("two methods", entry(own_method=8), ("another name or form",)),
    ("more entries than written", archive(ONE, count=5), ("ends too early",)),
    ("fewer entries than written", archive(ONE, Item(b"m/x"), count=1), ("belong to no entry",)),
    ("no entries", archive(ONE, count=0), ("belong to no entry",)),
    (
        "too many entries",
        archive(ONE, count=2**16 - 1, length=2**32 - 1, start=2**32 - 1, large=(10**6, 56, 41)),
        ("1,000,000 entries",),
    ),
    ("table elsewhere", archive(ONE, start=7), ("not where it says",)),
    ("table longer than the file", archive(ONE, length=10**6), ("not where it says",)),
    ("comment", archive(ONE, comment=b"hello"), ("does not end with a table of contents",)),
    ("something appended", archive(ONE, tail=b"#!/bin/sh"), ("something was appended",)),
    ("something in front", archive(ONE, head=b"#!/bin/sh\n"), ("was not written by torch",)),
    ("broken table", raw(zipped(ONE).replace(b"PK\1\2", b"PK\1\3")), ("table of contents is broken",)),
    ("entry in another part", entry(disk=1), ("one part of several",)),
    (
        "table of no entries",
        raw(zipped(ONE)[:41] + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 41, 0)),
        ("without entries",),
    ),
    ("part of several", archive(ONE, disk=1), ("one part of several",)),
    ("64-bit table nowhere", archive(ONE, large=(1, 60, 41), locator=10**9), ("large table of contents is broken",)),
    ("64-bit table differs", archive(ONE, large=(2, 999, 3)), ("two tables of contents that differ",)),
    ("not one folder", archive(ONE, Item(b"other/data.pkl")), ("not in one folder", "m, other")),
    ("no folder", archive(Item(b"data.pkl")), ("not in one folder",)),
    (
        "bad archive inside",
        archive(ONE, Item(b"m/data/sample_inputs/model.pt", zipped(Item(b"n/../../x")))),
        ("model.pt' has an entry named 'n/../../x'",),
    ),
    (
        "bomb inside",
        archive(ONE, Item(b"m/model.pt", zipped(Item(b"n/data.pkl", bytes(4 << 20), 8)))),
        ("model.pt' would unpack to 4,194,304", "bomb"),
    ),
    (
        "archives in archives",
        archive(ONE, Item(b"m/a.pt", zipped(Item(b"n/b.pt", NESTED)))),
        ("archives in archives in archives",),
    ),
    (
        "huge table",
        sparse(b"PK\3\4", 40 << 20, struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, 40 << 20, 0, 0)),
        ("9 entries",),
    ),
    ("empty", raw(b""), ("is empty", "torch.save")),
    ("one byte", raw(b"P"), ("was not written by torch", "b'P'")),
    ("only the magic", raw(b"PK\3\4"), ("cut short",)),
    ("zip without entries", raw(zipped()), ("begins like a zip, but with no entry",)),
    ("random bytes", raw(bytes((i * 197 + 31) % 251 for i in range(5000))), ("was not written by torch",)),
    ("web page", raw(b"<!DOCTYPE html><title>Sign in</title>"), ("was not written by torch", "<!DOCTYP")),
    ("pointer to a large file", raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), ("b'version ")),
    ("picture", raw(b"\x89PNG\r\n\x1a\n" + bytes(50)), ("was not written by torch", "PNG")),
    ("gzip", raw(gzip.compress(b"x")), ("neither a zip nor a pickle",)),
    (
        "old pickle",
        lambda p: saved({"a": torch.ones(2)}, _use_new_zipfile_serialization=False),
        ("before version 1.6",),
    ),
    ("hostile pickle", raw(pickle.dumps(Hostile())), ("bare pickle", "torch.save")),
    ("cut in the first entry", cut(module_file, lambda c: 60), ("cut short",)),
    ("cut in a tensor", cut(module_file, lambda c: c.index(b"data/0") + 900), ("cut short",)),
    ("cut in the table", cut(module_file, lambda c: c.index(b"PK\1\2") + 70), ("cut short",)),
    ("cut before the end", cut(module_file, lambda c: c.index(b"PK\6\6")), ("cut short",)),
    ("cut by one byte", cut(module_file, lambda c: len(c) - 1), ("cut short",)),
    ("hole in the middle", lambda p: module_file()[:2000] + module_file()[2500:], ("damaged",)),
]


def tar(p: Path) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as t:
        info = tarfile.TarInfo("pickle")
        t.addfile(info, io.BytesIO(b""))
    return held.getvalue()


def without(name: str, content: Callable[[], bytes] = module_file) -> Maker:
    def drop(held: dict[str, bytes]) -> None:
        del held[next(n for n in held if n.endswith(name))]

    return lambda p: repacked(content(), drop)


def replaced(name: str, value: bytes, content: Callable[[], bytes] = module_file) -> Maker:
    def put(held: dict[str, bytes]) -> None:
        held[next(n for n in held if n.endswith(name))] = value

    return lambda p: repacked(content(), put)


def added(name: str, value: bytes, content: Callable[[], bytes] = program_file) -> Maker:
    def put(held: dict[str, bytes]) -> None:
        held[next(iter(held)).partition("/")[0] + "/" + name] = value

    return lambda p: repacked(content(), put)


# Nothing that can run code is opened without --trust, whatever else is right or wrong with it.
UNTRUSTED = [
    bad("hostile .pt", ("untrusted", "m.pt", lambda p: saved(Hostile())), InputError, "m.pt", "run any code", "--trust"),
    bad("hostile .pth", ("untrusted", "m.pth", lambda p: saved(Hostile())), InputError, "m.pth", "--trust", "--state"),
    bad(
        "hostile .pt2",
        ("untrusted", "m.pt2", added("data/sample_inputs/model.pt", saved(Hostile()))),
        InputError, "m.pt2", "torch.export.load unpickles", "--trust",
    ),
    bad("good .pt", ("untrusted", "m.pt", lambda p: module_file()), InputError, "not opened", "package.module:factory"),
    bad("good .pt2", ("untrusted", "m.pt2", lambda p: program_file()), InputError, "not opened", "--trust"),
    bad("bare hostile pickle", ("untrusted", "m.pt", raw(pickle.dumps(Hostile()))), InputError, "run any code"),
    bad("hostile state .pt", ("untrusted state", "w.pt", lambda p: saved(Hostile())), InputError, "w.pt", ".safetensors"),
    bad("hostile state .bin", ("untrusted state", "w.bin", lambda p: saved(Hostile())), InputError, "w.bin", "--trust"),
    bad("hostile state .ckpt", ("untrusted state", "w.ckpt", lambda p: saved(Hostile())), InputError, "w.ckpt", "--trust"),
    bad("hostile state .pth", ("untrusted state", "w.pth", lambda p: saved(Hostile())), InputError, "w.pth", "pickle"),
    bad(
        "pickle named .safetensors",
        ("untrusted state", "w.safetensors", lambda p: saved(Hostile())),
        InputError, "is named .safetensors", "Rename it to .pt",
    ),
    bad(
        "old pickle named .safetensors",
        ("untrusted state", "w.safetensors", raw(pickle.dumps(Hostile(), protocol=2))),
        InputError, "is named .safetensors",
    ),
    bad("hostile .onnx", ("untrusted", "m.onnx", raw(pickle.dumps(Hostile()))), InputError, "m.onnx", "no valid ONNX file"),
    bad("hostile .bin as a model", ("untrusted", "m.bin", lambda p: saved(Hostile())), InputError, "m.bin", "--state"),
    bad("hostile picture", ("image", "x.png", raw(pickle.dumps(Hostile()))), InputError, "x.png", "cannot be read as a picture"),
]  # fmt: skip

ARCHIVES = [
    *(bad(f"zip: {name}", ("model", "m.pt", make), InputError, "m.pt", *words) for name, make, words in ZIPS),
    bad("zip as state: leads up", ("state", "w.pt", entry(name=b"m/../../x")), InputError, "w.pt", "leads out"),
    bad("zip as program: leads up", ("model", "m.pt2", entry(name=b"m/../../x")), InputError, "m.pt2", "leads out"),
    bad("tar", ("model", "m.pt", tar), InputError, "was not written by torch"),
    bad("TorchScript", ("model", "m.pt", lambda p: script_file()), RefusedError, "TorchScript", "--state"),
    bad("TorchScript as a program", ("model", "m.pt2", lambda p: script_file()), RefusedError, "TorchScript"),
    bad("TorchScript as state", ("state", "w.pt", lambda p: script_file()), RefusedError, "TorchScript"),
    bad(
        "compiled program",
        ("model", "m.pt2", added("data/aotinductor/model/x.so", b"\x7fELF")),
        RefusedError, "compiled to machine code", ".pt2",
    ),
    bad("module named .pt2", ("model", "m.pt2", lambda p: module_file()), InputError, "holds no exported program"),
    bad("program named .pt", ("model", "m.pt", lambda p: program_file()), InputError, "exported program: name it .pt2"),
    bad("no pickle in it", ("model", "m.pt", without("data.pkl")), InputError, "holds no pickle"),
    bad("broken pickle", ("model", "m.pt", replaced("data.pkl", b"\x80\x02garbage")), InputError, "cannot be loaded"),
    bad("empty pickle", ("model", "m.pt", replaced("data.pkl", b"")), InputError, "cannot be loaded"),
    bad("a tensor is missing", ("model", "m.pt", without("data/0")), InputError, "cannot be loaded", "data/0"),
    bad("a tensor is short", ("model", "m.pt", replaced("data/0", b"1234")), InputError, "cannot be loaded"),
    bad("other byte order", ("model", "m.pt", replaced("byteorder", b"middle")), InputError, "cannot be loaded"),
    bad("class that is nowhere", ("model", "m.pt", replaced("data.pkl", b"cno_such_module\nNet\n.")), InputError, "no_such_module"),
    bad("weights as a model", ("model", "m.pt", lambda p: saved(net().state_dict())), InputError, "OrderedDict", "--state"),
    bad("tensor as a model", ("model", "m.pt", lambda p: saved(torch.ones(3))), InputError, "made a Tensor"),
    bad("number as a model", ("model", "m.pt", lambda p: saved(3)), InputError, "made a int", "torch.nn.Module"),
    bad("pickle that leaves", ("model", "m.pt", lambda p: saved(Leaves())), InputError, "SystemExit"),
    bad("program without a graph", ("model", "m.pt2", without("models/model.json", program_file)), InputError, "no exported program"),
    bad("program is no JSON", ("model", "m.pt2", replaced("model.json", b"{", program_file)), InputError, "cannot be loaded"),
    bad("program is empty JSON", ("model", "m.pt2", replaced("model.json", b"{}", program_file)), InputError, "cannot be loaded"),
    bad("program of the future", ("model", "m.pt2", replaced("archive_version", b"999", program_file)), InputError, "999"),
    bad("program without weights", ("model", "m.pt2", without("weights/weight_0", program_file)), InputError, "m.pt2", "cannot be loaded"),
    bad("missing", ("model", "none.pt", lambda p: None), InputError, "there is no file", "none.pt"),
    bad("folder", ("model", "m.pt", lambda p: p.mkdir()), InputError, "is a folder"),
    bad("pipe", ("model", "m.pt", lambda p: os.mkfifo(p)), InputError, "pipe or a device", "copy it"),
    bad("endless device", ("model", "m.pt", link("/dev/zero")), InputError, "pipe or a device"),
    bad("link to nothing", ("model", "m.pt", link("nowhere")), InputError, "there is no file"),
    bad("link to itself", ("model", "m.pt", link("m.pt")), InputError, "m.pt", "cannot be read"),
]  # fmt: skip


def tensors(table: Any, data: bytes = b"", length: int | None = None) -> Maker:
    """A .safetensors file with this header, an object or text."""

    def make(path: Path) -> bytes:
        head = table if isinstance(table, bytes) else json.dumps(table).encode()
        return struct.pack("<Q", len(head) if length is None else length) + head + data

    return make


def told(**fields: Any) -> Maker:
    """One tensor of two float32 with these fields changed; None leaves the field out."""
    field = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | fields
    return tensors({"w": {k: v for k, v in field.items() if v is not None}}, bytes(8))


def two(first: list[int], second: list[int], data: int) -> Maker:
    def of(span: list[int]) -> dict[str, Any]:
        return {"dtype": "U8", "shape": [span[1] - span[0]], "data_offsets": span}

    return tensors({"a": of(first), "b": of(second)}, bytes(data))


@functools.cache
def weights_file() -> bytes:
    import safetensors.torch

    return safetensors.torch.save(net().state_dict())


HEADERS: list[tuple[str, Maker, tuple[str, ...]]] = [
    ("empty", raw(b""), ("has 0 bytes",)),
    ("seven bytes", raw(b"1234567"), ("has 7 bytes",)),
    ("header longer than the file", tensors({}, length=1000), ("header has 1,000 bytes", "damaged")),
    ("header of 2⁶³ bytes", tensors({}, length=2**63), ("9,223,372,036,854,775,808",)),
    ("header longer than allowed", sparse(struct.pack("<Q", 90 << 20), 100 << 20), ("94,371,840", "are not read")),
    ("header of zeros", sparse(struct.pack("<Q", 1 << 20), 2 << 20), ("no JSON",)),
    ("no JSON", tensors(b"hello"), ("no JSON",)),
    ("JSON cut", tensors(b'{"w": {"dtype": "F32"'), ("no JSON",)),
    ("no text", tensors(b"\xff\xfe{}"), ("no JSON",)),
    ("very deep", tensors(b"[" * 200_000), ("no JSON",)),
    ("very long number", tensors(b'{"w": ' + b"9" * 9000 + b"}"), ("no JSON",)),
    ("a list", tensors([1, 2]), ("no table of names",)),
    ("name twice", tensors(b'{"w": {}, "w": {}}'), ("twice",)),
    ("metadata of numbers", tensors({"__metadata__": {"a": 1}}), ("metadata",)),
    ("metadata is a list", tensors({"__metadata__": ["a"]}), ("metadata",)),
    ("tensor is a list", tensors({"w": [1]}), ("tensor 'w'", "dtype, shape and data_offsets")),
    ("no type", told(dtype=None), ("dtype, shape and data_offsets",)),
    ("no place", told(data_offsets=None), ("dtype, shape and data_offsets",)),
    ("one field more", told(code="import os"), ("dtype, shape and data_offsets",)),
    ("unknown type", told(dtype="F33"), ("unknown type 'F33'",)),
    ("type is a number", told(dtype=32), ("unknown type '32'",)),
    ("type is a terminal code", told(dtype="\x1b[2J"), ("unknown type '\\x1b[2J'",)),
    ("negative size", told(shape=[-2]), ("no proper shape",)),
    ("broken size", told(shape=[2.0]), ("no proper shape",)),
    ("size is a word", told(shape=["2"]), ("no proper shape",)),
    ("size is true", told(shape=[2, True]), ("no proper shape",)),
    (
        "size is none",
        tensors(b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', bytes(8)),
        ("no proper shape",),
    ),
    ("shape is a number", told(shape=2), ("no proper shape",)),
    ("thousand axes", told(shape=[1] * 1000), ("no proper shape",)),
    ("too many elements", told(shape=[3]), ("F32 3 and has 8 bytes",)),
    ("sizes that wrap round", told(shape=[2**62, 4], data_offsets=[0, 0]), ("has 0 bytes",)),
    ("10¹² elements", told(shape=[10**6, 10**6]), ("which is not the same",)),
    ("negative place", told(data_offsets=[-8, 0]), ("no proper shape or place",)),
    ("backward place", told(data_offsets=[8, 0]), ("no proper shape or place",)),
    ("three offsets", told(data_offsets=[0, 4, 8]), ("no proper shape or place",)),
    ("place past the end", told(shape=[4], data_offsets=[0, 16]), ("have 16 bytes", "has 8")),
    ("hole in front", two([4, 8], [8, 12], 12), ("'a' leaves a hole",)),
    ("hole between", two([0, 4], [8, 12], 12), ("'b' leaves a hole",)),
    ("one over another", two([0, 8], [4, 12], 12), ("'b' lies over another",)),
    ("same place twice", two([0, 8], [0, 8], 8), ("lies over another",)),
    ("bytes left over", two([0, 4], [4, 8], 20), ("have 8 bytes", "has 20")),
    ("cut in the header", cut(weights_file, lambda c: 100), ("damaged",)),
    ("cut in the last tensor", cut(weights_file, lambda c: len(c) - 3), ("tensors have",)),
    ("random bytes", raw(bytes((i * 89 + 7) % 253 for i in range(999))), ("w.safetensors",)),
    ("web page", raw(b"<!DOCTYPE html><title>Sign in</title>"), ("w.safetensors",)),
]


def state(change: Callable[[dict[str, Any]], object], save: bool = False) -> Maker:
    """The weights of the model, changed."""

    def make(path: Path) -> bytes:
        import safetensors.torch

        held = {k: v.clone() for k, v in net().state_dict().items()}
        change(held)
        return saved(held) if save else safetensors.torch.save(held)

    return make


def put(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda held: held.update({name: value})


STATES = [
    *(bad(f"safetensors: {name}", ("state", "w.safetensors", make), InputError, *words) for name, make, words in HEADERS),
    bad("one name missing", ("state", "w.safetensors", state(lambda h: h.pop("0.bias"))), InputError, "1 missing (0.bias)", "has 7"),
    bad("all names missing", ("state", "w.safetensors", tensors({})), InputError, "7 missing", "…"),
    bad("one name too many", ("state", "w.safetensors", state(put("2.weight", torch.ones(1)))), InputError, "1 that the model does not have (2.weight)"),
    bad(
        "names of another wrapper",
        ("state", "w.safetensors", state(lambda h: [h.update({"module." + k: h.pop(k)}) for k in list(h)])),
        InputError, "7 missing", "7 that the model does not have", "module.0.",
    ),
    bad("weights of 2-D", ("state", "w.safetensors", state(put("0.weight", torch.ones(4, 3, 3, 3)))), InputError, "float32 4×3×3×3, not float32 4×3×3×3×3"),
    bad("whole numbers as weights", ("state", "w.safetensors", state(put("0.bias", torch.ones(4, dtype=torch.int64)))), InputError, "0.bias is int64 4, not float32 4"),
    bad("complex weights", ("state", "w.safetensors", state(put("0.bias", torch.ones(4, dtype=torch.complex64)))), InputError, "complex64"),
    bad("terminal codes in names", ("state", "w.safetensors", state(put("\x1b[2J\r", torch.ones(1)))), InputError, "\\x1b[2J\\r"),
    bad("very long names", ("state", "w.safetensors", state(put("n" * 9000, torch.ones(1)))), InputError, "nnn…nnn"),
    bad("hostile pickle with trust", ("state", "w.pt", lambda p: saved(Hostile())), InputError, "w.pt", "cannot be loaded"),
    bad("hostile pickle among weights", ("state", "w.pt", state(put("0.bias", Hostile()), True)), InputError, "cannot be loaded"),
    bad("whole module as state", ("state", "w.pt", lambda p: module_file()), InputError, "cannot be loaded"),
    bad("number as state", ("state", "w.pt", lambda p: saved(3)), InputError, "holds a int", "model.state_dict()"),
    bad("names that are numbers", ("state", "w.pt", lambda p: saved({1: torch.ones(1)})), InputError, "not tensors by name"),
    bad("numbers as weights", ("state", "w.bin", lambda p: saved({"0.weight": 1.0})), InputError, "not tensors by name"),
    bad("sparse weight", ("state", "w.pt", state(put("0.bias", torch.eye(4).to_sparse()), True)), InputError, "0.bias"),
    bad("missing in a pickle", ("state", "w.ckpt", state(lambda h: h.pop("1.weight"), True)), InputError, "1 missing (1.weight)"),
    bad(
        "weight made of one number 10¹² times",
        ("state", "w.pt", lambda p: saved({"0.weight": torch.ones(1).expand(10**6, 10**6)})),
        InputError, "1000000×1000000",
    ),
    bad("old pickle as state", ("state", "w.pt", lambda p: saved({"a": torch.ones(1)}, _use_new_zipfile_serialization=False)), InputError, "before version 1.6"),
    bad("numpy file as state", ("state", "w.npz", raw(b"PK\3\4")), InputError, "w.npz", ".safetensors"),
    bad("no ending", ("state", "weights", raw(b"")), InputError, "weights", ".safetensors"),
    bad("missing state", ("state", "none.safetensors", lambda p: None), InputError, "there is no file"),
    bad("folder as state", ("state", "w.safetensors", lambda p: p.mkdir()), InputError, "is a folder"),
    bad("pipe as state", ("state", "w.safetensors", lambda p: os.mkfifo(p)), InputError, "pipe or a device"),
]  # fmt: skip


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    made = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        made += struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
    return made


def header(width: int, height: int, bits: int = 8, color: int = 2) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">2L5B", width, height, bits, color, 0, 0, 0)


def picture(kind: str, keep: float = 1.0) -> Maker:
    def make(path: Path) -> bytes:
        from PIL import Image

        held = io.BytesIO()
        Image.effect_noise((64, 48), 90).convert("RGB").save(held, kind)
        return held.getvalue()[: int(len(held.getvalue()) * keep)]

    return make


def text_bomb(path: Path) -> bytes:
    note = b"Comment\0\0" + zlib.compress(bytes(100 << 20), 9)
    return png(header(4, 4), (b"zTXt", note), (b"IDAT", zlib.compress(bytes(52))), (b"IEND", b""))


def black(path: Path) -> bytes:
    """81 million pixels in 10 kB."""
    squeeze = zlib.compressobj(9)
    rows = b"".join(squeeze.compress(bytes(1126)) for _ in range(9000)) + squeeze.flush()
    return png(header(9000, 9000, 1, 0), (b"IDAT", rows), (b"IEND", b""))


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(canary) (w) file closefile showpage\n"

PICTURES = [
    bad("empty picture", ("image", "x.png", raw(b"")), InputError, "x.png", "cannot be read as a picture"),
    bad("text as a picture", ("image", "x.jpg", raw(b"hello")), InputError, "cannot be read as a picture"),
    bad("program code as a picture", ("image", "x.png", raw(b"open('canary', 'w')")), InputError, "cannot be read"),
    bad("PNG cut in its header", ("image", "x.png", picture("PNG", 0.003)), InputError, "cannot be read"),
    bad("PNG cut in its pixels", ("image", "x.png", picture("PNG", 0.5)), InputError, "cannot be read"),
    bad("JPEG cut", ("image", "x.jpg", picture("JPEG", 0.5)), InputError, "cannot be read"),
    bad("TIFF cut", ("image", "x.tif", picture("TIFF", 0.5)), InputError, "cannot be read"),
    bad("WEBP cut", ("image", "x.webp", picture("WEBP", 0.5)), InputError, "cannot be read"),
    bad("GIF cut", ("image", "x.gif", picture("GIF", 0.05)), InputError, "cannot be read"),
    bad("BMP cut", ("image", "x.bmp", picture("BMP", 0.5)), InputError, "cannot be read"),
    bad("PNG of 10¹⁰ pixels", ("image", "x.png", raw(png(header(10**5, 10**5)))), InputError, "x.png"),
    bad("PNG without pixels", ("image", "x.png", raw(png(header(8, 8), (b"IEND", b"")))), InputError, "cannot be read"),
    bad("PNG of no size", ("image", "x.png", raw(png(header(0, 0), (b"IDAT", b""), (b"IEND", b"")))), InputError, "x.png"),
    bad("PNG with a bomb of text", ("image", "x.png", text_bomb), InputError, "x.png", "cannot be read"),
    bad("small file of 81 million pixels", ("image", "x.png", black), InputError, "9,000×9,000", "make it smaller"),
    bad("PPM of 10⁹ pixels", ("image", "x.ppm", raw(b"P6 40000 30000 255\n")), InputError, "x.ppm"),
    bad("BMP of negative size", ("image", "x.bmp", raw(b"BM" + bytes(8) + struct.pack("<3L2iHH6L", 54, 0, 40, -9, 9, 1, 24, *[0] * 6))), InputError, "x.bmp"),
    bad("PostScript", ("image", "x.eps", raw(POSTSCRIPT)), InputError, "cannot be read as a picture"),
    bad("PostScript named PNG", ("image", "x.png", raw(POSTSCRIPT)), InputError, "cannot be read as a picture"),
    bad("drawing", ("image", "x.svg", raw(b"<svg xmlns='http://www.w3.org/2000/svg'/>")), InputError, "cannot be read"),
    bad("document", ("image", "x.pdf", raw(b"%PDF-1.7\n")), InputError, "cannot be read"),
    bad("picture is a folder", ("image", "x.png", lambda p: p.mkdir()), InputError, "is a folder"),
    bad("picture is a pipe", ("image", "x.png", lambda p: os.mkfifo(p)), InputError, "pipe or a device"),
    bad("picture is endless", ("image", "x.png", link("/dev/zero")), InputError, "pipe or a device"),
    bad("picture is missing", ("image", "none.png", lambda p: None), InputError, "there is no file"),
]  # fmt: skip

TABLE: list[Bad] = [*UNTRUSTED, *ARCHIVES, *STATES, *PICTURES]
