"""Everything flatconv raises on purpose.

Every message says what was given, what was needed, where, and what to do next. The command line turns each class into
its exit code, so the code lives with the class.
"""

from __future__ import annotations

LONGEST = 4000


def plain(text: object) -> str:
    """Text for people: names and messages come from models and files, and what a terminal would obey is shown, not sent.

    Control characters, line ends, marks that turn the direction of writing and everything else that has no shape of its own
    are written as escapes.
    """
    text = str(text)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def first_line(error: BaseException) -> str:
    """What somebody else's exception says, short enough for a sentence."""
    try:
        text = str(error).strip()
    except Exception:
        return "no message that can be read"
    return text.splitlines()[0][:300] if text else "no message"


class FlatconvError(Exception):
    """Root of all errors raised by flatconv. The message is one printable line."""

    exit_code = 2

    def __init__(self, message: object) -> None:
        text = plain(str(message)[:LONGEST])
        super().__init__(text if len(text) <= LONGEST else f"{text[:LONGEST]} …")


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


class PrecisionError(VerificationError):
    """The rewritten model is right in float64, and much less accurate than the original in its own type."""


class GuardError(FlatconvError):
    """A folded model was called with inputs it was not folded for."""
