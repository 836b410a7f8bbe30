"""How a number comes about: engines, alternating rounds, memory in a process of its own, medians with their spread."""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from networks import Network

THREADS = 2
ENGINES = {"eager": "PyTorch eager", "compile": "torch.compile", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
SIDES = ("original", "fold", "hand", "hand_channels_last")
TOLERANCE = 5e-5  # of an output, against the largest magnitude in it; two orders of sums in float32 differ by some 5e-6
MIB = 2**20
BUDGET = 240.0
"""Seconds, about, for choosing the forms of a fold."""
# As it comes, malloc keeps up to some 64 MiB of freed tensors for later, so the peak is that of the tensors and of its
# habits. Given a fixed threshold, it hands every large freed tensor back, and the peak is that of the tensors.
ALLOCATORS: dict[str, dict[str, str]] = {"default": {}, "returning": {"MALLOC_MMAP_THRESHOLD_": "131072"}}

Call = Callable[[], Tensor]
Numbers = dict[str, Any]


@dataclass(frozen=True)
class Protocol:
    """How often something is done.

    Attributes:
        warmup: calls of every side before the first round.
        rounds: the fewest rounds.
        most: the most rounds.
        seconds: the time after which no further round begins, once there are enough.
        processes: processes a memory figure is the median of.
        exports: rounds of the fold-time comparison.
    """

    warmup: int = 4
    rounds: int = 12
    most: int = 60
    seconds: float = 25.0
    processes: int = 3
    exports: int = 5


QUICK = Protocol(warmup=1, rounds=2, most=2, seconds=0.0, processes=1, exports=1)


def pin(threads: int = THREADS) -> list[int]:
    """Keeps this process on its first `threads` CPUs and PyTorch on as many threads; returns the CPUs."""
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cpus)
    torch.set_num_threads(threads)
    return cpus


def summary(values: list[float], digits: int = 4) -> Numbers:
    """The median of the values, the quartiles and extremes around it, and how many they are."""
    low, high = values[0], values[0]
    if len(values) > 1:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    spread = {"q1": low, "q3": high, "min": min(values), "max": max(values)}
    rounded = {"median": statistics.median(values), **spread}
    return {name: round(value, digits) for name, value in rounded.items()} | {"n": len(values)}


def sentence(error: BaseException, length: int = 300) -> str:
    """What an error says, on one line: its type and its first paragraph."""
    paragraph = " ".join(str(error).strip().split("\n\n")[0].split())
    text = f"{type(error).__name__}: {paragraph}"
    return text if len(text) <= length else text[: length - 1] + "…"


# Sides: the same network in the forms that are compared.


def module(network: Network, side: str, engine: str = "eager") -> nn.Module:
    """One form of a network. What it was made from is free to go when this returns.

    The fold takes the forms that are chosen by timing in the engine.
    """
    original = network.original()
    if side == "original":
        return original
    if side == "fold":
        import flatconv

        return flatconv.fold(original, (network.example(),), tune=flatconv.Tuning(engine, BUDGET), verify=False)  # type: ignore[arg-type]
    flat = network.by_hand(original)
    return flat.to(memory_format=torch.channels_last) if side == "hand_channels_last" else flat


def given(network: Network, side: str) -> Tensor:
    """The input of one form: the image with its depth of 1, or of rank 4 for the forms by hand."""
    image = network.example()
    if not side.startswith("hand"):
        return image
    layout = torch.channels_last if side == "hand_channels_last" else torch.contiguous_format
    return image.squeeze(2).contiguous(memory_format=layout)


def sides_of(engine: str) -> tuple[str, ...]:
    """The forms an engine is given. An ONNX file has no memory format, so there the form by hand is one."""
    return SIDES if engine in ("eager", "compile") else SIDES[:3]


# Engines: each turns a form of a network into a call without arguments. They are those of `flatconv bench`.


def prepare(network: Network, side: str, engine: str, workdir: Path) -> Call:
    """A call of one form in one engine, ready to be timed."""
    from flatconv.bench import engines
    from flatconv.bench.sides import Side

    form = Side(f"{network.name}.{side}", module(network, side, engine), (given(network, side),))
    call = engines.prepare(engine, form, workdir)
    return call if engine in ("eager", "compile") else lambda: call()[0]


