"""Normalisations, as they are at inference."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from flatconv.onnx_in.step import Step, Value, axis_of


def batch(step: Step, values: Sequence[Value]) -> Tensor:
    step.only(training_mode=0, spatial=1)
    step.one_result()
    x, scale, bias, mean, variance = (step.tensor(values, i) for i in range(5))
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, step.get("epsilon", 1e-5))


def instance(step: Step, values: Sequence[Value]) -> Tensor:
    x, scale, bias = (step.tensor(values, i) for i in range(3))
    return F.instance_norm(x, weight=scale, bias=bias, eps=step.get("epsilon", 1e-5))


def layer(step: Step, values: Sequence[Value]) -> Tensor:
    step.one_result()
    step.only(stash_type=1)
    x, scale, bias = step.tensor(values, 0), step.tensor(values, 1), step.optional(values, 2)
    shape = x.shape[axis_of(step, step.get("axis", -1), x.dim()) :]
    eps = step.get("epsilon", 1e-5)
    if scale.shape == shape and (bias is None or bias.shape == shape):
        return F.layer_norm(x, shape, scale, bias, eps)
    made = F.layer_norm(x, shape, None, None, eps) * scale
    return made if bias is None else made + bias


def group(step: Step, values: Sequence[Value]) -> Tensor:
    step.only(stash_type=1)
    x, scale, bias = (step.tensor(values, i) for i in range(3))
    if step.version < 21:
        step.refuse("before operator set 21 it was another operator, which ONNX has withdrawn")
    return F.group_norm(x, step.get("num_groups"), scale, bias, step.get("epsilon", 1e-5))


def root_mean_square(step: Step, values: Sequence[Value]) -> Tensor:
    step.only(stash_type=1)
    x, scale = step.tensor(values, 0), step.tensor(values, 1)
    shape = x.shape[axis_of(step, step.get("axis", -1), x.dim()) :]
    return F.rms_norm(x, shape, None, step.get("epsilon", 1e-5)) * scale


OPERATORS = {
    "BatchNormalization": batch,
    "InstanceNormalization": instance,
    "LayerNormalization": layer,
    "GroupNormalization": group,
    "RMSNormalization": root_mean_square,
}
