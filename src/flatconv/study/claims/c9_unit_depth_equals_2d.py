"""C9: '(1, 3, 3) acts as Conv2d'. The same numbers, forward and backward, for every slice?

Sums of floating-point numbers depend on their order, and two kernels may add in two orders. So equality is tested where the
order cannot matter: inputs, weights and gradients are -1, 0 or 1, and no sum of absolute terms reaches the first whole number
that the type cannot hold. Then every order gives the true sum, and one that differs is another function. On real numbers the
difference is held against the bound for rounding, ``2 γₙ · Σ|terms|`` with ``γₙ = n u / (1 - n u)`` (Higham, 2002).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from flatconv.findings import Chart, Claim, Estimate, Progress, Result, Series, Table, Verdict
from flatconv.study import statistics

CLAIM = Claim(
    key="C9",
    title="(1, 3, 3) acts as Conv2d",
    said="A kernel of depth one, (1, 3, 3), works like Conv2d on each slice.",
    question="Are results and all gradients equal to those of Conv2d on each slice, bit for bit where rounding plays no part?",
)

Mode = Literal["zeros", "reflect", "replicate", "circular"]
PARTS = ("result", "gradient of input", "gradient of weight", "gradient of bias")
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
IMAGES, INSIDE, OUTSIDE, HEIGHT, WIDTH = 2, 4, 4, 6, 7


@dataclass(frozen=True)
class Config:
    """What is tried, in all combinations that PyTorch takes.

    Attributes:
        dtypes: names.
        kernels: along height and width.
        strides: of the plane.
        dilations: of the plane.
        groups: of channels; 4 is depthwise.
        paddings: pixels or 'same', and the mode.
        depths: slices of the input.
        seeds: of the numbers.
    """

    dtypes: tuple[str, ...] = ("float32", "float64", "bfloat16")
    kernels: tuple[int, ...] = (1, 3)
    strides: tuple[int, ...] = (1, 2)
    dilations: tuple[int, ...] = (1, 2)
    groups: tuple[int, ...] = (1, 2, 4)
    paddings: tuple[str, ...] = ("0 zeros", "1 zeros", "same zeros", "1 replicate", "1 reflect", "1 circular")
    depths: tuple[int, ...] = (1, 3)
    seeds: tuple[int, ...] = (0, 1, 2)


FULL = Config()
QUICK = Config(kernels=(3,), dilations=(1,), groups=(1, 4), paddings=("0 zeros", "same zeros", "1 reflect"), seeds=(0,))


@dataclass(frozen=True)
class Case:
    """One pair of layers and the shape of what they are given."""

    dtype: str
    kernel: int
    stride: int
    dilation: int
    groups: int
    padding: str
    depth: int
    seed: int


@dataclass(frozen=True)
class Tensors:
    """What a convolution is given, and the gradient that comes back to its result. Weights have no depth yet."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    arriving: Tensor

    def double(self) -> Tensors:
        """Absolute values in float64, for sums of absolute terms."""
        return Tensors(*(t.double().abs() for t in (self.x, self.weight, self.bias, self.arriving)))


def cases(config: Config) -> list[Case]:
    """All combinations but those that PyTorch refuses ('same' with a stride)."""
    c = config
    every = itertools.product(
        c.dtypes, c.kernels, c.strides, c.dilations, c.groups, c.paddings, c.depths, c.seeds
    )  # the order of the fields of Case
    return [case for case in (Case(*values) for values in every) if case.stride == 1 or "same" not in case.padding]


def volume(case: Case, given: Tensors) -> tuple[Tensor, ...]:
    """Result and gradients of ``Conv3d`` with a kernel of depth one."""
    amount, mode = _padding(case)
    layer = torch.nn.Conv3d(
        INSIDE,
        OUTSIDE,
        (1, case.kernel, case.kernel),
        (1, case.stride, case.stride),
        amount if isinstance(amount, str) else (0, amount, amount),
        (1, case.dilation, case.dilation),
        case.groups,
        padding_mode=mode,
        dtype=given.x.dtype,
    )
    return _both_ways(layer, given, layer)


