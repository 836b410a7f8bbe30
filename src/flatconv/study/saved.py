"""A study as JSON, and back: what an interrupted run continues from."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from flatconv.archives import open_regular
from flatconv.errors import InputError
from flatconv.findings import Study
from flatconv.report.jsonview import dumps

NAME = "study.json"
LARGEST = 64 * 2**20


class _WrongError(Exception):
    """The JSON is not that of a study; says where."""


def text(study: Study) -> str:
    """As JSON. Infinities and NaN are words."""
    return dumps(study.to_dict()) + "\n"


def plain_values(config: Any) -> dict[str, Any]:
    """A configuration as JSON has it, so that one that was read equals the one that was written."""
    found: dict[str, Any] = json.loads(dumps(dataclasses.asdict(config)))
    return found


def read(path: Path) -> Study:
    """The study in a file that ``text`` made.

    Raises:
        InputError: there is no such file, or it is not one of these.
    """
    with open_regular(path) as file:
        held = file.read(LARGEST + 1)
    if len(held) > LARGEST:
        raise InputError(f"'{path}' is larger than {LARGEST >> 20} MiB, which no study is: name the folder of a study")
    try:
        found: Study = _build(Study, json.loads(held), "study")
    except (ValueError, RecursionError, _WrongError) as e:
        raise InputError(f"'{path}' is not the result of a study ({e}): run without --resume to make a new one") from e
    return found


def _build(kind: Any, value: Any, where: str) -> Any:
    """A value of a type, from JSON; strict, so that what is read prints like what was written."""
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    if origin is Union or origin is types.UnionType:
        return _first(get_args(kind), value, where)
    if origin is tuple:
        return _row(get_args(kind), value, where)
    if origin is Literal:
        good = value in get_args(kind) if isinstance(value, str) else False
        return value if good else _wrong(where, f"one of {', '.join(get_args(kind))}")
    if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
        inside = get_args(kind)[1]
        if not isinstance(value, dict):
            _wrong(where, "an object")
        return {k: _build(inside, v, f"{where}.{k}") for k, v in value.items()}
    if kind is float:
        return _float(value, where)
    if kind is Any:
        return value
    good = value is None if kind is type(None) else type(value) is kind
    return value if good else _wrong(where, getattr(kind, "__name__", str(kind)))


def _record(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        _wrong(where, "an object")
    types_ = typing.get_type_hints(kind)
    missing = [
        f.name
        for f in dataclasses.fields(kind)
        if f.name not in value and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing or not value.keys() <= types_.keys():
        _wrong(where, f"the fields {', '.join(types_)}")
    return kind(**{name: _build(types_[name], v, f"{where}.{name}") for name, v in value.items()})


def _first(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    for kind in kinds:
        try:
            return _build(kind, value, where)
        except _WrongError:
            continue
    return _wrong(where, "another kind of value")


def _row(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        _wrong(where, "a list")
    if kinds[-1] is Ellipsis:
        return tuple(_build(kinds[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if len(kinds) != len(value):
        _wrong(where, f"{len(kinds)} values")
    return tuple(_build(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))


def _float(value: Any, where: str) -> float:
    if type(value) in (int, float):
        return float(value)
    if value in ("inf", "-inf", "nan"):
        return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[value]
    found: float = _wrong(where, "a number")
    return found


def _wrong(where: str, needed: str) -> Any:
    raise _WrongError(f"{where[:200]} should be {needed}")
