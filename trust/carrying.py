"""Operators that carry slices on: layers, pointwise operators, joins, views, reductions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trust.growing import Call, Growth, Make, Step

POINTWISE: tuple[Any, ...] = (
    torch.relu, F.silu, torch.sigmoid, torch.tanh, F.gelu, torch.abs, torch.neg, F.hardtanh, F.softplus, F.elu,
    lambda x: F.leaky_relu(x, 0.1), lambda x: x + 0.5, lambda x: 2 * x, lambda x: 1 - x, lambda x: x / 4,
    lambda x: x.clamp(-1.5, 1.5), lambda x: x.clone(), lambda x: x * x.sigmoid(), lambda x: F.dropout(x, 0.5, False),
)  # fmt: skip
BINARY: tuple[Any, ...] = (
    torch.add, torch.sub, torch.mul, torch.maximum, lambda x, y: x * torch.sigmoid(y), lambda x, y: torch.lerp(x, y, 0.25),
    lambda x, y: torch.where(x > 0, x, y),
)  # fmt: skip


def _layer(part: nn.Module, x: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = part(x)
    return found


def conv(g: Growth) -> Step | None:
    """A convolution: kernel 1 along some axes or none, stride, dilation, groups, 'same' or numbers as padding."""
    index = g.one(3, 4, 5)
    if index is None:
        return None
    x = g.values[index]
    n, channels = x.dim() - 2, x.shape[1]
    kernel = tuple(g.some([1, 2, 3, 3]) for _ in range(n))
    kernel = g.some([kernel, (g.some([2, 3]),) + (1,) * (n - 1), (1, *kernel[1:])])
    groups = g.some([1, 1, channels if channels <= 6 else 1])
    settings: dict[str, Any] = {
        "stride": tuple(g.some([1, 1, 1, 2]) for _ in range(n)),
        "dilation": tuple(g.some([1, 1, 1, 2]) for _ in range(n)),
        "padding": tuple(g.some([0, 0, 1, k // 2]) for k in kernel),
    }
    if set(settings["stride"]) == {1} and g.choose.random() < 0.3:
        settings["padding"] = "same"
    layer = getattr(nn, f"Conv{n}d")
    out = groups * g.some([1, 2]) if groups > 1 else g.some([2, 3, 4])
    return Step(
        "conv", (index,), _layer, layer(channels, out, kernel, groups=groups, bias=g.some([True, False]), **settings)
    )


def conv_transpose(g: Growth) -> Step | None:
    """A transposed convolution."""
    index = g.one(3, 4, 5)
    if index is None:
        return None
    x = g.values[index]
    n = x.dim() - 2
    kernel = tuple(g.some([1, 2, 3]) for _ in range(n))
    stride = tuple(g.some([1, 1, 2]) for _ in range(n))
    padding = tuple(g.some([0, k // 2]) for k in kernel)
    layer = getattr(nn, f"ConvTranspose{n}d")(
        x.shape[1], g.some([2, 3]), kernel, stride=stride, padding=padding, bias=g.some([True, False])
    )
    return Step("transposed conv", (index,), _layer, layer)


def pool(g: Growth) -> Step | None:
    """A maximum, a mean, or an adaptive mean."""

    def make(x: torch.Tensor) -> Call | None:
        n = x.dim() - 2
        kernel = [g.some([1, 2, 3]) for _ in range(n)]
        stride = [g.some([1, 1, k]) for k in kernel]
        padding = [g.some([0, k // 2]) for k in kernel]
        ceil, kind = g.some([True, False]), g.some(["max", "avg", "avg", "adaptive"])
        if kind == "adaptive":
            sizes = [g.some([1, 2, s]) for s in x.shape[2:]]
            return lambda x: getattr(F, f"adaptive_avg_pool{n}d")(x, sizes)
        if kind == "max":
            return lambda x: getattr(F, f"max_pool{n}d")(x, kernel, stride, padding, 1, ceil)
        counted = g.some([True, False])
        return lambda x: getattr(F, f"avg_pool{n}d")(x, kernel, stride, padding, ceil, counted)

    return g.unary("pool", make, 3, 4, 5)


def norm(g: Growth) -> Step | None:
    """Batch, group, instance, layer or RMS norm."""
    index = g.one(3, 4, 5)
    if index is None:
        return None
    x = g.values[index]
    n, channels = x.dim() - 2, x.shape[1]
    kinds: list[Any] = [
        lambda: getattr(nn, f"BatchNorm{n}d")(channels),
        lambda: nn.GroupNorm(g.some([1, channels]), channels),
        lambda: getattr(nn, f"InstanceNorm{n}d")(channels, affine=g.some([True, False])),
        lambda: nn.LayerNorm(x.shape[-g.some([1, 2]) :]),
        lambda: nn.RMSNorm(x.shape[-1:]),
    ]
    return Step("norm", (index,), _layer, g.some(kinds)())


def pointwise(g: Growth) -> Step | None:
    """A function of each element."""
    return g.unary("pointwise", lambda x: g.some(POINTWISE))


def scaled(g: Growth) -> Step | None:
    """Every channel times a parameter."""
    index = g.one(3, 4, 5)
    if index is None:
        return None
    x = g.values[index]
    scale = nn.Parameter(torch.ones(x.shape[1], *[1] * (x.dim() - 2)))
    return Step("times a parameter", (index,), lambda part, x: x * part, scale)


def binary(g: Growth) -> Step | None:
    """A function of two values of one shape, or of a value and a single slice."""
    index = g.one()
    if index is None:
        return None
    shape, axis = list(g.values[index].shape), g.axis(g.values[index].dim())
    call = g.some(BINARY)
    if g.choose.random() < 0.4:  # a single slice is broadcast
        shape[axis] = 1
        other = g.partner(tuple(shape))
        if other is None:
            other = g.partner(tuple(g.values[index].shape))
            return (
                None
                if other is None
                else Step("binary", (index, other), lambda x, y: call(x, y.narrow(axis, y.shape[axis] - 1, 1)))
            )
        return Step("binary", (index, other), call)
    other = g.partner(tuple(shape), besides=index)
    return None if other is None else Step("binary", (index, other), call)


def joined(g: Growth) -> Step | None:
    """Two or three values, joined along an axis."""
    index = g.one()
    if index is None:
        return None
    x = g.values[index]
    axis = g.axis(x.dim())
    others = [g.partner(tuple(x.shape), free=axis) for _ in range(g.some([1, 1, 2]))]
    reads = (index, *[o for o in others if o is not None])
    return Step("cat", reads, lambda *xs: torch.cat(xs, axis))


def stacked(g: Growth) -> Step | None:
    """Two values of one shape along a new axis."""
    index = g.one(2, 3, 4)
    other = None if index is None else g.partner(tuple(g.values[index].shape))
    if index is None or other is None:
        return None
    axis = g.choose.randrange(g.values[index].dim() + 1)
    return Step("stack", (index, other), lambda *xs: torch.stack(xs, axis))


def permuted(g: Growth) -> Step | None:
    """Axes in another order."""

    def make(x: torch.Tensor) -> Call | None:
        order = list(range(x.dim()))
        g.choose.shuffle(order)
        if g.choose.random() < 0.5:
            return lambda x: x.transpose(order[0], order[-1])
        return lambda x: x.permute(order)

    return g.unary("permute", make, 2, 3, 4, 5, 6)


def reshaped(g: Growth) -> Step | None:
    """Two axes merged, one split, or an axis of size 1 added or taken away."""

    def make(x: torch.Tensor) -> Call | None:
        rank, axis = x.dim(), g.axis(x.dim())
        size = x.shape[axis]
        kind = g.some(["flatten", "flatten", "split", "unsqueeze", "squeeze"])
        if kind == "flatten" and axis + 1 < rank and rank > 3:
            return lambda x: x.flatten(axis, axis + 1)
        if kind == "split" and rank < 6 and size > 3 and size % 2 == 0:
            return lambda x: x.unflatten(axis, g_sizes)
        if kind == "unsqueeze" and rank < 5:
            return lambda x: x.unsqueeze(axis)
        return (lambda x: x.squeeze(axis)) if size == 1 and rank > 3 else None

    g_sizes = g.some([(2, -1), (-1, 2)])
    return g.unary("reshape", make)


def reduced(g: Growth) -> Step | None:
    """A reduction, a softmax, a running sum or a normalisation along an axis."""

    def make(x: torch.Tensor) -> Call | None:
        axis, keep = g.axis(x.dim()), x.dim() < 4 or g.choose.random() < 0.7
        kind = g.some(["mean", "sum", "amax", "amin", "softmax", "softmax", "cumsum", "norm"])
        if kind == "softmax":
            return lambda x: x.softmax(axis)
        if kind == "cumsum":
            return lambda x: x.cumsum(axis)
        if kind == "norm":
            return lambda x: F.normalize(x, dim=axis)
        return lambda x: getattr(x, kind)(dim=axis, keepdim=keep)

    return g.unary("reduction", make)


def resized(g: Growth) -> Step | None:
    """A resize to given sizes."""

    def make(x: torch.Tensor) -> Call | None:
        n = x.dim() - 2
        sizes = [g.some([s, s, s + 1, 2 * s]) for s in x.shape[2:]]
        mode = g.some([{1: "linear", 2: "bilinear", 3: "trilinear"}[n], "nearest"])
        align = g.some([True, False]) if mode != "nearest" else None
        return lambda x: F.interpolate(x, sizes, mode=mode, align_corners=align)

    return g.unary("resize", make, 3, 4, 5)


def product(g: Growth) -> Step | None:
    """A linear layer, a product with its own transpose, or attention."""
    index = g.one(3, 4, 5)
    if index is None:
        return None
    x = g.values[index]
    kind = g.some(["linear", "linear", "matmul", "attention"])
    if kind == "linear":
        layer = nn.Linear(x.shape[-1], g.some([2, 3, 4]), bias=g.some([True, False]))
        return Step("matrix product", (index,), _layer, layer)
    if kind == "attention" and x.dim() == 4:
        other = g.partner(tuple(x.shape))
        return Step(
            "attention",
            (index, index if other is None else other),
            lambda x, y: F.scaled_dot_product_attention(x, y, y),
        )
    scale = x.shape[-1] ** -0.5
    return Step("matrix product", (index,), lambda x: x @ x.transpose(-1, -2) * scale)


def sliced(g: Growth) -> Step | None:
    """Some of the slices, or all of them in another order."""

    def make(x: torch.Tensor) -> Call | None:
        axis = g.axis(x.dim())
        size = x.shape[axis]
        start = g.choose.randrange(size)
        length = g.choose.randrange(1, size - start + 1)
        kind = g.some(["narrow", "step", "select", "chunk", "split", "flip", "roll", "unbind", "unfold"])
        if kind in ("select", "unbind"):
            if x.dim() < 4:
                return None
            return (lambda x: x.select(axis, start)) if kind == "select" else (lambda x: x.unbind(axis)[start])
        if kind == "step":
            return lambda x: x[(slice(None),) * axis + (slice(start, None, 2),)]
        if kind == "chunk" and size > 1:
            return lambda x: x.chunk(2, axis)[-1]
        if kind == "split" and size > 1:
            return lambda x: x.split([1, size - 1], axis)[1]
        if kind == "flip":
            return lambda x: x.flip(axis)
        if kind == "roll":
            return lambda x: x.roll(start, axis)
        if kind == "unfold" and size > 2 and x.dim() < 6:
            return lambda x: x.unfold(axis, 2, 1)
        return lambda x: x.narrow(axis, start, length)

    return g.unary("slice", make)


CARRIERS: tuple[tuple[float, Make], ...] = (
    (5, conv), (1, conv_transpose), (2, pool), (2, norm), (3, pointwise), (0.5, scaled), (3, binary), (3, joined),
    (0.5, stacked), (1.5, permuted), (2, reshaped), (1.5, reduced), (1, resized), (1, product), (2.5, sliced),
)  # fmt: skip
"""How often, and what."""
