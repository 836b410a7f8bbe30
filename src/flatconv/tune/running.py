"""The original and its folds as calls in the engine that will run them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flatconv import runtimes
from flatconv.capture import Capture
from flatconv.errors import RefusedError, first_line
from flatconv.module import Folded
from flatconv.onnx_in import OnnxModel
from flatconv.signature import Flat, method_of
from flatconv.tune.device import peak, synchronised
from flatconv.tune.results import RUNTIMES, Engine

Call = Callable[[], object]


class Running:
    """Makes calls of modules on the example.

    Attributes:
        files: whether the engine is a runtime that reads files, which have to be written first.
    """

    def __init__(self, captured: Capture, engine: Engine, device: torch.device) -> None:
        self.files = engine in RUNTIMES
        self._captured = captured
        self._engine = engine
        self._device = device
        if self.files:
            extra = "onnx" if engine == "onnxruntime" else "bench"
            runtimes.require(engine, "onnx", extra=(extra, f"timing in {RUNTIMES[engine]}"))
            if device.type != "cpu":
                raise RefusedError(
                    f"forms for {RUNTIMES[engine]} are timed on the CPU, and the example is on {device}: move the model and "
                    "the example to the CPU, or take tune=flatconv.Tuning('onnx'), a fixed choice"
                )

    def original(self) -> Call:
        """The original's own call, as the user makes it without flatconv.

        Raises:
            RefusedError: the engine does not run it.
        """
        captured = self._captured
        if self.files:
            try:
                return self._written(captured.model, captured.method)
            except Exception as e:
                raise RefusedError(
                    f"{RUNTIMES[self._engine]} does not run the original, so no form can be held against it "
                    f"({type(e).__name__}: {first_line(e)}): take tune=flatconv.Tuning('onnx'), a fixed choice"
                ) from e
        args, kwargs = captured.inputs.arguments(captured.example)
        called: Callable[..., object] = method_of(captured.model, captured.method)
        if self._engine == "compile":
            called = torch.compile(called)
        return synchronised(lambda: called(*args, **kwargs), self._device)

    def folded(self, flat: Folded) -> Call:
        """A fold, called as the user will call it: its checks of the inputs count, too."""
        if self.files:
            return self._once_written(flat)
        called: Callable[..., object] = torch.compile(flat) if self._engine == "compile" else flat
        args, kwargs = self._captured.inputs.arguments([t.clone() for t in self._captured.example])
        return synchronised(lambda: called(*args, **kwargs), self._device)

    def peak(self, call: Call) -> int | None:
        """Bytes that a call needs; None where that cannot be told, as of runtimes, which keep what they once had."""
        return None if self.files else peak(call, self._device)

    def versions(self) -> dict[str, str]:
        """Of what writes the files and of what reads them: times depend on both."""
        return {name: metadata.version(name) for name in (self._engine, "onnx", "onnxscript")}

    def _once_written(self, flat: Folded) -> Call:
        """A call that writes its file when it is first made, since an engine may refuse it as it may fail to run it."""
        made: list[Call] = []

        def call() -> object:
            if not made:
                try:
                    made.append(self._written(flat, "forward"))
                except Exception as e:
                    raise RuntimeError(f"{type(e).__name__}: {first_line(e)}") from e
            return made[0]()

        return call

    def _written(self, module: nn.Module, method: str) -> Call:
        """The call of a module's file, with the example's sizes; a network that was read from a file is that file."""
        run: Any = getattr(runtimes, self._engine)
        tensors = [t.detach() for t in self._captured.example]
        if isinstance(module, OnnxModel) and module.file is not None:
            call: Call = run(module.file, tensors)
            call()
            return call
        # A runtime may keep the file open as long as it lives, which some systems do not let go.
        with tempfile.TemporaryDirectory(prefix="flatconv-", ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "model.onnx"
            runtimes.to_onnx(Flat(module, method, self._captured.inputs), tensors, path)
            call = run(path, tensors)
            call()
        return call
