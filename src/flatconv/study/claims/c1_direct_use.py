"""C1: 'on one image only the first tap sees data'. Which taps do, for each way to pad?

Two answers are found without each other. ``flatconv.audit`` derives one from the graph and looks at no value. The other is
measured on photographs: the weights of one tap are changed, and it is live if the result changes by a bit; two taps are merged
if what is added to one and taken from the other leaves the result as it was. Pixels and weights are whole numbers, so that
nothing is rounded and 'as it was' means equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flatconv.audit import audit
from flatconv.findings import Chart, Claim, Estimate, Progress, Result, Series, Table, Verdict
from flatconv.study import data, statistics

CLAIM = Claim(
    key="C1",
    title="Direct use: only the first tap sees data",
    said="Used on a single image, a Conv3d meets data with the first depth tap of its kernel only; the others see padding.",
    question="Which depth taps meet a single image under each padding rule, by analysis and by measurement?",
)

Mode = Literal["zeros", "reflect", "replicate", "circular"]
SIZE = 24
"""Of the pieces of photographs: a tap that meets data anywhere meets it here."""


@dataclass(frozen=True)
class Config:
    """What is tried.

    Attributes:
        depths: of the kernel.
        photographs: how many.
        seeds: of the weights.
    """

    depths: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    photographs: int = 8
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


FULL = Config()
QUICK = Config(depths=(3,), photographs=1, seeds=(0,))


@dataclass(frozen=True)
class Rule:
    """A way to pad depth.

    Attributes:
        name: in words.
        build: a network with one convolution, for a kernel of a depth.
        usual: what people get who write 'same' or kernel // 2 on an odd kernel.
    """

    name: str
    build: Callable[[int], nn.Module]
    usual: bool = False


class _Padded(nn.Module):
    """A pad of depth in front of a convolution without one."""

    def __init__(self, depth: int, before: int, after: int, mode: str) -> None:
        super().__init__()
        self.amount, self.mode = (0, 0, 0, 0, before, after), mode
        self.conv = nn.Conv3d(3, 2, (depth, 3, 3), padding=(0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(F.pad(x, self.amount, self.mode))
        return result


def _conv(depth: int, padding: int | str, mode: Mode = "zeros") -> nn.Module:
    amount = padding if isinstance(padding, str) else (padding, 1, 1)
    return nn.Conv3d(3, 2, (depth, 3, 3), padding=amount, padding_mode=mode)


def _transposed(depth: int, padding: int) -> nn.Module:
    return nn.ConvTranspose3d(3, 2, (depth, 3, 3), padding=(padding, 1, 1))


RULES = (
    Rule("zeros, 'same'", lambda k: _conv(k, "same"), usual=True),
    Rule("zeros, k // 2 on both sides", lambda k: _conv(k, k // 2), usual=True),
    Rule("none", lambda k: _conv(k, 0)),
    Rule("zeros in front (causal)", lambda k: _Padded(k, k - 1, 0, "constant")),
    Rule("zeros behind", lambda k: _Padded(k, 0, k - 1, "constant")),
    Rule("zeros, k - 1 on both sides ('full')", lambda k: _Padded(k, k - 1, k - 1, "constant")),
    Rule("replicate, 'same'", lambda k: _conv(k, "same", "replicate")),
    Rule("replicate in front (causal)", lambda k: _Padded(k, k - 1, 0, "replicate")),
    Rule("circular, 'same'", lambda k: _conv(k, "same", "circular")),
    Rule("reflect, 'same'", lambda k: _conv(k, "same", "reflect")),
    Rule("transposed, padding 0", lambda k: _transposed(k, 0)),
    Rule("transposed, (k - 1) // 2", lambda k: _transposed(k, (k - 1) // 2)),
)


@dataclass(frozen=True)
class Use:
    """What the taps of a kernel do on one image.

    Attributes:
        live: taps that meet data.
        groups: the live taps, those that meet the same slice everywhere in one group.
    """

    live: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]

    def words(self, depth: int) -> str:
        """As a cell of a table, such as 'tap 1 (centre)' or 'the sum of all 3'."""
        if depth > 1 and len(self.groups) == 1 and len(self.live) == depth:
            return f"the sum of all {depth}"
        if len(self.live) == 1:
            (tap,) = self.live
            place = {0: "first", depth - 1: "last", (depth - 1) / 2: "centre"}.get(tap)
            return f"tap {tap}" + (f" ({place})" if place and depth > 1 else "")
        if len(self.live) == depth:
            return "every tap, each at its own slice of the result"
        return "taps " + ", ".join(map(str, self.live))


@dataclass(frozen=True)
class Row:
    """One rule at one depth.

    Attributes:
        rule: its name.
        usual: see ``Rule``.
        depth: of the kernel.
        use: by analysis; None if PyTorch refuses the combination.
        agreed: measurements that found the same.
        measured: how many there were.
        strength: by tap, the mean absolute change of the result when the tap's weights are changed.
    """

    rule: str
    usual: bool
    depth: int
    use: Use | None
    agreed: int = 0
    measured: int = 0
    strength: tuple[float, ...] = ()


def analysed(net: nn.Module, image: Tensor) -> Use:
    """What ``flatconv.audit`` says."""
    (site,) = audit(net, (image,)).sites
    return Use(site.live_taps, tuple(sorted(site.tap_groups)))


def measured(net: nn.Module, image: Tensor, seed: int) -> tuple[Use, tuple[float, ...]]:
    """What the result says when weights are changed, and by how much it changes for each tap.

    Args:
        net: with one convolution; its weights are overwritten.
        image: (1, 3, 1, H, W), whole numbers.
        seed: of the weights and their changes.
    """
    conv = next(m for m in net.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d))
    random = torch.Generator().manual_seed(seed)

    def whole(*shape: int) -> Tensor:
        return torch.randint(1, 9, shape, generator=random) * (2.0 * torch.randint(0, 2, shape, generator=random) - 1)

    start = whole(*conv.weight.shape)
    change = whole(*conv.weight[:, :, 0].shape)

    def with_weights(weight: Tensor) -> Tensor:
        conv.weight.copy_(weight)
        result: Tensor = net(image)
        return result

    with torch.no_grad():
        if conv.bias is not None:
            conv.bias.zero_()
        before, strength, alone = with_weights(start), [], []
        for tap in range(start.shape[2]):
            changed = start.clone()
            changed[:, :, tap] += change
            found = with_weights(changed)
            strength.append(float((found - before).abs().mean()))
            alone.append(found)
        live = [tap for tap, found in enumerate(alone) if not torch.equal(found, before)]
        groups: list[list[int]] = []
        for tap in live:
            # Taps that meet the same slice everywhere change the result in the same way.
            group = next((g for g in groups if torch.equal(alone[g[0]], alone[tap])), None)
            if group is None:
                groups.append([tap])
            else:
                group.append(tap)
    return Use(tuple(live), tuple(tuple(g) for g in groups)), tuple(strength)


def judge(rows: Sequence[Row], agreement: Estimate) -> Verdict:
    """By what is live where people pad as usual: an odd kernel of more than one tap, zeros on both sides.

    Args:
        rows: everything tried.
        agreement: the share of measurements that found what the analysis says.
    """
    usual = [r.use.live for r in rows if r.usual and r.use is not None and r.depth > 1 and r.depth % 2]
    if not usual or agreement.n == 0 or agreement.value < 1:
        return "undecided"
    if all(live == (0,) for live in usual):
        return "confirmed"
    return "corrected" if all(len(live) == 1 for live in usual) else "refuted"


def run(config: Config, progress: Progress) -> Result:
    """Analyse and measure every rule at every depth on every photograph with every seed."""
    images = [_piece(p) for p in data.photographs()[: config.photographs]]
    rows = []
    for rule in RULES:
        for depth in config.depths:
            progress(f"{rule.name}, kernel depth {depth}")
            rows.append(_row(rule, depth, images, config.seeds))
    return _result(config, rows)


def _row(rule: Rule, depth: int, images: Sequence[Tensor], seeds: Sequence[int]) -> Row:
    net = rule.build(depth).eval()
    try:
        with torch.no_grad():
            net(images[0])
    except RuntimeError:  # PyTorch says no: a kernel deeper than its input, or a mirror image of a single slice
        return Row(rule.name, rule.usual, depth, None)
    use = analysed(net, images[0])
    found = [measured(net, image, seed) for image in images for seed in seeds]
    mean = torch.tensor([s for _, s in found]).mean(0)
    return Row(
        rule.name,
        rule.usual,
        depth,
        use,
        sum(u == use for u, _ in found),
        len(found),
        tuple(mean.tolist()),
    )


def _result(config: Config, rows: Sequence[Row]) -> Result:
    agreement = statistics.share(
        "measurements that agree with the analysis", sum(r.agreed for r in rows), sum(r.measured for r in rows)
    )
    deep = [r for r in rows if r.use is not None and r.depth > 1]
    first = sum(r.use is not None and r.use.live == (0,) for r in deep)
    usual = [r for r in deep if r.usual and r.depth % 2]
    centre = sum(r.use is not None and r.use.live == (r.depth // 2,) for r in usual)
    usual_first = sum(r.use is not None and r.use.live == (0,) for r in usual)
    refused = len([r for r in rows if r.use is None])
    finding = (
        f"With the usual zero padding on both sides of an odd kernel, the only tap that meets the image is the centre one in "
        f"{centre} of {len(usual)} cases and the first one in {usual_first}. Which taps meet it depends on the padding: of all "
        f"{len(deep)} rules and depths the first tap is the only live one in {first}. Analysis and measurement agree in "
        f"{agreement.value:.2%} of {agreement.n} measurements (interval {agreement.low:.2%} to {agreement.high:.2%})."
    )
    return Result(
        verdict=judge(rows, agreement),
        finding=finding,
        estimates=(
            _census("usual padding, odd kernel: share in which the centre tap alone is live", centre, len(usual)),
            agreement,
            _census("all rules and depths above 1: share in which the first tap alone is live", first, len(deep)),
        ),
        charts=(_strength_chart(rows, max(d for d in config.depths if d <= 5)), _place_chart(rows)),
        tables=(_table(config, rows),),
        notes=(
            "Shares of rules and depths are counts of all that were tried, not samples of something larger, so their interval "
            "is a point.",
            f"{refused} combinations are refused by PyTorch: a kernel deeper than its input, a mirror image of a single slice, "
            "a circle that goes round more than once.",
            "A 'same' kernel of even depth pads one slice more behind than in front, so its live tap is (k - 1) // 2: for "
            "k = 2 that is the first one, and there the article is right.",
            "With replicate or circular padding no tap is wasted on zeros, but all meet the same slice: only the sum of their "
            "weights counts.",
        ),
        advice="Never copy the first tap, or any other, by hand. `flatconv audit` names the live taps of your model, and "
        "`flatconv fold` keeps just those.",
    )


def _census(name: str, part: int, whole: int) -> Estimate:
    value = part / whole if whole else 0.0
    return Estimate(name, value, value, value, n=whole)


def _strength_chart(rows: Sequence[Row], depth: int) -> Chart:
    names = ("zeros, 'same'", "zeros in front (causal)", "zeros behind", "replicate, 'same'")
    shown = [r for r in rows if r.depth == depth and r.rule in names and r.strength]
    top = max((max(r.strength) for r in shown), default=1.0)
    return Chart(
        "bars",
        f"What a change of each tap does to the result, kernel depth {depth}",
        "depth tap whose weights are changed",
        "change of the result (largest = 1)",
        tuple(Series(r.rule, tuple(map(str, range(depth))), tuple(s / top for s in r.strength)) for r in shown),
    )


def _place_chart(rows: Sequence[Row]) -> Chart:
    series = []
    for name in ("zeros in front (causal)", "zeros, 'same'", "zeros behind"):
        mine = [r for r in rows if r.rule == name and r.depth > 1 and r.use is not None and len(r.use.live) == 1]
        places = tuple(r.use.live[0] / (r.depth - 1) for r in mine if r.use is not None)
        series.append(Series(name, tuple(float(r.depth) for r in mine), places))
    return Chart(
        "lines",
        "Where in the kernel the live tap is",
        "kernel depth k",
        "place of the live tap (0 first, 1 last)",
        tuple(series),
        reference=(0.0, "the article: always the first"),
    )


def _table(config: Config, rows: Sequence[Row]) -> Table:
    def cell(name: str, depth: int) -> str:
        (row,) = (r for r in rows if r.rule == name and r.depth == depth)
        return "refused by PyTorch" if row.use is None else row.use.words(depth)

    shown = [d for d in config.depths if d > 1][:4]
    return Table(
        "What meets a single image, by padding of depth",
        ("padding", *(f"k = {d}" for d in shown)),
        tuple((rule.name, *(cell(rule.name, d) for d in shown)) for rule in RULES),
    )


def _piece(photograph: Tensor) -> Tensor:
    """The middle of a photograph, as the whole numbers from 0 to 255 that it is stored as: (1, 3, 1, SIZE, SIZE)."""
    top, left = ((s - SIZE) // 2 for s in photograph.shape[1:])
    return (photograph[:, top : top + SIZE, left : left + SIZE] * 255).round()[None, :, None]
