"""What a mutant is: one wrong line in a copy of the product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A deliberately wrong version of the product.

    Attributes:
        name: unique.
        trap: which sentence of the design it falls into, by its short name in ``trust.trap``.
        file: in the package.
        old: text that occurs exactly once in the file.
        new: what stands there instead.
        why: what is wrong about it.
    """

    name: str
    trap: str
    file: str
    old: str
    new: str
    why: str

    def apply(self, source: str) -> str:
        """The file with the mistake in it.

        Raises:
            ValueError: the text does not occur exactly once: the file has changed, and so must the mutant.
        """
        count = source.count(self.old)
        if count != 1:
            raise ValueError(
                f"mutant '{self.name}': its text occurs {count} times in {self.file}, not once: {self.old!r}"
            )
        return source.replace(self.old, self.new)


def of(file: str) -> Callable[[str, str, str, str, str], Mutant]:
    """Mutants of one file: name, trap, old, new, why."""
    return lambda name, trap, old, new, why: Mutant(name, trap, file, old, new, why)
