"""What a window shows where it sticks out of the source: one policy for each word.

Frames a b c d, a window of positions −2 … 5:

    replicate   a a|a b c d|d d
    reflect     c b|a b c d|c b     the border frame is not shown twice
    pad         0 0|a b c d|0 0     zeros, in the source's own units
    drop        such a window is not made
    error       such a window is refused
"""

from __future__ import annotations

from flatconv.errors import InputError

EDGES = ("pad", "drop", "replicate", "reflect", "error")


def check_edge(edge: str, allowed: tuple[str, ...] = EDGES) -> None:
    """Refuse a policy that is not known here.

    Raises:
        InputError: it is not one of ``allowed``.
    """
    if edge not in allowed:
        raise InputError(f"edge={edge} is unknown here: it may be {', '.join(allowed)}")


def resolve(position: int, frames: int, edge: str) -> int | None:
    """The frame that stands at a position, which may lie outside.

    Args:
        position: in the source's own count, negative in front of it.
        frames: of the source, at least one.
        edge: what is done outside.

    Returns:
        The index of a frame; None for zeros.
    """
    if 0 <= position < frames:
        return position
    if edge == "replicate":
        return 0 if position < 0 else frames - 1
    if edge == "reflect":
        period = max(2 * (frames - 1), 1)
        at = position % period
        return min(at, period - at) if frames > 1 else 0
    return None
