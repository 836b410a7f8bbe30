"""Correct the initial scale of convolutions that meet data with a part of their taps.

    w ← w·√(K/n)   for every live tap,   b ← b·√(K/n)

where K taps count in PyTorch's fan-in and n of them meet data, on average over the positions. Afterwards the convolution
starts as one that has those n taps alone: a 3-D kernel on a single image starts as the 2-D one would.

Exact when: in variance, over the draw of the weights, if all slices have the same energy; always so at depth 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from flatconv.acceptance import check_model
from flatconv.analyse import Analysis, analyse
from flatconv.audit import reported, site_names
from flatconv.capture import Capture, capture
from flatconv.errors import RefusedError, first_line
from flatconv.fanin import FEWEST, RARE, Start, bound, live_part, start, why_not_fresh
from flatconv.ops.conv import Site
from flatconv.program import Node

Done = Literal["scaled", "skipped", "right"]
"""What became of a site: its weights were multiplied, should have been but could not safely be, or were right as they are."""


@dataclass(frozen=True)
class ReinitSite:
    """One call of a convolution.

    Attributes:
        name: as in the audit.
        op: 'conv3d', …
        factor: by which the result starts too small.
        done: what became of it.
        bias: whether the bias was multiplied too.
        reason: in words.
    """

    name: str
    op: str
    factor: float
    done: Done
    bias: bool
    reason: str


@dataclass(frozen=True)
class Reinit:
    """What ``reinit`` did to a model.

    Attributes:
        model: class name.
        method: that was looked at.
        sites: every 3-D convolution, and every other one that starts too small.
        notes: what else to know.
    """

    model: str
    method: str
    sites: tuple[ReinitSite, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        from flatconv.report.reinit import render_reinit

        return render_reinit(self)

    def of(self, done: Done) -> tuple[ReinitSite, ...]:
        """The sites with one outcome."""
        return tuple(s for s in self.sites if s.done == done)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        return asdict(self)


def reinit(
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    method: str = "forward",
    assume: Mapping[str, Any] | None = None,
) -> Reinit:
    """Correct, in place, the initial scale of convolutions whose fan-in counts taps that meet no data.

    For a model that has just been built and is about to be trained. Weights that do not look as PyTorch's default draws
    them are left alone: trained weights are never touched, and a second call finds nothing to do. (What the first few small
    steps of a training change cannot be told from the draw.) After an error the model is as it was.

    Args:
        model: any module that torch.export captures. It is looked at in eval mode; its own modes are put back.
        args: example call, such as ``(torch.randn(2, 3, 1, 64, 64),)``: the depth on which the model will be trained.
        kwargs: more of it, by name.
        method: the method that is called.
        assume: what is known of the inputs, as in ``flatconv.audit``.

    Returns:
        What was done at each site, and why.

    Raises:
        InputError: the example does not fit the model.
        RefusedError: the model cannot be captured, or its weights cannot be written.
    """
    check_model(model, method)
    with _eval(model):
        captured = capture(model, args, kwargs, method=method, dynamic=False, assume=assume)
    analysis = analyse(captured.program, captured.given)
    sites, changes = _plan(captured, analysis)
    _write(changes)
    return Reinit(type(model).__name__, captured.method, tuple(sites), _notes(model, bool(changes)))


@contextmanager
def _eval(model: nn.Module) -> Iterator[None]:
    """Batch norm in train mode would change its statistics, so no such model can be captured."""
    modes = [(m, m.training) for m in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _plan(captured: Capture, analysis: Analysis) -> tuple[list[ReinitSite], list[tuple[Tensor, Tensor]]]:
    """What to say of each site, and which tensors get which values. Nothing is changed."""
    program, names, listed = captured.program, site_names(analysis), reported(analysis)
    starts = {node: start(here) for node, here in analysis.sites.items()}
    changes: dict[int, tuple[Tensor, Tensor]] = {}
    sites = []
    for node, here in analysis.sites.items():
        found = starts[node]
        if found.short == 1 and node not in listed:
            continue
        bias = False
        reason = _right(here, found)
        done: Done = "right"
        if not reason:
            reason = found.unclear or _why_not(captured, analysis, starts, here, found)
            done = "skipped" if reason else "scaled"
        if done == "scaled":
            weight = program.weights[here.weight]
            changes[id(weight)] = (weight, _scaled(weight, found))
            reason = f"{_words(found)} of its taps meet data"
            held, why = _bias(captured, analysis, here, weight)
            if held is not None:
                changes[id(held)] = (held, _times(held, found.factor))
                bias = True
            reason += f"; the bias is left alone: {why}" if why else ""
        sites.append(ReinitSite(names[node], here.name, found.factor, done, bias, reason))
    return sites, list(changes.values())


def _right(here: Site, found: Start) -> str:
    """Why a site starts as it should; empty if it does not, or nobody knows."""
    if found.short != 1 or found.unclear:
        return ""
    if any(len(group) > 1 for axis in here.axes for group in axis.taps):
        return "taps that meet the same slice add up: the sum of K weights has K times the variance"
    return "some position meets data with every tap"


def _words(found: Start) -> str:
    share = 1 / found.short
    return f"{share.numerator} in {share.denominator}" if share.denominator < 1000 else f"{float(share):.1%}"


def _why_not(captured: Capture, analysis: Analysis, starts: Mapping[Node, Start], here: Site, found: Start) -> str:
    """Why the weight of a site may not be multiplied; empty if it may."""
    program, node = captured.program, here.weight
    if node.op != "weight":
        return "its weight is computed from others (weight norm, a parametrisation, a change of type)"
    weight = program.weights[node]
    why = _not_ours(captured, node)
    if why:
        return f"its weight {why}"
    same = [n for n, t in program.weights.items() if t is weight]
    users = [(user, analysis.sites.get(user)) for n in same for user in n.users]
    if any(s is None or s.weight not in same or s.bias in same for _, s in users):
        return "its weight is read by something else too"
    others = {(starts[user].short, starts[user].live, starts[user].unclear) for user, _ in users}
    if len(others) > 1:
        wanted = ", ".join(sorted(f"{s.factor:.3g}" for s in {starts[user] for user, _ in users}))
        return f"its weight is shared by calls that want different factors: {wanted}"
    live = live_part(weight, found.live)
    # Beyond these many weights a second call is sure to see one outside the default's bound.
    enough = math.ceil(RARE / math.log(found.factor))
    why = why_not_fresh(live, bound(weight), fewest=max(enough, FEWEST)) or why_not_fresh(
        weight, bound(weight), fewest=0
    )
    return f"{why}: it is trained, was corrected before, or starts in another way" if why else ""


def _bias(captured: Capture, analysis: Analysis, here: Site, weight: Tensor) -> tuple[Tensor | None, str]:
    """The bias if it is to be multiplied, else why it is not."""
    if here.bias is None:
        return None, ""
    node = here.bias
    if node.op != "weight":
        return None, "it is computed"
    bias = captured.program.weights[node]
    why = _not_ours(captured, node)
    if why:
        return None, f"it {why}"
    same = [n for n, t in captured.program.weights.items() if t is bias]
    sites = [analysis.sites.get(user) for n in same for user in n.users]
    if any(s is None or s.bias not in same or captured.program.weights.get(s.weight) is not weight for s in sites):
        return None, "it is read by something else too"
    if not bool((bias != bias.reshape(-1)[:1]).any()):
        return None, "all its values are equal"
    why = why_not_fresh(bias, bound(weight), fewest=0)
    return (None, "it does not look as the default draws it") if why else (bias, "")


def _not_ours(captured: Capture, node: Node) -> str:
    """Why a tensor of the model may not be written to."""
    tensor, model = captured.program.weights[node], captured.model
    if not any(tensor is p for p in model.parameters()):
        return "is no parameter of the model"
    if not tensor.requires_grad:
        return "is frozen (requires_grad is False)"
    if tensor.grad is not None:
        return "has a gradient: training has begun"
    place = tensor.untyped_storage().data_ptr()
    held = [*model.parameters(), *model.buffers()]
    if any(t is not tensor and t.numel() and t.untyped_storage().data_ptr() == place for t in held):
        return "shares its memory with another tensor of the model"
    return ""


def _times(tensor: Tensor, factor: float) -> Tensor:
    return (tensor.detach().double() * factor).to(tensor.dtype)


def _scaled(weight: Tensor, found: Start) -> Tensor:
    """The weight with its live taps multiplied; dead ones are left, since nothing is known of them."""
    mask = torch.ones((), dtype=torch.bool, device=weight.device)
    for taps, size in zip(found.live, weight.shape[2:], strict=True):
        alive = torch.zeros(size, dtype=torch.bool, device=weight.device)
        alive[list(taps)] = True
        mask = mask[..., None] & alive
    return torch.where(mask, _times(weight, found.factor), weight.detach())


def _write(changes: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Write all values or none."""
    written: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for tensor, value in changes:
                before = tensor.detach().clone()
                tensor.copy_(value)
                written.append((tensor, before))
    except BaseException as e:
        with torch.no_grad():
            for tensor, before in written:
                tensor.copy_(before)
        if not isinstance(e, Exception):
            raise
        raise RefusedError(
            f"the weights cannot be written ({first_line(e)}), so nothing was changed: build the model outside of "
            "torch.inference_mode()"
        ) from e


def _notes(model: nn.Module, changed: bool) -> tuple[str, ...]:
    counts = [n for name, n in model.named_buffers() if name.rpartition(".")[2] == "num_batches_tracked"]
    if changed and any(int(n) > 0 for n in counts):
        return ("batch norm has statistics from before the correction: call reset_running_stats() on it",)
    return ()
