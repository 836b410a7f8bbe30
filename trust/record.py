"""What every file of results says of itself: commit, versions, date, command, settings, seeds."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def header(module: str, argv: Sequence[str], settings: Mapping[str, Any], start: int, count: int) -> dict[str, Any]:
    """The facts about a run.

    Args:
        module: what was run with ``python -m``.
        argv: its arguments.
        settings: constants that decide the figures.
        start: first seed.
        count: number of seeds.
    """
    return {
        "command": " ".join(["python", "-m", module, *argv]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _git("rev-parse", "HEAD"),
        # Results themselves, and what this run is writing, are no part of what was tested.
        "dirty": bool(_git("status", "--porcelain", "--", "src", "trust", ":!trust/results")),
        "flatconv": metadata.version("flatconv"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "settings": dict(settings),
        "seeds": [start, start + count],
    }


def write(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON that reads well and ends with a newline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
