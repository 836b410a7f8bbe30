"""Tensors put together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flatconv.onnx_in.step import Step, Value, axis_of


def concat(step: Step, values: Sequence[Value]) -> Tensor:
    tensors = [step.tensor(values, i) for i in range(len(values))]
    return torch.cat(tensors, axis_of(step, step.get("axis", 1 if step.version < 4 else 0), tensors[0].dim()))


OPERATORS = {"Concat": concat}
