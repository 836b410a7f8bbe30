"""Ways to make depth, one a file; a new one is listed in ``STRATEGIES``."""

from __future__ import annotations

import re
from dataclasses import fields

from flatconv.errors import InputError
from flatconv.stack.strategies.bands import Bands
from flatconv.stack.strategies.base import Strategy
from flatconv.stack.strategies.bracket import Bracket
from flatconv.stack.strategies.pyramid import Pyramid
from flatconv.stack.strategies.single import Single
from flatconv.stack.strategies.slices import Slices
from flatconv.stack.strategies.time import Time

STRATEGIES: tuple[type[Strategy], ...] = (Single, Time, Slices, Bands, Pyramid, Bracket)
_BY_NAME = {s.NAME: s for s in STRATEGIES}


def read_strategy(how: str | Strategy) -> Strategy:
    """A strategy out of its text form: ``name``, ``name:number`` or ``name:number,key=value,…``.

    Raises:
        InputError: a word is unknown, is given twice, or its value does not fit.
    """
    if isinstance(how, Strategy):
        return how
    if not isinstance(how, str):
        raise InputError(f"a way to stack is needed, not {type(how).__name__}: one of {forms()}")
    name, colon, rest = how.strip().partition(":")
    kind = _BY_NAME.get(name)
    if kind is None:
        raise InputError(f"the way to stack '{_brief(name)}' is unknown: it may be {forms()}")
    # Fields in the order of the text form; the first is the number behind the colon.
    known = [f.name for f in fields(kind)]
    if (colon or rest) and not known:
        raise InputError(f"'{name}' takes nothing behind a colon: '{_brief(how)}'")
    given: dict[str, int | str] = {}
    for at, part in enumerate(rest.split(",") if colon else ()):
        key, equals, value = part.strip().partition("=")
        if not equals:
            key, value = (known[0], key) if at == 0 else (key, "")
        if key not in known or not value:
            raise InputError(f"'{_brief(part)}' in '{_brief(how)}' is unknown: '{name}' takes {_words(kind)}")
        if key in given:
            raise InputError(f"{key} is given twice in '{_brief(how)}'")
        given[key] = value if key == "edge" else _number(key, value, how)
    return kind(**given)


def forms() -> str:
    """The text forms of all strategies."""
    return ", ".join(f"{s.NAME}:N" if fields(s) else s.NAME for s in STRATEGIES)


def _words(kind: type[Strategy]) -> str:
    first, *others = [f.name for f in fields(kind)]
    return ", ".join([f"a number ({first})", *(f"{o}=…" for o in others)])


def _number(key: str, value: str, how: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", value):
        raise InputError(f"{key} in '{_brief(how)}' is '{_brief(value)}', and a whole number is needed")
    return int(value)


def _brief(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text):,} characters)"


__all__ = [
    "STRATEGIES",
    "Bands",
    "Bracket",
    "Pyramid",
    "Single",
    "Slices",
    "Strategy",
    "Time",
    "forms",
    "read_strategy",
]
