"""What the device says of itself: its name, and the memory that a call needs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from flatconv.measure import peak_memory, processor


def device_name(device: torch.device) -> str:
    """What computes: the GPU's name, or the processor's."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{processor()} ({torch.backends.cpu.get_cpu_capability()})"


def peak(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that one call needs above what is held before it; None where that cannot be told."""
    if device.type != "cuda":
        return peak_memory(call, collect=False)  # in a large process a collection takes longer than the call
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def works(call: Callable[[], object]) -> bool:
    """Whether a call runs at all: a device may lack a kernel for a form or a memory format, or the memory for it."""
    try:
        with torch.inference_mode():
            call()
    except (RuntimeError, NotImplementedError):
        return False
    return True


def synchronised(call: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """The call, at the end of which its work is done."""
    if device.type != "cuda":
        return call

    def waited() -> object:
        made = call()
        torch.cuda.synchronize(device)
        return made

    return waited
