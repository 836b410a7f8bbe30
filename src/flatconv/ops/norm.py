"""Normalisation: batch (evaluation), group, instance, layer, RMS."""

from __future__ import annotations

from flatconv.ops.base import Axes, Carry, Facts, Operator
from flatconv.program import Node


class BatchNorm(Operator):
    """``y = (x − μ_c)/√(σ²_c + ε)·γ_c + β_c`` with running statistics: the same affine map for every slice."""

    names = ("batch_norm", "cudnn_batch_norm")

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and node.args.get("training") is False and node.shape is not None

    def carries(self, node: Node) -> list[Carry]:
        source = node.args["input"]
        return [Carry(a, ((source, a),)) for a in range(node.rank) if a != 1]

    def twin(self, node: Node, drop: Axes, facts: Facts) -> Axes:
        # Channels are axis 1: no axis in front of them may go.
        return super().twin(node, drop, facts) - {0}


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
