"""The corpus: a hand-made model for every trap of the design and for every case from the field.

python -m trust.traps        # lists them
"""

from __future__ import annotations

from trust.corpus import (
    borders,
    calls,
    declared,
    forms,
    moves,
    norms,
    numbers,
    pointwise,
    pools,
    reductions,
    refusals,
    shapes,
    sharing,
    spellings,
    taps,
    transposed,
)
from trust.trap import FIELD, SENTENCES, Trap

CORPUS: tuple[Trap, ...] = (
    *spellings.ALL,
    *borders.ALL,
    *taps.ALL,
    *transposed.ALL,
    *numbers.ALL,
    *pools.ALL,
    *norms.ALL,
    *pointwise.ALL,
    *moves.ALL,
    *shapes.ALL,
    *reductions.ALL,
    *sharing.ALL,
    *forms.ALL,
    *refusals.ALL,
    *calls.ALL,
    *declared.ALL,
)


def named(name: str) -> Trap:
    """The trap of that name."""
    return next(t for t in CORPUS if t.name == name)


def main() -> None:
    """List the corpus."""
    for key, sentence in (SENTENCES | FIELD).items():
        members = [t.name for t in CORPUS if t.trap == key]
        print(f"{sentence}\n    {', '.join(members)}")


if __name__ == "__main__":
    main()
