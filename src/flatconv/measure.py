"""Speed and memory of a model and its fold, side by side.

Time: both alternately in one process, medians. Memory: the highest resident size during a call above the size before it,
each side in a process of its own; on a GPU what torch had allocated there, above what it had before.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    taken = alternate((original, folded), budget)
    ratios = [a / b for a, b in zip(*taken, strict=True)]
    median = statistics.median
    return Timing(median(taken[0]), median(taken[1]), median(ratios), middle_half(ratios), len(ratios))


def middle_half(values: Sequence[float]) -> tuple[float, float]:
    """The ends of what is left without the lowest and the highest quarter."""
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return ordered[quarter], ordered[-1 - quarter]


def alternate(
    calls: Sequence[Callable[[], object]],
    budget: float,
    *,
    least: int = 5,
    most: int = 50,
    warmup: int = 1,
    turn: float = 0.0,
    settle: Callable[[], object] = lambda: None,
) -> tuple[list[float], ...]:
    """Seconds of each call in rounds in which every one has its turn.

    Args:
        calls: what is timed.
        budget: seconds after which no further round begins, once there are enough.
        least: rounds, even if they take longer.
        most: rounds, even if there is time for more.
        warmup: calls of each before the first round.
        turn: seconds that a turn lasts at least; a shorter call is repeated in it, and its mean counts.
        settle: waits until all that was called is done, before and after each turn: a GPU works on by itself.

    Returns:
        For each call its seconds, round by round: the i-th of all lists are of one round.
    """
    with torch.inference_mode():
        repeats = [_repeats(call, warmup, turn, settle) for call in calls]
        taken: tuple[list[float], ...] = tuple([] for _ in calls)
        started = time.perf_counter()
        for number in range(most):
            if number >= least and time.perf_counter() - started > budget:
                break
            # The order turns round, so that no side always runs on another's warm caches.
            for i in range(len(calls)) if number % 2 else reversed(range(len(calls))):
                settle()
                begun = time.perf_counter()
                for _ in range(repeats[i]):
                    calls[i]()
                settle()
                taken[i].append((time.perf_counter() - begun) / repeats[i])
    return taken


def _repeats(call: Callable[[], object], warmup: int, turn: float, settle: Callable[[], object]) -> int:
    """Warm up, and find how many calls fill a turn. The fastest counts: the first may have to compile."""
    fastest = math.inf
    for _ in range(max(warmup, 1)):
        settle()
        begun = time.perf_counter()
        call()
        settle()
        fastest = min(fastest, time.perf_counter() - begun)
    return max(1, math.ceil(turn / max(fastest, 1e-9)))


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")


def clocks() -> tuple[float, float, float, int] | None:
    """Seconds: on the wall, of all processors at work, of this process; and the number of processors."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    rows = [line.split() for line in stat.read_text().splitlines() if line.startswith("cpu")]
    # User, nice and system, then, behind idle and waiting for a disk, interrupts and what other guests of the host took.
    busy = sum(map(int, rows[0][1:4] + rows[0][6:9])) / 100
    return time.perf_counter(), busy, time.process_time(), len(rows) - 1


def others(before: tuple[float, ...] | None, after: tuple[float, ...] | None) -> float | None:
    """The part of the processors that other processes took between two ``clocks``; None where the system does not tell."""
    if before is None or after is None:
        return None
    wall, busy, own = (b - a for a, b in zip(before[:3], after[:3], strict=True))
    return max(0.0, busy - own) / max(wall * after[3], 1e-9)


def peak_on_gpu(call: Callable[[], object]) -> int:
    """Bytes that a later call needs on the current GPU above what is held before it.

    A later one: the first looks for algorithms, and tries some that take more.
    """
    with torch.inference_mode():
        for _ in range(2):
            call()
        torch.cuda.synchronize()
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def peak_memory(call: Callable[[], object], *, collect: bool = True) -> int | None:
    """Bytes of resident memory that one call needs above what is held before it; None where the system does not tell."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.exists() or not reset.exists():
        return None
    if collect:
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
        side: 'original', 'folded' or 'reference'.
    """
    threads = str(torch.get_num_threads())
    found = in_process(["flatconv.cli", "peak", *arguments, "--side", side, "--threads", threads])
    return found if isinstance(found, int) else None


def in_process(arguments: Sequence[str], variables: Mapping[str, str] | None = None) -> Any:
    """What a module that is run in a fresh process writes as JSON in its last line; None if it fails.

    Args:
        arguments: the module's name and its arguments.
        variables: of the environment, on top of this process's own.
    """
    ran = subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | dict(variables or {}),
    )
    if ran.returncode:
        return None
    try:
        return json.loads(ran.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return None
