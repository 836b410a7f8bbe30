"""Where and with what numbers are made, and how a GPU is set before."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
from collections.abc import Iterator
from importlib import metadata

import torch

from flatconv import __version__
from flatconv.measure import processor

PACKAGES = ("onnx", "onnxscript", "onnxruntime", "openvino", "diffusers", "transformers", "monai")


def environment(device: str = "cpu") -> dict[str, str]:
    """Everything outside a plan that may change a number."""
    found = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "flatconv": __version__,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
    }
    if hasattr(os, "getloadavg"):
        found["load at the start"] = f"{os.getloadavg()[0]:.1f}"
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    if device != "cpu":
        found |= {
            "GPU": torch.cuda.get_device_name(device),
            "CUDA": str(torch.version.cuda),
            "cuDNN": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
            "cuDNN search": str(torch.backends.cudnn.benchmark),
            "TF32": str(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32),
        }
    return found


@contextlib.contextmanager
def set_up(device: str, threads: int | None) -> Iterator[None]:
    """Set torch for a measurement, and put everything back.

    On a GPU cuDNN searches for its fastest algorithms, as people who care for time let it, and float32 is float32: with TF32
    the two sides would round in their own ways.

    Args:
        device: where is measured.
        threads: of torch; None to leave them.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    count, before = torch.get_num_threads(), (cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32)
    if threads is not None:
        torch.set_num_threads(threads)
    if device != "cpu":
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False
    try:
        yield
    finally:
        torch.set_num_threads(count)
        if device != "cpu":
            cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before
