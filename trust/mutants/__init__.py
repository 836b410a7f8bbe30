"""The mutants, by what they are mutants of."""

from trust.mutant import Mutant
from trust.mutants import conv, forms, programs, rooms, rules, slices

MUTANTS: tuple[Mutant, ...] = (
    *conv.MUTANTS,
    *rules.MUTANTS,
    *forms.MUTANTS,
    *rooms.MUTANTS,
    *slices.MUTANTS,
    *programs.MUTANTS,
)
"""All of them."""

__all__ = ["MUTANTS", "Mutant"]
