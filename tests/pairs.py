"""Combinations of options that hold every pair of values at least once."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
Pair = tuple[tuple[str, Any], tuple[str, Any]]


def pairs_of(row: Mapping[str, Any]) -> set[Pair]:
    """Every two options of a row."""
    return set(itertools.combinations(row.items(), 2))


def pairwise(
    options: Mapping[str, Sequence[Any]], valid: Callable[[Row], bool], seed: int = 0, tries: int = 300
) -> list[Row]:
    """Rows that are valid and together hold every pair of values that some valid row holds.

    Each row starts from a pair that no row holds yet; of a few random ways to complete it, the one that adds most pairs is
    taken. A pair that cannot be completed in ``tries`` random ways is taken to be impossible.

    Args:
        options: the values of each option.
        valid: whether a whole row may be used.
        seed: another one completes the pairs in other ways.
        tries: random rows for each pair.
    """
    choose = random.Random(seed)
    missing = [
        ((a, x), (b, y))
        for a, b in itertools.combinations(options, 2)
        for x, y in itertools.product(options[a], options[b])
    ]
    choose.shuffle(missing)
    left = dict.fromkeys(missing)
    rows: list[Row] = []
    while left:
        wanted = next(iter(left))
        best: Row = {}
        for row in _completions(wanted, options, valid, choose, tries):
            if not best or _gain(row, left) > _gain(best, left):
                best = row
        left.pop(wanted)
        if best:
            rows.append(best)
            for pair in pairs_of(best):
                left.pop(pair, None)
    return rows


def _gain(row: Row, left: Mapping[Pair, None]) -> int:
    return sum(pair in left for pair in pairs_of(row))


def _completions(
    wanted: Pair, options: Mapping[str, Sequence[Any]], valid: Callable[[Row], bool], choose: random.Random, tries: int
) -> list[Row]:
    found: list[Row] = []
    for _ in range(tries):
        row = {name: choose.choice(values) for name, values in options.items()} | dict(wanted)
        if valid(row):
            found.append(row)
        if len(found) == 20:
            break
    return found
