"""ONNX files, and what runs them."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flatconv.accuracy import spread
from flatconv.errors import MissingExtraError

PACKAGES = {"onnx": ("onnx", "onnxscript"), "onnxruntime": ("onnxruntime",), "openvino": ("openvino",)}

LIMITS = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 2e-1}
"""Root mean square of the difference over that of the result: other kernels round in another order."""


def require(*names: str, extra: tuple[str, str]) -> None:
    """Say what is missing.

    Args:
        names: of ``PACKAGES``.
        extra: the extra that brings it, and for what.

    Raises:
        MissingExtraError: a package of it cannot be imported.
    """
    for package in (p for name in names for p in PACKAGES[name]):
        try:
            importlib.import_module(package)
        except ImportError as e:
            raise MissingExtraError(package, *extra) from e


def to_onnx(module: nn.Module, tensors: Sequence[Tensor], path: Path, **options: Any) -> None:
    """Write a module of tensors, or a program of torch.export, as an ONNX file."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of packages that it could do more with
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, tuple(tensors), path, dynamo=True, verbose=False, **options)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        log.setLevel(level)


def onnxruntime(path: Path, tensors: Sequence[Tensor], keeps_memory: bool = True) -> Callable[[], tuple[Tensor, ...]]:
    """A call of an ONNX file in ONNX Runtime.

    Args:
        path: of the file.
        tensors: its inputs, in order.
        keeps_memory: whether it may keep freed memory for later calls, as it does if left alone.
    """
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    # Between its own calls a session must not spin: it would take the processor from the side whose turn it is.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.enable_cpu_mem_arena = keeps_memory
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {given.name: tensor.numpy() for given, tensor in zip(session.get_inputs(), tensors, strict=True)}
    return lambda: tuple(torch.from_numpy(value) for value in session.run(None, feed))


def openvino(path: Path, tensors: Sequence[Tensor]) -> Callable[[], tuple[Tensor, ...]]:
    """A call of an ONNX file in OpenVINO, in float32: left alone it computes in bfloat16 where the processor can."""
    runtime = importlib.import_module("openvino")
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = runtime.Core().compile_model(path, "CPU", settings)
    request = compiled.create_infer_request()
    feed = [tensor.numpy() for tensor in tensors]
    count = len(compiled.outputs)

    def call() -> tuple[Tensor, ...]:
        made = request.infer(feed, share_inputs=True, share_outputs=True)
        return tuple(torch.from_numpy(made[i]) for i in range(count))

    return call


def apart(a: Tensor, b: Tensor) -> float:
    """Root mean square of the difference over that of b, infinite where shapes or types differ."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    return spread(a.detach().double(), b.detach().double()) if b.dtype.is_floating_point else spread(a, b)
