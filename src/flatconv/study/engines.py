"""The engines of the study, for networks of one input and one output: those of ``flatconv.bench`` with its needs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor, nn

from flatconv import runtimes
from flatconv.bench import engines
from flatconv.bench.engines import forget
from flatconv.bench.sides import Side

Engine = Literal["eager", "compile", "onnxruntime"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
NAMES: dict[Engine, str] = {e: engines.NAMES[e] for e in ENGINES}

Call = Callable[[], Tensor]

__all__ = ["ENGINES", "NAMES", "Call", "Engine", "forget", "prepare"]


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
    with tempfile.TemporaryDirectory(prefix="flatconv-study-") as folder:
        if engine != "onnxruntime":
            return engines.prepare(engine, Side("study", model, (given,)), Path(folder))
        engines.require(engine, ("study", "flatconv study"))
        path = Path(folder) / "model.onnx"
        runtimes.to_onnx(model, [given], path)
        call = runtimes.onnxruntime(path, [given], keeps_memory)
    return lambda: call()[0]