def relative_error(output: Tensor, reference: Tensor) -> float:
    """The largest difference over the largest magnitude of the reference; infinite when a shape or value is off."""
    if output.numel() != reference.numel():
        return float("inf")
    difference = (output.double().reshape(reference.shape) - reference.double()).abs().max().item()
    return difference / reference.double().abs().max().item() if difference == difference else float("inf")


# Time.


def time_engine(network: Network, engine: str, protocol: Protocol, workdir: Path) -> Numbers:
    """Milliseconds of every side in one engine, and their ratios, from rounds in which each side has one turn.

    A side that the engine refuses, or whose output is not the original's in eager PyTorch, has an `error` and no time.
    """
    sides: dict[str, Numbers] = {}
    calls: dict[str, Call] = {}
    with torch.inference_mode():
        reference = network.original()(network.example())
    for side in sides_of(engine):
        start = time.perf_counter()
        try:
            call = prepare(network, side, engine, workdir)
            with torch.inference_mode():
                error = relative_error(call(), reference)
        except Exception as reason:
            sides[side] = {"error": sentence(reason)}
            continue
        sides[side] = {"relative_error": float(f"{error:.2g}"), "prepare_s": round(time.perf_counter() - start, 2)}
        if error > TOLERANCE:
            sides[side]["error"] = f"not timed: its relative error {error:.2g} is above {TOLERANCE:g}"
        else:
            calls[side] = call
    before = clocks()
    with torch.inference_mode():
        taken = alternate(calls, protocol)
    others = share_of_others(before)
    for side, seconds in taken.items():
        sides[side]["ms"] = summary([1e3 * s for s in seconds])
    return {"tolerance": TOLERANCE, "others": others, "sides": sides, "ratios": ratios(taken)}


def clocks() -> tuple[float, float, float]:
    """Seconds so far: on the wall, that the CPUs of this process were busy, and that it kept them busy itself."""
    pinned = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    rows = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    # user, nice, system, then idle and waiting for a disk, then interrupts and what other guests of the host took.
    ticks = sum(sum(map(int, row[1:4] + row[6:9])) for row in rows if row[0] in pinned)
    return time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()


def share_of_others(before: tuple[float, float, float]) -> float:
    """The part of this process's CPUs that others took since: above a few percent, do not trust the times."""
    wall, busy, own = (now - then for now, then in zip(clocks(), before, strict=True))
    return round(max(0.0, busy - own) / (wall * len(os.sched_getaffinity(0))), 3)


def alternate(calls: dict[str, Callable[[], Any]], protocol: Protocol) -> dict[str, list[float]]:
    """Seconds of every call, round by round; each round begins with another side, every other one runs backwards."""
    for call in calls.values():
        for _ in range(protocol.warmup):
            call()
    taken: dict[str, list[float]] = {side: [] for side in calls}
    begin = time.perf_counter()
    for order in _orders(list(calls), protocol.most if calls else 0):
        rounds = min(map(len, taken.values()))
        if rounds >= protocol.rounds and time.perf_counter() - begin > protocol.seconds:
            break
        for side in order:
            start = time.perf_counter()
            calls[side]()
            taken[side].append(time.perf_counter() - start)
    return taken


def _orders(sides: list[str], rounds: int) -> Iterator[list[str]]:
    for number in range(rounds):
        first = number // 2 % len(sides)
        order = sides[first:] + sides[:first]
        yield order if number % 2 == 0 else order[::-1]


def ratios(taken: dict[str, list[float]]) -> Numbers:
    """Medians of the ratios within a round: the original over the others, and the fold over the forms by hand."""
    pairs = [("original", side) for side in SIDES[1:]] + [("fold", side) for side in SIDES[2:]]
    found = {}
    for above, below in pairs:
        if above in taken and below in taken:
            each = [a / b for a, b in zip(taken[above], taken[below], strict=True)]
            found[f"{above}/{below}"] = summary(each)
    return found


# Memory. One side, one process.


