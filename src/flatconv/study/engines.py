"""What runs a network: each engine turns a module and an input into a call without arguments, ready to be timed."""

from __future__ import annotations

import importlib
import logging
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from flatconv.errors import MissingExtraError

Engine = Literal["eager", "compile", "onnxruntime"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
NAMES: dict[Engine, str] = {"eager": "PyTorch eager", "compile": "torch.compile", "onnxruntime": "ONNX Runtime"}

Call = Callable[[], Tensor]


def forget() -> None:
    """Forget what was compiled. Too many forms of the same code, and ``torch.compile`` silently uses eager instead."""
    torch._dynamo.reset()


def prepare(engine: Engine, model: nn.Module, given: Tensor, keeps_memory: bool = True) -> Call:
    """A call of a model in an engine. Compilation may wait for the first call.

    Args:
        engine: its name.
        model: in eval mode, of one input.
        given: (N, C, …).
        keeps_memory: whether the engine may keep freed memory for later calls, as ONNX Runtime does if left alone.

    Raises:
        MissingExtraError: the engine is not installed.
    """
    if engine == "onnxruntime":
        return _onnxruntime(model, given, keeps_memory)
    called: Callable[[Tensor], Tensor] = torch.compile(model, dynamic=False) if engine == "compile" else model
    return lambda: called(given)


def _onnxruntime(model: nn.Module, given: Tensor, keeps_memory: bool) -> Call:
    runtime = _package("onnxruntime")
    for needed in ("onnx", "onnxscript"):
        _package(needed)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    # Between its own calls a session must not spin: it would take the processor from the side whose turn it is.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.enable_cpu_mem_arena = keeps_memory
    with tempfile.TemporaryDirectory(prefix="flatconv-study-") as folder:
        path = Path(folder) / "model.onnx"
        _export(model, given, path)
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: given.numpy()}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


def _export(model: nn.Module, given: Tensor, path: Path) -> None:
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of packages that it could do more with
    try:
        with redirect_stdout(StringIO()):
            torch.onnx.export(model, (given,), path, dynamo=True, verbose=False)
    finally:
        log.setLevel(level)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise MissingExtraError(name, "study", "flatconv study") from e
