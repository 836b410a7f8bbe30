"""What the default initialisation of a convolution counts as its fan-in, and what of that meets data.

PyTorch draws the weights of a convolution from the uniform distribution between ±1/√F, where the fan-in F counts every tap
of the kernel (``kaiming_uniform_`` with a = √5, He et al., 2015). At a position where ``n`` of the ``K`` taps meet data,

    Var y = Var(w) · Σ |x[slice that the tap meets]|²   over those n taps,   Var(w) = 1/(3F),

so the result starts √(K/n) times smaller than that of a convolution which has those n taps alone. Taps that meet the same
slice count each for itself: their weights are drawn independently, so the sum of m of them has m times the variance. Taps
that all merge on one slice therefore start exactly as wide as the kernel of lower rank, and want no correction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from flatconv.analyse import Analysis
from flatconv.ops.conv import AxisPlan, Site
from flatconv.program import Node, Program

RARE = 14.0
"""Chances below e⁻¹⁴, one in a million, are taken for none."""

DEVIATIONS = 5.0
"""How many standard deviations a mean of drawn values may lie from what is expected: again about one in a million."""

FEWEST = 64
"""Fewer weights than this say too little about how they came about."""

KINDS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Start:
    """How a convolution starts under the default initialisation.

    Attributes:
        short: K/n, the fan-in that is counted over the one that meets data; 1 where they agree.
        live: the taps that meet data somewhere, by spatial axis.
        unclear: why no number can be given; empty if there is one.
    """

    short: Fraction
    live: tuple[tuple[int, ...], ...]
    unclear: str = ""

    @property
    def factor(self) -> float:
        """√(K/n): the result starts that many times too small."""
        return math.sqrt(self.short)


def start(site: Site) -> Start:
    """Count the taps of a planned site that meet data, exactly.

    An axis counts only if *no* position meets data with all taps: a border, where some positions lack a few, is part of
    every convolution. Positions that meet nothing say nothing and are left out; over the others, n is the mean.
    """
    short, live, unclear = Fraction(1), [], ""
    for plan in site.axes:
        part, taps, why = _axis(plan)
        short *= part
        live.append(taps)
        unclear = unclear or why
    return Start(short, tuple(live), unclear)


def _axis(plan: AxisPlan) -> tuple[Fraction, tuple[int, ...], str]:
    every = tuple(range(plan.kernel))
    if not plan.known or not isinstance(plan.outputs, int) or _inside(plan):
        return Fraction(1), every, ""
    met = [[t for t in every if plan.meets(o, t)] for o in range(plan.outputs)]
    if plan.repeat is not None:  # every position counts, those that are computed once for several too
        at, more = plan.repeat
        met[at:at] = [met[at]] * more
    counts = [len(taps) for taps in met if taps]
    live = tuple(sorted({t for taps in met for t in taps}))
    if not counts:
        return Fraction(1), (), "no tap meets data: the result is the bias alone"
    if max(counts) == plan.kernel:
        return Fraction(1), live, ""
    if plan.transposed and plan.stride > 1:
        if live == every:
            return Fraction(1), live, ""
        why = "a transposed convolution with a stride meets a part of its taps at a position in any volume"
        return Fraction(1), live, why
    return Fraction(plan.kernel * len(counts), sum(counts)), live, ""


def _inside(plan: AxisPlan) -> bool:
    """Whether some position lies wholly inside an input of which nothing is known; seen without enumeration."""
    if plan.transposed or plan.ids is None or not plan.ids.all_distinct or not isinstance(plan.outputs, int):
        return False
    first = max(0, -(-plan.lo // plan.stride))
    return first < plan.outputs and first * plan.stride - plan.lo + (plan.kernel - 1) * plan.dilation < len(plan.ids)


def live_part(weight: Tensor, live: Sequence[Sequence[int]]) -> Tensor:
    """The weights of the live taps: a view, or a copy where the taps are not consecutive."""
    for axis, taps in enumerate(live, start=2):
        if not taps:
            return weight.narrow(axis, 0, 0)
        if list(taps) == list(range(taps[0], taps[-1] + 1)):
            weight = weight.narrow(axis, taps[0], len(taps))
        else:
            weight = weight.index_select(axis, torch.tensor(list(taps), device=weight.device))
    return weight


def bound(weight: Tensor) -> float:
    """``1/√F``, where PyTorch's default for a convolution's weight and bias ends. A transposed one counts its outputs."""
    return 1 / math.sqrt(max(math.prod(weight.shape[1:]), 1))


def why_not_fresh(values: Tensor, limit: float, fewest: int = FEWEST) -> str:
    """Why values do not look drawn between ±limit, evenly and independently; empty if they do.

    Trained weights leave the interval, or come from another distribution to begin with. Looked at are the largest value,
    the mean, and the mean square, each with its sampling error: ``E w² = limit²/3``.

    Args:
        values: any shape.
        limit: of the interval.
        fewest: with fewer values than this nothing is claimed.
    """
    if values.dtype not in KINDS:
        return f"its type is {str(values.dtype).removeprefix('torch.')}"
    values = values.detach().reshape(-1)
    n = values.numel()
    if n < fewest:
        return f"only {n} of its weights meet data, too few to tell whether they were trained"
    share = values.double() / limit
    largest = float(share.abs().max())
    if not largest <= 1 + 2 * torch.finfo(values.dtype).eps:
        return f"its largest weight is {largest:.3g} times the bound of the default"
    square, mean = float(share.square().mean()), float(share.mean())
    off = abs(square - 1 / 3) > DEVIATIONS * math.sqrt(4 / 45 / n) or abs(mean) > DEVIATIONS / math.sqrt(3 * n)
    if off or largest < 1 - RARE / n:
        return "its weights are not spread as the default draws them"
    return ""


SAMPLE = 2**16
"""An audit looks at about so many weights of a convolution."""

NORMS = ("batch_norm", "group_norm", "instance_norm", "layer_norm")


def warning(program: Program, analysis: Analysis, names: Mapping[Node, str]) -> tuple[str, ...]:
    """What an audit says of sites that look freshly initialised and start too small; nothing if there are none.

    Args:
        program: with its weights.
        analysis: of it.
        names: of the sites.
    """
    found: dict[Node, float] = {}
    for node, here in analysis.sites.items():
        begins = start(here)
        if begins.short == 1 or begins.unclear or here.weight.op != "weight":
            continue
        weight = program.weights[here.weight]
        part = weight[:: max(1, weight.numel() // SAMPLE)]
        if not why_not_fresh(live_part(part, begins.live), bound(weight)):
            found[node] = begins.factor
    if not found:
        return ()
    few = [names[n] for n in found][:3]
    listed = ", ".join(few) + (f" and {len(found) - len(few)} more" if len(found) > len(few) else "")
    low, high = min(found.values()), max(found.values())
    by = f"{low:.3g}" if math.isclose(low, high) else f"{low:.3g} to {high:.3g}"
    normed = sum(bool(n.users) and all(_is_norm(u) for u in n.users) for n in found)
    text = (
        f"{len(found)} site{' looks' if len(found) == 1 else 's look'} freshly initialised and start{'s' * (len(found) == 1)} "
        f"{by} times too small, because PyTorch's default counts taps that meet no data ({listed}): "
        "flatconv.reinit corrects it before training"
    )
    if normed:
        which = "a normalisation follows" + ("" if normed == len(found) else f" {normed} of them")
        text += f"; {which}, which takes the scale out again, so little depends on it there"
    return (text,)


def _is_norm(node: Node) -> bool:
    return node.op.startswith("aten.") and any(norm in node.op for norm in NORMS)