def measure_memory(network: Network, side: str, small: Network) -> Numbers:
    """Bytes that eager calls of one side need above the process with the model in it; needs a process of its own.

    The process has called the same network in a `small` size before. `first_call` is the first call of the size that is
    measured, `later_call` the one after it. Free memory goes back to the system before each, so that none of it is used
    again unseen.
    """
    _wake(small)
    form, image = module(network, side), given(network, side)
    numbers: Numbers = {"weights": weights(form)}
    for call in ("first_call", "later_call"):
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far: see proc(5)
        rest = _status("VmRSS")
        with torch.inference_mode():
            form(image)
        numbers[call] = _status("VmHWM") - rest
        numbers.setdefault("rest", rest)
    return numbers


def memory(runs: dict[str, list[Numbers]]) -> Numbers:
    """The bytes of one side over its processes, for each way of allocating."""
    numbers: Numbers = {}
    for allocator, processes in runs.items():
        for process in processes:
            if "error" in process:
                return process
        calls = ("rest", "first_call", "later_call")
        numbers[allocator] = {call: summary([process[call] for process in processes], 0) for call in calls}
        numbers["weights"] = processes[0]["weights"]
    return numbers


def memory_ratios(sides: Numbers) -> Numbers:
    """Bytes of the other sides over those of the original."""
    found: Numbers = {}
    original = sides["original"]
    for side in SIDES[1:]:
        if "error" in original or "error" in sides[side]:
            continue
        ratio: Numbers = {"weights": round(sides[side]["weights"] / original["weights"], 4)}
        for allocator in ALLOCATORS:
            both = {
                call: (sides[side][allocator][call], original[allocator][call]) for call in ("first_call", "later_call")
            }
            ratio[allocator] = {call: _quotient(*pair) for call, pair in both.items()}
        found[f"{side}/original"] = ratio
    return found


def _quotient(this: Numbers, that: Numbers) -> Numbers:
    # The processes are not paired, so the spread is the widest that the extremes allow.
    ends = {"min": this["min"] / that["max"], "max": this["max"] / that["min"]}
    return {name: round(value, 4) for name, value in ({"median": this["median"] / that["median"]} | ends).items()}


def _wake(small: Network) -> None:
    # Threads, kernels and the pages of their code come into memory on first use, and what a side did before its first
    # call (folding runs operators, too) must not decide whether that is counted. So every process begins with them.
    original, image = small.original(), small.example()
    flat = small.by_hand(original)
    with torch.inference_mode():
        original(image)
        for layout in (torch.contiguous_format, torch.channels_last):
            flat.to(memory_format=layout)(image.squeeze(2).contiguous(memory_format=layout))


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise LookupError(f"/proc/self/status has no {field}: memory can be measured on Linux only")


def weights(form: nn.Module) -> int:
    """Bytes of the storages behind the parameters, buffers and constants of a module, each counted once.

    Storages, not tensors: a view of one tap keeps all taps of the kernel in memory.
    """
    storages: dict[int, int] = {}
    for part in form.modules():
        for tensor in _tensors(vars(part)):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(storages.values())


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


# The time it takes to fold.


def time_fold(network: Network, protocol: Protocol) -> Numbers:
    """Seconds of `audit` and of `fold` without verification, against `torch.export.export` of the same model."""
    import flatconv

    model, image = network.original(), network.example()
    free = (dict.fromkeys((0, 3, 4), torch.export.Dim.AUTO),)
    pair = network.example(batch=2)
    calls: dict[str, Callable[[], Any]] = {
        "export_static": lambda: torch.export.export(model, (image,), strict=False),
        "export_dynamic": lambda: torch.export.export(model, (pair,), dynamic_shapes=free, strict=False),
        "audit": lambda: flatconv.audit(model, (image,)),
        "fold": lambda: flatconv.fold(model, (image,), tune=False, verify=False),
        "fold_static": lambda: flatconv.fold(model, (image,), tune=False, verify=False, dynamic=False),
    }
    once = Protocol(warmup=1, rounds=protocol.exports, most=protocol.exports)
    before = clocks()
    taken = alternate(calls, once)
    others = share_of_others(before)
    seconds = {name: summary(each) for name, each in taken.items()}
    numbers: Numbers = {"others": others, "seconds": seconds, "ratios": {}}
    for export in ("export_static", "export_dynamic"):
        for name in taken:
            if not name.startswith("export"):
                each = [a / b for a, b in zip(taken[name], taken[export], strict=True)]
                numbers["ratios"][f"{name}/{export}"] = summary(each)
    return numbers
