"""What runs a network: each engine turns a form of a model and its call into a call without arguments, ready to be timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from flatconv import runtimes
from flatconv.bench.sides import Side
from flatconv.onnx_in import OnnxModel

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
        folder: for ONNX files: engines that read them share one of each module.

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
    module, tensors = side.flat()
    own = side.module.file if isinstance(side.module, OnnxModel) else None
    path = own or folder / f"{side.name} {id(side.module)}.onnx"
    if not path.exists():
        runtimes.to_onnx(module, tensors, path)
    return (runtimes.onnxruntime if engine == "onnxruntime" else runtimes.openvino)(path, tensors)


def require(engine: Engine, extra: tuple[str, str] = EXTRA) -> None:
    """Say what is missing for an engine.

    Args:
        engine: its name.
        extra: the extra that brings it, and for what.

    Raises:
        MissingExtraError: a package of it cannot be imported.
    """
    if engine in ("onnxruntime", "openvino"):
        runtimes.require(engine, "onnx", extra=extra)
