"""One room an operator family. The tuple below is the whole list; an operator without a room is unknown.

An unknown operator makes all slices of its result distinct and is run as it is on inputs of full rank.
"""

from __future__ import annotations

from flatconv.ops import conv, join, matmul, norm, pad, pick, pointwise, pool, random, reduce, resize, shape
from flatconv.ops.base import Operator
from flatconv.program import Node

ROOMS: tuple[Operator, ...] = (
    conv.Conv(),
    pool.SlidingPool(),
    pool.AdaptivePool(),
    norm.BatchNorm(),
    norm.NativeBatchNorm(),
    norm.GroupNorm(),
    norm.LayerNorm(),
    pad.Pad(),
    resize.Resize(),
    join.Cat(),
    join.Stack(),
    join.Expand(),
    join.Repeat(),
    pick.Slice(),
    pick.Select(),
    pick.Piece(),
    pick.Interleave(),
    pick.Reorder(),
    pick.Index(),
    shape.Reshape(),
    shape.Permute(),
    reduce.Reduce(),
    reduce.Softmax(),
    matmul.Linear(),
    matmul.Matmul(),
    matmul.Attention(),
    random.Draw(),
    random.DrawChannels(),
    random.Dropped(),
    random.Blank(),
    pointwise.Prelu(),
    pointwise.Dropout(),
    pointwise.Create(),
    pointwise.Pointwise(),
)


def room(node: Node) -> Operator | None:
    """The room that knows a node, or None."""
    if node.target is None or node.shape is None:
        return None
    return next((r for r in ROOMS if r.accepts(node)), None)


def spelled(op: str) -> bool:
    """Whether some room reads an operator of this name, or torch tags it as pointwise."""
    base = op.removeprefix("aten.").partition(".")[0]
    known = (
        {n for r in ROOMS for n in r.names} | set(pointwise.Pointwise.also) | set(pick.Piece.splits) | READ_ELSEWHERE
    )
    return base in known


READ_ELSEWHERE = {
    "pad", "constant_pad_nd", "replication_pad1d", "replication_pad2d", "replication_pad3d", "reflection_pad1d",
    "reflection_pad2d", "reflection_pad3d", "sym_size", "_assert_tensor_metadata", "einsum", "arange",
}  # fmt: skip
