"""Operators that plant zero and equal slices by what they are, whatever the values and the weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trust.growing import Call, Growth, Make, Shape, Step


def _spans(g: Growth, rank: int, low: int = 0) -> list[int]:
    """Amounts of padding along one axis, sometimes along another too, as ``F.pad`` takes them."""
    amounts = [0] * (2 * rank)
    axes = [g.axis(rank) for _ in range(g.some([1, 1, 1, 2]))]
    for axis in axes:
        at = 2 * (rank - 1 - axis)
        amounts[at : at + 2] = g.some([(1, 1), (2, 0), (1, 0), (0, 1), (0, 2), (low, 1)])
    return amounts


def zero_pad(g: Growth) -> Step | None:
    """Zeros around one axis or two; a negative amount crops."""

    def make(x: torch.Tensor) -> Call | None:
        amounts = _spans(g, x.dim(), -1)
        return lambda x: F.pad(x, amounts)

    return g.unary("zero pad", make)


def constant_pad(g: Growth) -> Step | None:
    """A constant around one axis or two."""

    def make(x: torch.Tensor) -> Call | None:
        amounts, value = _spans(g, x.dim()), g.some([1.0, -0.5])
        return lambda x: F.pad(x, amounts, value=value)

    return g.unary("constant pad", make)


def copying_pad(g: Growth) -> Step | None:
    """Replicate, reflect or circular padding of one axis."""

    def make(x: torch.Tensor) -> Call | None:
        n, mode = x.dim() - 2, g.some(["replicate", "replicate", "reflect", "circular"])
        amounts = [0] * (2 * n)
        at = 2 * (n - 1 if g.choose.random() < 0.6 else g.choose.randrange(n))
        amounts[at : at + 2] = g.some([(1, 1), (2, 0), (1, 0), (0, 1)])
        return lambda x: F.pad(x, amounts, mode=mode)

    return g.unary("copying pad", make, 3, 4, 5)


def causal_cat(g: Growth) -> Step | None:
    """The first slice (or the last) once or twice more, joined by ``cat``."""

    def make(x: torch.Tensor) -> Call | None:
        axis, times, front = g.axis(x.dim()), g.some([1, 2]), g.choose.random() < 0.7

        def call(x: torch.Tensor) -> torch.Tensor:
            edge = x.narrow(axis, 0 if front else x.shape[axis] - 1, 1)
            return torch.cat([*[edge] * times, x] if front else [x, *[edge] * times], axis)

        return call

    return g.unary("causal cat", make)


def causal_cat_apart(g: Growth) -> Step | None:
    """The first slice and the whole, each put through the same function before they are joined."""
    index = g.one(4, 5)
    if index is None:
        return None
    x = g.values[index]
    functions: list[nn.Module] = [nn.ReLU(), nn.SiLU(), nn.BatchNorm3d(x.shape[1]), nn.Conv3d(x.shape[1], 2, (1, 2, 1))]
    part = g.some(functions if x.dim() == 5 else functions[:2])

    def call(part: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(x.narrow(2, 0, 1)), part(x)], 2)

    return Step("causal cat of parts", (index,), call, part)


def cat_zeros(g: Growth) -> Step | None:
    """A slice of zeros in front, made in one of three ways."""

    def make(x: torch.Tensor) -> Call | None:
        axis, spelling = g.axis(x.dim()), g.some(["zeros_like", "new_zeros", "zeros"])
        size: Shape = tuple(1 if a == axis else s for a, s in enumerate(x.shape))

        def call(x: torch.Tensor) -> torch.Tensor:
            if spelling == "zeros_like":
                zeros = torch.zeros_like(x.narrow(axis, 0, 1))
            elif spelling == "new_zeros":
                zeros = x.new_zeros(size)
            else:
                zeros = torch.zeros(size, dtype=x.dtype)
            return torch.cat([zeros, x], axis)

        return call

    return g.unary("cat with zeros", make)


def expand(g: Growth) -> Step | None:
    """One slice, expanded."""

    def make(x: torch.Tensor) -> Call | None:
        axis, times = g.axis(x.dim()), g.some([2, 3])
        at = g.choose.randrange(x.shape[axis])
        shape = [times if a == axis else -1 for a in range(x.dim())]
        return lambda x: x.narrow(axis, at, 1).expand(shape)

    return g.unary("expand", make)


def repeat(g: Growth) -> Step | None:
    """``repeat`` or ``repeat_interleave`` along one axis."""

    def make(x: torch.Tensor) -> Call | None:
        axis, times = g.axis(x.dim()), g.some([2, 3])
        if x.shape[axis] > 4:
            return None
        if g.choose.random() < 0.4:
            return lambda x: x.repeat_interleave(times, axis)
        factors = [times if a == axis else 1 for a in range(x.dim())]
        return lambda x: x.repeat(factors)

    return g.unary("repeat", make)


def mirrored(g: Growth) -> Step | None:
    """The tensor and its mirror image."""

    def make(x: torch.Tensor) -> Call | None:
        axis = g.axis(x.dim())
        return lambda x: torch.cat([x, x.flip(axis)], axis)

    return g.unary("cat with its mirror image", make)


def nearest(g: Growth) -> Step | None:
    """Nearest upsampling by a whole number."""

    def make(x: torch.Tensor) -> Call | None:
        n = x.dim() - 2
        scale = tuple(float(s) for s in g.some([(2,) * n, (2,) + (1,) * (n - 1), (4,) + (1,) * (n - 1), (3,) * n]))
        mode = g.some(["nearest", "nearest", "nearest-exact"])
        return lambda x: F.interpolate(x, scale_factor=scale, mode=mode)

    return g.unary("nearest upsampling", make, 3, 4, 5)


def put_back(g: Growth) -> Step | None:
    """A slice cut off, and zeros in its place."""

    def make(x: torch.Tensor) -> Call | None:
        axis = g.axis(x.dim())
        cut = x.shape[axis] - 1
        if cut < 1:
            return None
        front = g.choose.random() < 0.5
        amounts = [0] * (2 * x.dim())
        amounts[2 * (x.dim() - 1 - axis) + (0 if front else 1)] = 1
        return lambda x: F.pad(x.narrow(axis, 1 if front else 0, cut), amounts)

    return g.unary("sliced out and back in", make)


def written(g: Growth) -> Step | None:
    """Zeros written into a slice in place."""

    def make(x: torch.Tensor) -> Call | None:
        axis = g.axis(x.dim())
        place = (slice(None),) * axis + (g.choose.randrange(x.shape[axis]),)

        def call(x: torch.Tensor) -> torch.Tensor:
            y = x.clone()
            y[place] = 0.0
            return y

        return call

    return g.unary("written in place", make)


def picked(g: Growth) -> Step | None:
    """Slices by a list of positions, some of them twice."""

    def make(x: torch.Tensor) -> Call | None:
        axis = g.axis(x.dim())
        places = [g.choose.randrange(x.shape[axis]) for _ in range(g.some([2, 3, 4]))]
        if g.choose.random() < 0.5:
            return lambda x: x.index_select(axis, torch.tensor(places))
        return lambda x: x[(slice(None),) * axis + (places,)]

    return g.unary("index with repeats", make)


def stacked(g: Growth) -> Step | None:
    """One tensor stacked on itself, its new axis merged into the next or left."""

    def make(x: torch.Tensor) -> Call | None:
        axis, times, flat = g.axis(x.dim()), g.some([2, 3]), g.choose.random() < 0.6
        if not flat and x.dim() > 5:
            return None
        if flat:
            return lambda x: torch.stack([x] * times, axis + 1).flatten(axis, axis + 1)
        return lambda x: torch.stack([x] * times, axis)

    return g.unary("stacked on itself", make)


def created(g: Growth) -> Step | None:
    """A tensor of one value, of the shape of another."""
    calls: list[Call] = [torch.zeros_like, torch.ones_like, lambda x: torch.full_like(x, 0.5)]
    return g.unary("created", lambda x: calls[g.choose.randrange(3)])


def masked(g: Growth) -> Step | None:
    """Some slices times zero, by a literal of the code."""

    def make(x: torch.Tensor) -> Call | None:
        axis = g.axis(x.dim())
        mask = [float(g.choose.random() < 0.6) for _ in range(x.shape[axis])]
        shape = [-1 if a == axis else 1 for a in range(x.dim())]
        return lambda x: x * torch.tensor(mask, dtype=x.dtype).reshape(shape)

    return g.unary("times a mask of zeros and ones", make)


def times_zero(g: Growth) -> Step | None:
    """All of it times zero, spelled in one of three ways."""
    calls: list[Call] = [
        lambda x: x * 0.0,
        lambda x: x * torch.zeros_like(x),
        lambda x: x * torch.zeros((), dtype=x.dtype),
    ]
    return g.unary("times zero", lambda x: calls[g.choose.randrange(3)])


PLANTS: tuple[tuple[float, Make], ...] = (
    (3, zero_pad), (1, constant_pad), (3, copying_pad), (3, causal_cat), (1, causal_cat_apart), (2, cat_zeros), (3, expand),
    (2, repeat), (2, mirrored), (2, nearest), (1, put_back), (0.15, written), (2, picked), (2, stacked), (0.5, created),
    (1, masked), (0.3, times_zero),
)  # fmt: skip
"""How often, and what."""
