"""A convolution in other words: code that gives what ``conv(x, W, b)`` gives.

Each function takes the convolution's arguments, the shapes of its input and its result, and returns code over ``{0}`` for
the input and ``{m}`` for the layer that holds the weight and the bias; or None where it does not fit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trust.steps import Shape
from trust.steps.base import at, literal

Spelling = Callable[[random.Random, Mapping[str, Any], Shape, Shape], str | None]


@dataclass(frozen=True)
class _Conv:
    """The convolution of a step.

    Attributes:
        n: spatial axes.
        transposed: direction.
        into: input channels.
        out: output channels.
        groups: as in torch.
        kernel: taps along each axis.
        stride: as in torch.
        dilation: as in torch.
        padding: one number for each axis, 'same' or 'valid'.
        extra: output padding of a transposed convolution.
        bias: whether there is one.
    """

    n: int
    transposed: bool
    into: int
    out: int
    groups: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str | tuple[int, ...]
    extra: tuple[int, ...]
    bias: bool

    @classmethod
    def of(cls, args: Mapping[str, Any]) -> _Conv:
        padding = args["padding"]
        return cls(
            args["axes"],
            args["transposed"],
            args["channels"][0],
            args["channels"][1],
            args["groups"],
            tuple(args["kernel"]),
            tuple(args["stride"]),
            tuple(args["dilation"]),
            padding if isinstance(padding, str) else tuple(padding),
            tuple(args["extra"]),
            args["bias"],
        )

    @property
    def sides(self) -> list[tuple[int, int]]:
        """Zeros in front and behind along each axis."""
        if self.padding == "valid":
            return [(0, 0)] * self.n
        if isinstance(self.padding, str):
            totals = [d * (k - 1) for k, d in zip(self.kernel, self.dilation, strict=True)]
            return [(t // 2, t - t // 2) for t in totals]
        return [(p, p) for p in self.padding]

    @property
    def reach(self) -> int:
        """Slices of the first axis between the first tap and the last."""
        return (self.kernel[0] - 1) * self.dilation[0]

    def call(self, x: str, w: str = "{m}.weight", b: str = "{m}.bias", **changed: Any) -> str:
        """Code for the convolution with other tensors or settings."""
        given = {k: changed.get(k, getattr(self, k)) for k in ("n", "stride", "padding", "dilation", "groups", "extra")}
        words = {k: literal(v) for k, v in given.items()}
        name = f"F.conv{'_transpose' if self.transposed else ''}{given['n']}d"
        head = f"{name}({x}, {w}, {b}, {words['stride']}, {words['padding']}"
        if self.transposed:
            return f"{head}, {words['extra']}, {words['groups']}, {words['dilation']})"
        return f"{head}, {words['dilation']}, {words['groups']})"

    def padded(self, x: str, axes: int) -> tuple[str, tuple[int, ...]]:
        """Code for the input with the zeros of the first ``axes`` axes around it, and the padding left to do."""
        amounts = [0, 0] * (self.n - axes) + [p for side in reversed(self.sides[:axes]) for p in side]
        code = f"F.pad({x}, {amounts})"
        left = self.sides[axes:]
        if any(lo != hi for lo, hi in left):  # 'same' with an even kernel: all of it is done here
            return self.padded(x, self.n)
        return code, (0,) * axes + tuple(lo for lo, _ in left)


def input_channels(r: random.Random, args: Mapping[str, Any], into: Shape, out: Shape) -> str | None:
    """The sum of two convolutions, each of some of the input channels."""
    conv = _Conv.of(args)
    if conv.groups > 1 or conv.into < 2:
        return None
    k = r.randrange(1, conv.into)
    dim = 0 if conv.transposed else 1
    one = conv.call("{0}" + at(1, f":{k}"), "{m}.weight" + at(dim, f":{k}"))
    other = conv.call("{0}" + at(1, f"{k}:"), "{m}.weight" + at(dim, f"{k}:"), "None")
    return f"{one} + {other}"


def output_channels(r: random.Random, args: Mapping[str, Any], into: Shape, out: Shape) -> str | None:
    """Two convolutions, each for some of the output channels, joined."""
    conv = _Conv.of(args)
    if conv.groups > 1 or conv.out < 2:
        return None
    k = r.randrange(1, conv.out)
    dim = 1 if conv.transposed else 0
    parts = [
        conv.call("{0}", "{m}.weight" + at(dim, part), f"{{m}}.bias[{part}]" if conv.bias else "None")
        for part in (f":{k}", f"{k}:")
    ]
    return f"torch.cat([{', '.join(parts)}], 1)"


def each_group(r: random.Random, args: Mapping[str, Any], into: Shape, out: Shape) -> str | None:
    """One convolution for each group, joined."""
    conv = _Conv.of(args)
    if conv.groups < 2:
        return None
    a, b = conv.into // conv.groups, conv.out // conv.groups
    parts = []
    for g in range(conv.groups):
        x, w = f"{g * a}:{g * a + a}", f"{g * a}:{g * a + a}" if conv.transposed else f"{g * b}:{g * b + b}"
        bias = f"{{m}}.bias[{g * b}:{g * b + b}]" if conv.bias else "None"
        parts.append(conv.call("{0}" + at(1, x), "{m}.weight" + at(0, w), bias, groups=1))
    return f"torch.cat([{', '.join(parts)}], 1)"


def batch_in_two(r: random.Random, args: Mapping[str, Any], into: Shape, out: Shape) -> str | None:
    """Two convolutions, each of some of the batch, joined."""
    conv = _Conv.of(args)
    if into[0] < 2:
        return None
    k = r.randrange(1, into[0])
    return f"torch.cat([{conv.call('{0}' + at(0, f':{k}'))}, {conv.call('{0}' + at(0, f'{k}:'))}])"


def bias_apart(r: random.Random, args: Mapping[str, Any], into: Shape, out: Shape) -> str | None:
    """The convolution without its bias, and the bias added."""
    conv = _Conv.of(args)
    if not conv.bias:
        return None
    return f"{conv.call('{0}', b='None')} + {{m}}.bias.reshape({[-1] + [1] * conv.n})"


def pad_apart(r: random.Random, args: Mapping[str, Any], into: Shape, out: Shape) -> str | None:
    """A zero pad, then the convolution without padding."""
    conv = _Conv.of(args)
    if conv.transposed or not any(p for side in conv.sides for p in side):
        return None
    x, left = conv.padded("{0}", r.choice([1, conv.n]))
    return conv.call(x, padding=left)


def sum_of_taps(r: random.Random, args: Mapping[str, Any], into: Shape, out: Shape) -> str | None:
    """The sum, over the taps of the first axis, of convolutions with one tap each."""
    conv = _Conv.of(args)
    if conv.transposed or not 1 < conv.kernel[0] <= 4:
        return None
    x, left = conv.padded("{0}", 1)
    step, parts = conv.stride[0], []
    for t in range(conv.kernel[0]):
        start = t * conv.dilation[0]
        read = f"{start}:{start + (out[2] - 1) * step + 1}"
        w = "{m}.weight" + at(2, f"{t}:{t + 1}")
        parts.append(conv.call(x + at(2, read), w, "None" if t else "{m}.bias", padding=left))
    return " + ".join(parts)


def each_slice(r: random.Random, args: Mapping[str, Any], into: Shape, out: Shape) -> str | None:
    """One convolution for each slice of the result along the first axis, joined."""
    conv = _Conv.of(args)
    if conv.transposed or out[2] > 4:
        return None
    x, left = conv.padded("{0}", 1)
    starts = [o * conv.stride[0] for o in range(out[2])]
    parts = [conv.call(x + at(2, f"{s}:{s + conv.reach + 1}"), padding=left) for s in starts]
    return f"torch.cat([{', '.join(parts)}], 2)"


def mirrored(r: random.Random, args: Mapping[str, Any], into: Shape, out: Shape) -> str | None:
    """The mirror image of the convolution of the mirror image with the mirror image of the weight."""
    conv = _Conv.of(args)
    lo, hi = conv.sides[0]
    # The last position must read up to the last slice, so that the mirror image starts where the convolution ends.
    rest = (into[2] + lo + hi - conv.reach - 1) % conv.stride[0]
    if conv.transposed or rest or lo != hi:
        return None
    return conv.call("{0}.flip(2)", "{m}.weight.flip(2)") + ".flip(2)"


def axes_swapped(r: random.Random, args: Mapping[str, Any], into: Shape, out: Shape) -> str | None:
    """The convolution with two of its axes exchanged, and exchanged back."""
    conv = _Conv.of(args)
    if conv.n < 2:
        return None
    i, j = sorted(r.sample(range(conv.n), 2))

    def swapped(values: Any) -> Any:
        found = list(values)
        found[i], found[j] = found[j], found[i]
        return tuple(found)

    turn = f".transpose({2 + i}, {2 + j})"
    changed = {k: swapped(getattr(conv, k)) for k in ("stride", "dilation", "extra")}
    padding = conv.padding if isinstance(conv.padding, str) else swapped(conv.padding)
    return conv.call("{0}" + turn, "{m}.weight" + turn, padding=padding, **changed) + turn


def one_axis_more(r: random.Random, args: Mapping[str, Any], into: Shape, out: Shape) -> str | None:
    """The convolution with one more axis, of size 1."""
    conv = _Conv.of(args)
    if conv.n > 2:
        return None
    padding = conv.padding if isinstance(conv.padding, str) else (0, *conv.padding)
    longer: dict[str, Any] = {"stride": (1, *conv.stride), "dilation": (1, *conv.dilation), "extra": (0, *conv.extra)}
    code = conv.call("{0}.unsqueeze(2)", "{m}.weight.unsqueeze(2)", n=conv.n + 1, padding=padding, **longer)
    return f"{code}.squeeze(2)"


def scaled(r: random.Random, args: Mapping[str, Any], into: Shape, out: Shape) -> str | None:
    """Twice the input with half the weight."""
    conv = _Conv.of(args)
    return conv.call("(2 * {0})", "({m}.weight / 2)")


SPELLINGS: tuple[tuple[str, str, bool, Spelling], ...] = (
    ("split over input channels", "W·x = W₁·x₁ + W₂·x₂", False, input_channels),
    ("split over output channels", "W·x = [W₁·x; W₂·x]", False, output_channels),
    ("group by group", "conv(x, groups=g) = [conv(x₁); …; conv(x_g)]", False, each_group),
    ("split over the batch", "conv([x₁; x₂]) = [conv(x₁); conv(x₂)]", False, batch_in_two),
    ("bias apart", "conv(x, b) = conv(x) + b", False, bias_apart),
    ("pad apart", "conv(x, padding=p) = conv(pad(x, p))", False, pad_apart),
    ("sum of taps", "W·x = Σ_t W[t]·x[o·s − p + t·d]", False, sum_of_taps),
    ("slice by slice", "conv(x) = [conv(x[0:r]); conv(x[s:s+r]); …]", False, each_slice),
    ("mirrored", "conv(x, W) = flip(conv(flip(x), flip(W)))", False, mirrored),
    ("axes exchanged", "conv(x, W) = conv(xᵀ, Wᵀ)ᵀ", False, axes_swapped),
    ("one axis more", "conv2d(x) = squeeze(conv3d(unsqueeze(x)))", False, one_axis_more),
    ("double and halve the weight", "W·x = (W/2)·(2x)", False, scaled),
)
"""Name, equation, whether it is exact bit for bit whatever the numbers, and the code."""
