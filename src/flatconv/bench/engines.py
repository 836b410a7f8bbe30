"""What runs a network: each engine turns a form of a model and its call into a call without arguments, ready to be timed."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from flatconv.bench.sides import Side
from flatconv.errors import MissingExtraError

Engine = Literal["eager", "compile", "onnxruntime", "openvino"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
NAMES: dict[Engine, str] = {
    "eager": "PyTorch eager",
    "compile": "torch.compile",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO (f32)",
}
EXTRA = ("bench", "flatconv bench")
"""The extra that brings the engines, and for what."""

Call = Callable[[], Any]


def forget() -> None:
    """Forget what was compiled. Too many forms of the same code, and ``torch.compile`` silently uses eager instead."""
    torch._dynamo.reset()


def unsuited(engine: Engine, device: str, dtype: torch.dtype) -> str:
    """Why an engine is not asked at all; empty if it is."""
    if engine in ("eager", "compile"):
        return ""
    if device != "cpu":
        return f"{NAMES[engine]} is measured on the CPU alone"
    if engine == "openvino" and dtype != torch.float32:
        return "OpenVINO is set to compute in float32"
    if dtype not in (torch.float32, torch.float16):
        return f"ONNX Runtime has no convolution in {str(dtype).removeprefix('torch.')} on the CPU"
    return ""


def prepare(engine: Engine, side: Side, folder: Path) -> Call:
    """A call of a side in an engine. Compilation may wait for the first call.

    Args:
        engine: its name.
        side: what it runs.
        folder: for the ONNX file, which both engines that read one share.

    Raises:
        MissingExtraError: the engine is not installed.
    """
    if engine == "eager":
        called, args, kwargs = side.called, side.args, side.kwargs
        return lambda: called(*args, **kwargs)
    if engine == "compile":
        called, args, kwargs = torch.compile(side.called, dynamic=False), side.args, side.kwargs
        return lambda: called(*args, **kwargs)
    require(engine)
    path = folder / f"{side.name}.onnx"
    module, tensors = side.flat()
    if not path.exists():
        to_onnx(module, tensors, path)
    return (onnxruntime if engine == "onnxruntime" else openvino)(path, tensors)


def require(engine: Engine, extra: tuple[str, str] = EXTRA) -> None:
    """Say what is missing for an engine.

    Args:
        engine: its name.
        extra: the extra that brings it, and for what.

    Raises:
        MissingExtraError: a package of it cannot be imported.
    """
    if engine in ("onnxruntime", "openvino"):
        for name in (engine, "onnx", "onnxscript"):
            try:
                importlib.import_module(name)
            except ImportError as e:
                raise MissingExtraError(name, *extra) from e


def to_onnx(module: nn.Module, tensors: Sequence[Tensor], path: Path) -> None:
    """Write a module of tensors as an ONNX file."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of packages that it could do more with
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, tuple(tensors), path, dynamo=True, verbose=False)
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