def planes(case: Case, given: Tensors) -> tuple[Tensor, ...]:
    """The same of ``Conv2d``, called on each slice by itself."""
    amount, mode = _padding(case)
    layer = torch.nn.Conv2d(
        INSIDE,
        OUTSIDE,
        case.kernel,
        case.stride,
        amount,
        case.dilation,
        case.groups,
        padding_mode=mode,
        dtype=given.x.dtype,
    )
    return _both_ways(layer, given, lambda x: torch.stack([layer(s) for s in x.unbind(2)], 2))


def numbers(case: Case, whole: bool) -> Tensors:
    """Random numbers of a case: -1, 0 and 1, or real ones."""
    random = torch.Generator().manual_seed(case.seed)
    dtype = DTYPES[case.dtype]

    def draw(*shape: int) -> Tensor:
        if whole:
            return torch.randint(-1, 2, shape, generator=random).to(dtype)
        return torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)

    x = draw(IMAGES, INSIDE, case.depth, HEIGHT, WIDTH)
    weight = draw(OUTSIDE, INSIDE // case.groups, case.kernel, case.kernel)
    bias = draw(OUTSIDE)
    return Tensors(x, weight, bias, draw(*_result_shape(case, x, weight)))


def order_is_free(case: Case, given: Tensors) -> bool:
    """Whether no partial sum of whole numbers can be rounded, whatever the order."""
    eps = torch.finfo(DTYPES[case.dtype]).eps
    return all(float(part.max()) <= 2 / eps for part in planes(case, given.double()))


def bound_used(case: Case, given: Tensors, one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> list[float]:
    """For each part, the largest difference as a share of the bound for rounding."""
    unit = torch.finfo(DTYPES[case.dtype]).eps / 2
    places = given.arriving[:, 0].numel()
    fan_in = given.weight[0].numel()
    # Terms in the longest sum of each part; a padding mode adds up to one more copy of a pixel on each side of both axes.
    terms = (fan_in + 1, 9 * case.kernel**2 * OUTSIDE // case.groups, places, places)
    used = []
    for n, size, a, b in zip(terms, planes(case, given.double()), one, other, strict=True):
        gamma = n * unit / (1 - n * unit)
        difference = (a.double() - b.double()).abs()
        used.append(float(torch.where(difference == 0, 0.0, difference / (2 * gamma * size)).max()))
    return used


def judge(equal: Estimate, worst: float) -> Verdict:
    """By how many cases are equal where rounding plays no part, and by rounding where it does.

    Args:
        equal: the share of cases equal in result and all gradients.
        worst: largest difference on real numbers as a share of the bound for rounding.
    """
    if not equal.n:
        return "undecided"
    if equal.value == 1:
        return "confirmed" if worst <= 1 else "undecided"
    return "refuted" if equal.high < 0.5 else "corrected"


def run(config: Config, progress: Progress) -> Result:
    """Compare all cases on whole numbers and on real ones."""
    every = cases(config)
    whole = {d: [0, 0] for d in config.dtypes}
    same_bits = {d: dict.fromkeys(PARTS, 0) for d in config.dtypes}
    used = {d: dict.fromkeys(PARTS, 0.0) for d in config.dtypes}
    for i, case in enumerate(every):
        if i % 100 == 0:
            progress(f"case {i} of {len(every)}")
        given = numbers(case, whole=True)
        if order_is_free(case, given):
            whole[case.dtype][1] += 1
            pairs = zip(volume(case, given), planes(case, given), strict=True)
            whole[case.dtype][0] += all(torch.equal(a, b) for a, b in pairs)
        given = numbers(case, whole=False)
        one, other = volume(case, given), planes(case, given)
        for part, a, b in zip(PARTS, one, other, strict=True):
            same_bits[case.dtype][part] += torch.equal(a, b)
        if case.dtype != "bfloat16":  # its sums are kept wider than the type, in a way that nobody promises
            for part, value in zip(PARTS, bound_used(case, given, one, other), strict=True):
                used[case.dtype][part] = max(used[case.dtype][part], value)
    return _result(config, len(every), whole, same_bits, used)


def _result(
    config: Config,
    n: int,
    whole: dict[str, list[int]],
    same_bits: dict[str, dict[str, int]],
    used: dict[str, dict[str, float]],
) -> Result:
    good, tried = (sum(counts[i] for counts in whole.values()) for i in (0, 1))
    equal = statistics.share("cases equal where rounding plays no part", good, tried)
    worst = max(value for parts in used.values() for value in parts.values())
    each = n // len(config.dtypes)
    bits = {d: [statistics.share(part, same_bits[d][part], each) for part in PARTS] for d in config.dtypes}
    trap = trap_depth()
    finding = (
        f"Result and all three gradients are equal bit for bit in {good} of {tried} cases in which rounding plays no part "
        f"(interval for the share: {equal.low:.2%} to {equal.high:.2%}). On real numbers the largest difference is "
        f"{worst:.1%} of what rounding allows."
    )
    rows = tuple(
        (d, f"{whole[d][0]} of {whole[d][1]}", *bits[d], max(used[d].values()) if d != "bfloat16" else "not bounded")
        for d in config.dtypes
    )
    return Result(
        verdict=judge(equal, worst),
        finding=finding,
        estimates=(
            equal,
            Estimate("largest difference as a share of the rounding bound", worst, 0.0, worst, n=2 * each),
        ),
        charts=(
            Chart(
                "bars",
                "Cases on random real numbers with the same bits as Conv2d",
                "",
                "share of cases",
                tuple(
                    Series(d, PARTS, *(tuple(getattr(e, k) for e in bits[d]) for k in ("value", "low", "high")))
                    for d in config.dtypes
                ),
                reference=(1.0, "all cases"),
            ),
        ),
        tables=(
            Table(
                "Equality by number type",
                ("type", "equal on whole numbers", *(f"same bits: {p}" for p in PARTS), "share of rounding bound"),
                rows,
            ),
        ),
        notes=(
            "Where bits differ on real numbers, the two layers add the same terms in another order. Neither is more right.",
            f"The padding has to be (0, 1, 1). With padding=1, as people write it for Conv2d, an image of one slice becomes "
            f"{trap} slices, and the outer ones hold nothing but the bias.",
            f"In {n - tried} more cases a sum of whole numbers may be too large for bfloat16; they were left out of the count.",
            "A depth stride above 1 leaves slices out, which no Conv2d on each slice does; it was not counted.",
        ),
        advice="Use Conv2d, or let `flatconv fold` turn (1, k, k) kernels into it. It is the same function.",
    )


def trap_depth() -> int:
    """Slices that come out of one slice where the padding is 1 on all axes, after checking that the outer ones are bias."""
    layer = torch.nn.Conv3d(1, 2, (1, 3, 3), padding=1)
    found = layer(torch.ones(1, 1, 1, 5, 5))
    outer = found[:, :, [0, -1]]
    assert layer.bias is not None
    assert torch.equal(outer, layer.bias.reshape(1, 2, 1, 1, 1).expand_as(outer))
    return int(found.shape[2])


def _padding(case: Case) -> tuple[int | str, Mode]:
    amount, mode = case.padding.split()
    return (int(amount) if amount.isdigit() else amount), next(m for m in get_args(Mode) if m == mode)


def _result_shape(case: Case, x: Tensor, weight: Tensor) -> tuple[int, ...]:
    amount, mode = _padding(case)
    plane = x[:, :, 0].float()
    if mode != "zeros":
        plane = F.pad(plane, (int(amount),) * 4)
        amount = 0
    found = F.conv2d(plane, weight.float(), None, case.stride, amount, case.dilation, case.groups)
    return (*found.shape[:2], case.depth, *found.shape[2:])


def _both_ways(
    layer: torch.nn.Conv2d | torch.nn.Conv3d, given: Tensors, call: Callable[[Tensor], Tensor]
) -> tuple[Tensor, ...]:
    """Result, and gradients of input, weight (without its depth) and bias."""
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(given.weight.reshape(layer.weight.shape))
        layer.bias.copy_(given.bias)
    x = given.x.clone().requires_grad_()
    found = call(x)
    found.backward(given.arriving)  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    return (found.detach(), x.grad, layer.weight.grad.reshape(given.weight.shape), layer.bias.grad)
