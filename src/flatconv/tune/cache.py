"""Choices of forms, kept in the user's cache folder under a key that names everything they depend on.

A file holds names and times alone. Whatever is in it, only forms that are exact for the model at hand are ever taken.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sympy
import torch

from flatconv import forms
from flatconv.analyse import Analysis
from flatconv.errors import InputError
from flatconv.files import write
from flatconv.program import Node, concrete, transform

if TYPE_CHECKING:
    from flatconv.capture import Capture

Choice = tuple[str, bool]
"""Name of a form, and whether its convolutions work in channels-last."""
VERSION = 5


@dataclass(frozen=True)
class Stored:
    """What a file holds.

    Attributes:
        choices: in the order of the convolutions.
        joint: convolutions that are computed as one, by their places in that order.
        stays: whether the original was the fastest.
        told: the times.
    """

    choices: tuple[Choice, ...]
    joint: tuple[tuple[int, ...], ...]
    stays: bool
    told: dict[str, Any]


def folder() -> Path:
    """Where the files lie: ``$FLATCONV_CACHE``, or ``flatconv`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    given = os.environ.get("FLATCONV_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flatconv"


def key(
    captured: Capture,
    analysis: Analysis,
    settings: Mapping[str, Any],
    sizes: Mapping[sympy.Symbol, int],
    device: str,
) -> str:
    """A digest of everything that a choice depends on: the graph, sizes, types, device, threads, versions and settings."""
    nodes = []
    for node in captured.program.nodes:

        def name(value: Any) -> Any:
            return f"#{value.index}" if isinstance(value, Node) else value

        shape = None if node.shape is None else concrete(node.shape, sizes)
        nodes.append(f"{node.op} {shape} {node.dtype} {transform(node.args, name)}")
    plans = [f"{s.applied} {[(a.taps, a.first, a.dropped) for a in s.axes]}" for s in analysis.sites.values()]
    layouts = [f"{tuple(t.stride())} {t.dtype}" for t in captured.example]
    about = {
        "version": VERSION,
        "forms": list(forms.FORMS),
        "torch": torch.__version__,
        "device": device,
        "threads": torch.get_num_threads(),
        "matmul": torch.get_float32_matmul_precision(),
        "cudnn": [torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic],
        "settings": dict(settings),
    }
    text = json.dumps([about, nodes, plans, layouts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load(name: str, count: int) -> Stored | None:
    """What was stored for a key; None if there is nothing that can be used."""
    try:
        held = json.loads((folder() / f"{name}.json").read_text(encoding="utf-8"))
        choices = tuple((str(form), bool(last)) for form, last in held["choices"])
        joint = tuple(tuple(int(i) for i in bundle) for bundle in held["joint"])
        told = held["told"]
        used = (
            "engine",
            "device",
            "threads",
            "original",
            "original_peak",
            "trials",
            "sites",
            "chosen",
            "reason",
            "seconds",
        )
        if len(choices) != count or not all(part in told for part in used):
            return None
        return Stored(choices, joint, bool(held["stays"]), told)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store(
    name: str, choices: Sequence[Choice], joint: Sequence[Sequence[int]], stays: bool, told: Mapping[str, Any]
) -> None:
    """Keep a choice. A cache that cannot be written is no reason to fail."""
    held = {"choices": list(choices), "joint": list(joint), "stays": stays, "told": dict(told)}
    text = json.dumps(held, indent=1) + "\n"

    def save(place: Path) -> None:
        place.write_text(text, encoding="utf-8")

    try:
        folder().mkdir(parents=True, exist_ok=True)
        write(folder() / f"{name}.json", save, force=True)
    except (OSError, InputError):
        return
