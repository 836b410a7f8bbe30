"""Which function reads which operator of ONNX. An operator that is not here is refused."""

from __future__ import annotations

from flatconv.onnx_in.operators import conv, join, matmul, norm, pad, pick, pointwise, pool, reduce, resize, shape
from flatconv.onnx_in.operators.pointwise import Call

READERS: dict[str, Call] = {
    name: function
    for room in (conv, pool, norm, matmul, pointwise, reduce, shape, pick, join, pad, resize)
    for name, function in room.OPERATORS.items()
}
