"""Speed and memory of a model and its fold, side by side.

Time: both alternately in one process, medians. Memory: the highest resident size during a call above the size before it,
each side in a process of its own.
"""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn


@dataclass(frozen=True)
class Timing:
    """Seconds of calls made alternately.

    Attributes:
        original: medians, seconds.
        folded: medians, seconds.
        ratio: median over rounds of original / folded.
        spread: the middle half of those ratios.
        rounds: number of them.
    """

    original: float
    folded: float
    ratio: float
    spread: tuple[float, float]
    rounds: int


def timing(original: Callable[[], object], folded: Callable[[], object], budget: float = 20.0) -> Timing:
    """Call both alternately for about ``budget`` seconds, at least five times each after a warm-up."""
    sides = (original, folded)
    with torch.inference_mode():
        for call in sides:
            call()
        taken: tuple[list[float], list[float]] = ([], [])
        started = time.perf_counter()
        while len(taken[0]) < 5 or (time.perf_counter() - started < budget and len(taken[0]) < 50):
            # The order turns round, so that neither side always runs on the other's warm caches.
            for i in (0, 1) if len(taken[0]) % 2 else (1, 0):
                begun = time.perf_counter()
                sides[i]()
                taken[i].append(time.perf_counter() - begun)
    ratios = sorted(a / b for a, b in zip(*taken, strict=True))
    quarter = len(ratios) // 4
    return Timing(
        statistics.median(taken[0]),
        statistics.median(taken[1]),
        statistics.median(ratios),
        (ratios[quarter], ratios[-1 - quarter]),
        len(ratios),
    )


def peak_memory(call: Callable[[], object]) -> int | None:
    """Bytes of resident memory that one call needs above what is held before it; None where the system does not tell."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.exists() or not reset.exists():
        return None
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        reset.write_text("5")
    except OSError:
        return None
    before = _kilobytes(status, "VmRSS")
    with torch.inference_mode():
        call()
    return (_kilobytes(status, "VmHWM") - before) * 1024


def _kilobytes(status: Path, field: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1])


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers, shared ones once."""
    held = {t.data_ptr(): t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())}
    return sum(held.values())


def peak_in_process(arguments: Sequence[str], side: str) -> int | None:
    """``peak_memory`` of one side in a fresh process.

    Args:
        arguments: of the command line: SPEC and inputs.
        side: 'original' or 'folded'.
    """
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "flatconv.cli",
            "peak",
            *arguments,
            "--side",
            side,
            "--threads",
            str(torch.get_num_threads()),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        return None
    found = json.loads(ran.stdout.strip().splitlines()[-1])
    return found if isinstance(found, int) else None
