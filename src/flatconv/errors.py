"""Everything flatconv raises on purpose.

Every message says what was given, what was needed, where, and what to do next. The command line turns each class into
its exit code, so the code lives with the class.
"""

from __future__ import annotations


class FlatconvError(Exception):
    """Root of all errors raised by flatconv."""

    exit_code = 2


class InputError(FlatconvError):
    """The arguments, a file or a folder given by the user cannot be used."""


class MissingExtraError(InputError):
    """An optional package is needed for what was asked."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed: pip install 'flatconv[{extra}]'"
        )


class RefusedError(FlatconvError):
    """The model cannot be rewritten exactly, or cannot be captured at all. Nothing was changed."""

    exit_code = 3


class VerificationError(FlatconvError):
    """A rewritten model did not pass its checks. Nothing is written or returned."""

    exit_code = 4


class GuardError(FlatconvError):
    """A folded model was called with inputs it was not folded for."""
