"""JSON text that any reader accepts."""

from __future__ import annotations

import json
import math
from typing import Any


def dumps(value: Any) -> str:
    """JSON with two spaces, NaN and infinities as words, and no character in it that a terminal would obey."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False)
    # Only names can hold such characters, and inside a string JSON writes any of them as an escape.
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1].replace("\x7f", "\\u007f") for c in text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)
