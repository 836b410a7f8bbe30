"""What each convolution really uses: numbers only. ``flatconv.report`` prints them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sympy
from torch import nn

from flatconv.analyse import Analysis, analyse
from flatconv.capture import Capture, capture
from flatconv.fanin import warning
from flatconv.ops.base import Facts
from flatconv.ops.conv import AxisPlan, Site
from flatconv.ops.pad import padding
from flatconv.program import Node, Program, concrete


@dataclass(frozen=True)
class SiteAudit:
    """One call of a convolution.

    Taps are indices along the first spatial axis, which is depth for a 3-D convolution.

    Attributes:
        name: the module's path in the model; a second call of the same module is named ``path#2``.
        op: 'conv3d', 'conv_transpose3d', …
        kernel: sizes.
        input_shape: of the tensor that the convolution is given, padding in front of it included.
        output_shape: of the result.
        live_taps: taps that meet data at some output position.
        dead_taps: taps that meet only zeros at every output position.
        merged_taps: live taps that meet the same slice as another one at every output position: their weights add.
        tap_groups: the live taps, those that merge together in one group.
        reason: in words.
        macs: multiply-adds spent.
        useful_macs: multiply-adds left when dead taps are gone, merged taps added, and equal results computed once. A live
            tap counts at every position, as it does along height and width, where the border meets padding too.
        parameters: of weight and bias.
        useful_parameters: left once dead taps are gone and merged ones added.
        bytes: of input, weight, bias and output.
        useful_bytes: of the same without repeated or zero slices.
    """

    name: str
    op: str
    kernel: tuple[int, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    live_taps: tuple[int, ...]
    dead_taps: tuple[int, ...]
    merged_taps: tuple[int, ...]
    tap_groups: tuple[tuple[int, ...], ...]
    reason: str
    macs: int
    useful_macs: int
    parameters: int
    useful_parameters: int
    bytes: int
    useful_bytes: int


@dataclass(frozen=True)
class Totals:
    """Sums over all sites. Parameters of a module that is called twice count once."""

    sites: int
    macs: int
    useful_macs: int
    parameters: int
    useful_parameters: int
    bytes: int
    useful_bytes: int


@dataclass(frozen=True)
class Audit:
    """What the convolutions of a model use on one input.

    Attributes:
        model: class name.
        method: audited.
        inputs: (argument, shape) of the example.
        sites: every 3-D convolution, and every other one of which something can be left out.
        totals: sums.
        unused_parameters: names of parameters that this call never reads.
        unknown: operators that flatconv does not know, with the places that use them.
        notes: sizes that could not stay free, and why; whether convolutions start too small.
        assumptions: facts that were declared and not derived.
    """

    model: str
    method: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    sites: tuple[SiteAudit, ...]
    totals: Totals
    unused_parameters: tuple[str, ...]
    unknown: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()

    def __str__(self) -> str:
        from flatconv.report.terminal import render_audit

        return render_audit(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        return asdict(self)

    def to_json(self) -> str:
        """JSON text."""
        from flatconv.report.jsonview import dumps

        return dumps(self.to_dict())

    def to_html(self, path: Any, *, force: bool = False) -> None:
        """Write one self-contained page that shows each kernel and where the waste is.

        Args:
            path: of the file.
            force: replace a file that exists.

        Raises:
            InputError: the file exists and ``force`` is not set, or it cannot be written.
        """
        from flatconv.report import html

        html.write(path, html.audit_html(self), force=force)


def audit(
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    method: str = "forward",
    assume: Mapping[str, Any] | None = None,
) -> Audit:
    """Find out which taps of each convolution meet data, and what the others cost.

    Nothing is changed, and the model is run once on the example.

    Args:
        model: any module that torch.export captures.
        args: example call, such as ``(torch.randn(1, 3, 1, 256, 256),)``.
        kwargs: more of it, by name.
        method: the method that is called.
        assume: what is known of the inputs, by name: ``{"x": flatconv.repeated(dim=2)}``.

    Returns:
        The numbers; ``print`` shows them as a table.

    Raises:
        InputError: the example does not fit the model.
        RefusedError: the model cannot be captured.
    """
    # Counts are for the example's own sizes, so none has to stay free.
    captured = capture(model, args, kwargs, method=method, dynamic=False, assume=assume)
    return audit_of(captured, analyse(captured.program, captured.given))


def audit_of(captured: Capture, analysis: Analysis) -> Audit:
    """The audit of a program already captured and analysed."""
    program = captured.program
    shapes = {n: tuple(t.shape) for n, t in zip(program.inputs, captured.example, strict=True)}
    sizes = program.sizes(shapes)
    names = site_names(analysis)
    listed = reported(analysis)
    sites = [_site(here, analysis.facts, sizes, names[node]) for node, here in listed.items()]
    read = {id(t) for node, t in program.weights.items() if node.users or node in program.outputs}
    unused = [n for n, p in captured.model.named_parameters() if id(p) not in read]
    parts: dict[object, tuple[int, int]] = {}
    for here, site in zip(listed.values(), sites, strict=True):
        bias = _bias_size(here)
        parts[_tensor(program, here.weight)] = (site.parameters - bias, site.useful_parameters - bias)
        if here.bias is not None:
            parts[_tensor(program, here.bias)] = (bias, bias)
    totals = Totals(
        len(sites),
        sum(s.macs for s in sites),
        sum(s.useful_macs for s in sites),
        sum(p for p, _ in parts.values()),
        sum(u for _, u in parts.values()),
        sum(s.bytes for s in sites),
        sum(s.useful_bytes for s in sites),
    )
    return Audit(
        model=type(captured.model).__name__,
        method=captured.method,
        inputs=tuple((n, tuple(t.shape)) for n, t in zip(captured.inputs.names, captured.example, strict=True)),
        sites=tuple(sites),
        totals=totals,
        unused_parameters=tuple(unused),
        unknown=analysis.unknown,
        notes=(*captured.notes, *warning(program, analysis, names)),
        assumptions=tuple(a.words() for a in captured.assumed),
    )


def reported(analysis: Analysis) -> dict[Node, Site]:
    """The sites that reports list: 3-D ones, and others that change."""
    return {n: s for n, s in analysis.sites.items() if len(s.axes) == 3 or any(a.changed for a in s.axes)}


def site_names(analysis: Analysis) -> dict[Node, str]:
    """A name for every site, unique."""
    count: dict[str, int] = {}
    names = {}
    for node, here in analysis.sites.items():
        base = node.path or here.name
        count[base] = count.get(base, 0) + 1
        names[node] = base if count[base] == 1 else f"{base}#{count[base]}"
    return names


def _site(here: Site, facts: Facts, sizes: Mapping[sympy.Symbol, int], name: str) -> SiteAudit:
    node = here.node
    given = concrete(node.args["input"].shape, sizes)
    made = concrete(node.shape or (), sizes)
    weight = concrete(here.weight.shape or (), sizes)
    n = len(here.axes)
    depth = here.axes[0]
    live = depth.live
    groups = depth.taps if depth.changed else tuple((t,) for t in live)
    # Every weight is used once for every position: of the result, or of the input if transposed.
    positions = math.prod((given if here.transposed else made)[-n:])
    batch = made[0] if here.batched else 1
    macs = batch * positions * math.prod(weight)
    useful_macs = macs
    for axis in here.axes:
        spent = (given if here.transposed else made)[axis.axis] * axis.kernel
        useful = axis.useful
        if useful is not None and spent:
            useful_macs = useful_macs * useful // spent
    bias = _bias_size(here)
    kept = [len(groups), *(len(a.taps) for a in here.axes[1:])]
    useful_weights = math.prod(weight[:2]) * math.prod(kept)
    width = node.dtype.itemsize if node.dtype else 4
    moved = math.prod(given) + math.prod(weight) + bias + math.prod(made)
    shrunk_in = _distinct(facts, node.args["input"], given, here)
    shrunk_out = _distinct(facts, node, made, here)
    return SiteAudit(
        name=name,
        op=here.name,
        kernel=weight[2:],
        input_shape=given,
        output_shape=made,
        live_taps=live,
        dead_taps=tuple(t for t in range(depth.kernel) if t not in live),
        merged_taps=tuple(sorted(t for g in groups if len(g) > 1 for t in g)),
        tap_groups=groups,
        reason=_reason(here, depth, live, groups, facts),
        macs=macs,
        useful_macs=useful_macs,
        parameters=math.prod(weight) + bias,
        useful_parameters=useful_weights + bias,
        bytes=moved * width,
        useful_bytes=(shrunk_in + useful_weights + bias + shrunk_out) * width,
    )


def _bias_size(here: Site) -> int:
    out, into = (int(s) for s in (here.weight.shape or (0, 0))[:2])
    return 0 if here.bias is None else into * here.groups if here.transposed else out


def _tensor(program: Program, node: Node) -> object:
    """What a weight is counted by: the tensor itself, so that tied weights count once."""
    return id(program.weights[node]) if node in program.weights else node


def _distinct(facts: Facts, node: Node, shape: tuple[int, ...], here: Site) -> int:
    """Elements of a tensor without slices that are zero or repeated along the spatial axes."""
    count = math.prod(shape)
    for axis in here.axes:
        known = facts.along(node, axis.axis)
        if known is not None and not known.all_distinct and len(known):
            count = count // len(known) * len(set(known) - {0})
    return count


def _reason(
    here: Site, depth: AxisPlan, live: tuple[int, ...], groups: tuple[tuple[int, ...], ...], facts: Facts
) -> str:
    if not depth.known:
        return "the size of the axis is free, so nothing is known along it"
    source = _source_words(here, depth, facts)
    parts = []
    dead = [t for t in range(depth.kernel) if t not in live]
    if dead and not live:
        parts.append(f"no tap meets data: {source}")
    elif dead:
        parts.append(f"{_taps(dead)} only zeros: {source}")
    for group in groups:
        if len(group) > 1:
            parts.append(f"{_taps(list(group))} the same slice: {source}")
    if not parts and depth.cut is None and isinstance(depth.size, int) and 1 < depth.size < depth.kernel:
        parts.append(f"{depth.size} slices under {depth.kernel} taps: each output position has its own subset")
    if not parts and isinstance(depth.outputs, int) and depth.size == 1 and depth.outputs > 1:
        parts.append("each output position meets the slice with another tap")
    return "; ".join(parts) or "every tap meets data"


def _taps(taps: list[int]) -> str:
    return f"tap {taps[0]} meets" if len(taps) == 1 else f"taps {', '.join(map(str, taps))} meet"


def _source_words(here: Site, depth: AxisPlan, facts: Facts) -> str:
    before = here.node.args["input"]
    known = facts.along(before, depth.axis)
    parts = [known.origin] if known is not None and known.origin else []
    pad = padding(before) if here.source is not before else None  # one by known amounts
    own = depth.lo - (pad.sides[depth.axis][0] if pad else 0), depth.hi - (pad.sides[depth.axis][1] if pad else 0)
    if here.transposed:
        parts.append("padding, stride and size leave it no input")
    elif max(own) > 0:
        front, behind = own
        both = f"{front} in front and {behind} behind" if front != behind else f"{front} on each side"
        parts.append(f"zero padding of the convolution itself, {both}")
    return " and ".join(parts) or "stride and dilation skip the data"
