"""Normalisation: batch (evaluation), group, instance, layer, RMS."""

from __future__ import annotations

import torch
from torch import fx

from flatconv.ops.base import Axes, Carry, Facts, Lowering, Operator, call_of_first
from flatconv.program import Node

aten = torch.ops.aten


class BatchNorm(Operator):
    """``y = (x − μ_c)/√(σ²_c + ε)·γ_c + β_c`` with running statistics: the same affine map for every slice."""

    names: tuple[str, ...] = ("batch_norm", "cudnn_batch_norm")

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and node.args.get("training") is False and node.shape is not None

    def carries(self, node: Node) -> list[Carry]:
        source = node.args["input"]
        return [Carry(a, ((source, a),)) for a in range(node.rank) if a != 1]

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        # Channels are axis 1: no axis in front of them may go.
        return super().twin(node, drop, facts) - {0}


class NativeBatchNorm(BatchNorm):
    """The same, as torch writes it out: the first of several results of one call."""

    names = ("_native_batch_norm_legit_no_training",)

    def _norm(self, node: Node) -> Node:
        found: Node = node.args["0"]
        return found

    def accepts(self, node: Node) -> bool:
        return call_of_first(node, self.names) is not None and node.shape is not None

    def carries(self, node: Node) -> list[Carry]:
        source = self._norm(node).args["input"]
        return [Carry(a, ((source, a),)) for a in range(node.rank) if a != 1]

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        a = self._norm(node).args
        given = low.get(a["input"], drop)
        weights = [None if a[k] is None else low.get(a[k]) for k in ("weight", "bias", "running_mean", "running_var")]
        return low.call(aten.batch_norm.default, given, *weights, False, a["momentum"], a["eps"], False)


class GroupNorm(Operator):
    """``y = (x − mean)/√(var + ε)·γ_c + β_c`` with statistics over channels of a group and all positions.

    Also instance norm. Statistics are over the axes from 2 on: equal slices stay equal there, zero does not stay zero,
    and an axis may be dropped only if all its slices are equal, for then the statistics are the same without it.
    """

    names = ("group_norm", "instance_norm")

    def accepts(self, node: Node) -> bool:
        if not super().accepts(node) or node.shape is None:
            return False
        return not node.op.startswith("aten.instance_norm") or node.args["use_input_stats"] is True

    def emit(self, node: Node, drop: Axes, low: Lowering) -> fx.Node:
        given = self.dropped_inputs(node, drop, low)
        if low.reordered:
            # On a CPU torch sums squares in one pass where channels are last: 400 times the error in a volume.
            given[node.tensors[0]] = low.call(aten.contiguous.default, given[node.tensors[0]])
        return self.call(node, low, given)

    def carries(self, node: Node) -> list[Carry]:
        source = node.tensors[0]
        return [Carry(a, ((source, a),), mixing=a >= 2) for a in range(node.rank) if a != 1]

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        found = super().twin(node, drop, facts) - {0}
        # One position axis stays: instance norm refuses a tensor without any.
        return found if node.rank - len(found) >= 3 else found - {node.rank - 1}


class LayerNorm(Operator):
    """``y = (x − mean)/√(var + ε)·γ + β`` with statistics over the last axes; RMS norm without the mean."""

    names = ("layer_norm", "rms_norm", "_fused_rms_norm")

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and node.shape is not None

    def carries(self, node: Node) -> list[Carry]:
        source = node.tensors[0]
        return [Carry(a, ((source, a),)) for a in range(node.rank - len(node.args["normalized_shape"]))]
