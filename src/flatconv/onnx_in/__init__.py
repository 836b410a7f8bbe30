"""ONNX files that other frameworks wrote, read as modules of torch that everything else here can fold.

    graph of a file (reader) → one function for each operator (operators/) → OnnxModel (model) → torch.export, as any module

What a graph computes of sizes is computed on numbers (arithmetic), so that sizes stay free where the file leaves them free.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flatconv.onnx_in.model import OnnxModel
from flatconv.onnx_in.reader import read

__all__ = ["OnnxModel", "load"]


def load(path: Any) -> OnnxModel:
    """A file's network as a module, in eval mode.

    Raises:
        InputError: it is no valid ONNX file.
        RefusedError: it holds something that is not read.
        MissingExtraError: onnx is not installed.
    """
    model: OnnxModel = OnnxModel(read(Path(path))).eval()
    return model
