"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flatconv.onnx_in.step import Step, Value


def gemm(step: Step, values: Sequence[Value]) -> Tensor:
    a, b, c = step.tensor(values, 0), step.tensor(values, 1), step.optional(values, 2)
    if step.get("transA", 0):
        a = a.t()
    if step.get("transB", 0):
        b = b.t()
    made, alpha, beta = a @ b, step.get("alpha", 1.0), step.get("beta", 1.0)
    if alpha != 1.0:
        made = made * alpha
    if c is None:
        return made
    return made + (c if beta == 1.0 else c * beta)


def matmul(step: Step, values: Sequence[Value]) -> Tensor:
    return torch.matmul(step.tensor(values, 0), step.tensor(values, 1))


def einsum(step: Step, values: Sequence[Value]) -> Tensor:
    return torch.einsum(step.get("equation"), *(step.tensor(values, i) for i in range(len(values))))


OPERATORS = {"Gemm": gemm, "MatMul": matmul, "Einsum": einsum}
