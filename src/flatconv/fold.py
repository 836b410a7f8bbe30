"""A model rewritten so that only the useful part of its convolutions is paid for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from flatconv import forms
from flatconv.analyse import Analysis, analyse
from flatconv.audit import audit_of, reported, site_names
from flatconv.capture import Capture, capture
from flatconv.errors import InputError, PrecisionError, RefusedError, VerificationError
from flatconv.gradients import without_autocast
from flatconv.interpret import evaluate
from flatconv.lower import Constant, Lowered, Weights, lower
from flatconv.modelstate import unchanged
from flatconv.module import Folded
from flatconv.onnx_in import OnnxModel
from flatconv.ops.conv import Site
from flatconv.report.fold import FoldReport, SiteReport
from flatconv.signature import Outputs
from flatconv.tune import Tuned, Tuning
from flatconv.tune import tune as choose
from flatconv.verify import Evidence, verify_all
from flatconv.watch import unregistered


def fold(
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    method: str = "forward",
    assume: Mapping[str, Any] | None = None,
    dynamic: str | bool = "auto",
    weights: Weights = "folded",
    rank4: bool = False,
    tune: bool | Tuning = True,
    verify: bool = True,
) -> Folded:
    """Rewrite a model exactly, for inputs of the shape of an example.

    Taps that meet only zeros are left out, taps that meet equal slices are added, and axes along which one slice goes in
    and one comes out are dropped, from where the data enters to where it leaves. The model itself is not changed.

    Args:
        model: any module that torch.export captures, in the mode in which it will be called.
        args: example call, such as ``(torch.randn(1, 3, 1, 256, 256),)``. Depth is taken from it; batch, height and width
            stay free where the model allows it.
        kwargs: more of it, by name.
        method: the method to fold; the result is called as this method is.
        assume: what is known of the inputs and the graph cannot show, by name: ``{"x": flatconv.repeated(dim=2)}`` for an
            image repeated into several frames. The folded model checks it, and with ``otherwise="full"`` computes calls of
            which it is not true in full.
        dynamic: "auto" to leave batch, height and width free; False to fix every size.
        weights: "folded" stores new weights of lower rank, copies that later changes of the model do not reach;
            "shared" reads the model's own parameters (same state_dict) and reduces them on every call, so that it
            follows their changes and gradients flow into the live taps.
        rank4: demand a program without any tensor of rank above four, for runtimes that have no others: axes of size one stay
            outside of the graph, also at its inputs and outputs. The result is called as before; what ``save`` and ``export``
            write takes and gives the lower rank. Forms are those of ``Tuning(engine="onnx")``.
        tune: choose between exact forms (a matrix product, 2-D convolutions, memory formats, the original itself) by timing
            them on the example, on its device and with the threads that are set; ``flatconv.Tuning`` says how. False, or
            FLATCONV_TUNE=0 in the environment, takes a fixed choice: a matrix product for patches, forms that copy nothing,
            and else the convolution as the rules left it. A model in train mode is not timed.
        verify: compare with the original and give each rewritten site its evidence level.

    Returns:
        A module with the call signature and the results of the original method; ``.report`` says what was done.

    Raises:
        InputError: the arguments do not fit.
        RefusedError: the model cannot be captured or rewritten; or not without tensors of a higher rank, with all reasons.
        VerificationError: the rewritten model differs from the original.
    """
    if weights not in ("folded", "shared"):
        raise InputError(f"weights is {weights!r}; it may be 'folded' or 'shared'")
    settings = _settings(Tuning("onnx") if rank4 else tune)
    captured = capture(model, args, kwargs, method=method, dynamic=dynamic, assume=assume)
    if verify and isinstance(model, OnnxModel):
        apart = model.confirm(captured.example)
        said = (
            f"The file as read here and as ONNX Runtime computes it differ by {max(apart.values()):.1e} of the results' size "
            f"at most, on inputs of {len(apart)} set{'s' if len(apart) > 1 else ''} of sizes"
        )
        captured = replace(captured, notes=(*captured.notes, said))
    if captured.updates and weights == "folded":
        more = f" and {len(captured.updates) - 3} more" if len(captured.updates) > 3 else ""
        raise RefusedError(
            f"a call changes {', '.join(captured.updates[:3])}{more} in place (batch norm in train mode does), and folded "
            "weights are copies: call model.eval() first, or train with weights='shared'"
        )
    if weights == "shared" and (found := unregistered(model)) is not None:
        raise RefusedError(
            f"{type(model).__name__} reads '{found}', which is in none of its registered modules, so that weights='shared' "
            "cannot follow it: register it (nn.ModuleList, nn.ParameterList), or fold with weights='folded'"
        )
    engine = settings.engine if settings is not None else "eager"
    analysis = replace(analyse(captured.program, captured.given), engine=engine)
    tuned = None
    planned = analysis
    if settings is not None and engine != "onnx" and analysis.sites and not model.training:
        with unchanged(model), torch.random.fork_rng(devices=[]):
            analysis, tuned = choose(captured, analysis, settings)
    else:
        analysis = replace(analysis, sites=forms.choose(analysis.sites, engine))
    if rank4:
        return _rank4(captured, _folded(captured, analysis, weights, verify, None), weights)
    try:
        return _folded(captured, analysis, weights, verify, tuned)
    except PrecisionError as e:
        if tuned is None:
            raise
        # Forms add in other orders, and a type may be too narrow for some of them: the fixed choice has its own chance.
        analysis = replace(planned, sites=forms.choose(planned.sites, engine))
        reason = f"'{tuned.chosen}' was the fastest and is not accurate enough: {e}"
        tuned = replace(tuned, chosen="fixed", reason=reason, forms={})
        return _folded(captured, analysis, weights, verify, tuned)


def _rank4(captured: Capture, flat: Folded, weights: Weights) -> Folded:
    """The same with the axes of size one outside of the graph, after a look that it computes the same.

    Raises:
        RefusedError: there are tensors of a higher rank.
    """
    if captured.program.random:
        raise RefusedError(
            "the model draws random numbers (dropout in train mode): rank4=True is for inference, call model.eval()"
        )
    if weights == "shared" or flat._full is not None:
        what = "weights='shared' keeps weights" if weights == "shared" else "otherwise='full' keeps a form"
        raise RefusedError(f"{what} of the original's rank: rank4=True needs weights='folded' and otherwise='refuse'")
    args, kwargs = captured.inputs.arguments(captured.example)
    with torch.no_grad():
        before = Outputs().record(flat(*args, **kwargs))
        flat.leave_axes_outside(captured.example)
        after = Outputs().record(flat(*args, **kwargs))
    if not all(
        a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(before, after, strict=True)
    ):
        raise VerificationError(
            "without tensors of rank above four the fold computes something else. This is a bug in flatconv: please report it "
            "with the model"
        )
    flat.forget_calls()
    return flat


def _folded(captured: Capture, analysis: Analysis, weights: Weights, verify: bool, tuned: Tuned | None) -> Folded:
    """The model that an analysis describes, verified if so wished, with its report."""
    lowered = lower(captured.program, analysis, weights)
    full = _full(captured, lowered, weights)
    constants = lowered.constants | (full.lowered.constants if full else {})
    state = _state(captured, constants, weights)
    if weights == "shared" and any(t.itemsize < 4 for t in captured.program.weights.values()):
        # The sums are made on each call: in a narrow type they may not fit, and folding the weights tells.
        for one in (analysis, *([full.analysis] if full else ())):
            _state(captured, lower(captured.program, one, "folded").constants, "folded")
    graph = full.lowered.graph if full else None
    flat = Folded(lowered.graph, state, captured, follow=weights == "shared", full=graph)
    with unchanged(captured.model), without_autocast():
        evidence = verify_all(captured, analysis, lowered, flat, weights) if verify else Evidence()
        if verify and full is not None:
            # Of inputs that nothing is known of the folded model itself takes the full form, so this shows that it does.
            beside = verify_all(full.captured, full.analysis, full.lowered, flat, weights)
            evidence = replace(evidence, runs=evidence.runs + beside.runs)
    flat.forget_calls()
    flat.report = _report(captured, analysis, weights, evidence, tuned)
    return flat


def _settings(tune: bool | Tuning) -> Tuning | None:
    """How to choose; None for the fixed choice."""
    if isinstance(tune, Tuning):
        return tune
    if not isinstance(tune, bool):
        raise InputError(f"tune is {tune!r}; it may be True, False or a flatconv.Tuning")
    return Tuning() if tune and os.environ.get("FLATCONV_TUNE", "1") != "0" else None


@dataclass(frozen=True)
class _Full:
    """The form that a call takes of which a declaration with otherwise="full" is not true."""

    captured: Capture
    analysis: Analysis
    lowered: Lowered


def _full(captured: Capture, beside: Lowered, weights: Weights) -> _Full | None:
    """The same capture folded with the other declarations alone; None where that is no other form."""
    if not any(a.otherwise == "full" and a.size > 1 for a in captured.assumed):
        return None
    fewer = replace(captured, assumed=tuple(a for a in captured.assumed if a.otherwise != "full"))
    analysis = analyse(fewer.program, fewer.given)
    analysis = replace(analysis, sites=forms.choose(analysis.sites))
    lowered = lower(fewer.program, analysis, weights)
    names: dict[str, str] = {}
    held = {c.key: name for name, c in beside.constants.items()}
    for name, constant in lowered.constants.items():
        found, count = held.get(constant.key, constant.name), 1
        while constant.key not in held and (found in beside.constants or found in names.values()):
            count += 1
            found = f"{constant.name}__{count}"
        names[name] = found
    for node in lowered.graph.nodes:
        if node.op == "get_attr":
            node.target = names[str(node.target)]
    lowered.constants = {names[n]: replace(c, name=names[n]) for n, c in lowered.constants.items()}
    return _Full(fewer, analysis, lowered)


def _state(captured: Capture, constants: Mapping[str, Constant], weights: Weights) -> dict[str, torch.Tensor]:
    """The tensors that the folded model has for itself, by name."""
    program = captured.program
    own = dict(captured.model.named_parameters(remove_duplicate=False))
    if weights == "shared":
        held = own | dict(captured.model.named_buffers(remove_duplicate=False))
        return {c.name: program.weights[c.sources[0]] for c in constants.values() if c.name not in held}
    state: dict[str, torch.Tensor] = {}
    with torch.inference_mode(False), torch.no_grad():
        for constant in constants.values():
            value = constant.value(program.weights)
            if not _finite(value) and all(_finite(evaluate(s, program.weights)) for s in constant.sources):
                raise RefusedError(
                    f"the merged taps of '{constant.name}' add up to more than {value.dtype} can hold: "
                    "fold the model in float32"
                )
            # Copies, so that a later change of the original reaches all of them or none: none.
            sources = [program.weights.get(s, value) for s in constant.sources]
            if any(value.untyped_storage().data_ptr() == s.untyped_storage().data_ptr() for s in sources):
                value = value.clone()
            parameters = [own.get(program.names.get(s, constant.name)) for s in constant.sources]
            if any(p is None for p in parameters):
                state[constant.name] = value.detach()
            else:
                learns = any(p is not None and p.requires_grad for p in parameters)
                state[constant.name] = nn.Parameter(value.detach(), requires_grad=learns)
    return state


def _finite(value: torch.Tensor) -> bool:
    # Through float32, since some types of eight bits cannot be asked.
    return not value.is_floating_point() or bool(torch.isfinite(value.float() if value.itemsize < 2 else value).all())


def _report(
    captured: Capture, analysis: Analysis, weights: Weights, evidence: Evidence, tuned: Tuned | None
) -> FoldReport:
    names = site_names(analysis)
    numbers = audit_of(captured, analysis)
    sites = []
    for (node, here), audit in zip(reported(analysis).items(), numbers.sites, strict=True):
        done = any(a.changed for a in here.axes) or bool(here.applied)
        sites.append(
            SiteReport(
                audit=audit,
                rule=here.applied,
                refusal=tuple(f"{rule}: {why}" for rule, why in here.refusals),
                becomes=_becomes(here) if done else here.name,
                evidence=evidence.sites.get(names[node]),
            )
        )
    return FoldReport(
        audit=numbers,
        sites=tuple(sites),
        weights=weights,
        free=tuple(f"{g.name}.shape[{a}]" for g in captured.guards.inputs for a, s in enumerate(g.shape) if s is None),
        evidence=evidence,
        assumptions=numbers.assumptions,
        unused_parameters=numbers.unused_parameters,
        tuned=tuned,
    )


def _becomes(here: Site) -> str:
    left = forms.form(here).left(here)
    if not left:
        return "linear"
    return f"conv{'_transpose' if here.transposed else ''}{left}d"
