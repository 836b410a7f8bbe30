"""Alarms: folds that are wrong on purpose, each of which verification has to stop.

Every alarm breaks the product at one place, from outside, and names the words of the check that has to notice. So a check
that was weakened is found out, though no result changes: the product is right, only nobody would see it if it were not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import nn

import flatconv
from flatconv.errors import VerificationError
from trust.trap import Args, Flow, c3

SITE_WORDS = ("with whole numbers", "unit impulses show", "times the rounding bound")


@dataclass(frozen=True)
class Alarm:
    """A fold broken on purpose.

    Attributes:
        name: unique.
        words: of the check that has to notice.
        make: the model and an example call.
        change: what is broken, given the modules of the product.
        options: of the fold.
    """

    name: str
    words: str
    make: Callable[[], tuple[nn.Module, Args]]
    change: Callable[[Any], Iterator[Any]]
    dynamic: str | bool = False

    def missed(self) -> str | None:
        """None if the alarm was raised; else what happened instead."""
        torch.manual_seed(5)
        model, args = self.make()
        modules = {n.removeprefix("flatconv."): m for n, m in sys.modules.items() if n.startswith("flatconv.")}
        with ExitStack() as stack:
            for patch in self.change(modules):
                stack.enter_context(patch)
            try:
                flatconv.fold(model.eval(), args, dynamic=self.dynamic)
            except VerificationError as e:
                return None if self.words in str(e) else f"{self.name}: stopped with other words: {e}"
            except Exception as e:
                return f"{self.name}: {type(e).__name__}: {e}"
        return f"{self.name}: a wrong fold passed"


def missed() -> str | None:
    """The first alarm that was not raised, in words."""
    return next((m for m in (a.missed() for a in ALARMS) if m), None)


# --- models


def _plain(**options: Any) -> Callable[[], tuple[nn.Module, Args]]:
    return lambda: (c3(2, 3, 3, padding=1, **options), (torch.randn(2, 2, 1, 5, 7),))


def _two() -> tuple[nn.Module, Args]:
    return nn.Sequential(c3(2, 3, 3, padding=1), nn.ReLU(), c3(3, 2, 3, padding=1)), (torch.randn(2, 2, 1, 6, 7),)


def _on_zeros() -> tuple[nn.Module, Args]:
    return c3(2, 3, 3, padding=1, bias=False), (torch.zeros(2, 2, 1, 5, 7),)


def _scaled_down() -> tuple[nn.Module, Args]:
    conv = c3(2, 3, 3, padding=1)
    with torch.no_grad():
        conv.weight[0, 0] *= 1e-8
    return conv, (torch.randn(2, 2, 1, 5, 7),)


def _pooled() -> tuple[nn.Module, Args]:
    return nn.Sequential(c3(2, 3, 3, padding=1), nn.AdaptiveAvgPool3d(1)), (torch.randn(2, 2, 1, 6, 7),)


def _height() -> tuple[nn.Module, Args]:
    return Flow(lambda s, t: s.conv(t) + 1.0, conv=c3(2, 3, 3, padding=1)), (torch.randn(2, 2, 1, 6, 8),)


# --- what is broken


def _reduced(change: Callable[..., Any]) -> Callable[[Any], Iterator[Any]]:
    """Another reduced weight, wherever it is made."""

    def patches(modules: Any) -> Iterator[Any]:
        right = modules["ops.conv"].reduce_weight

        def wrong(weight: Any, here: Any, dtype: Any, call: Any) -> Any:
            return change(right, weight, here, dtype, call)

        yield mock.patch.object(modules["ops.conv"], "reduce_weight", wrong)
        yield mock.patch.object(modules["lower"], "reduce_weight", wrong)

    return patches


def _wrong_tap(right: Any, weight: Any, here: Any, dtype: Any, call: Any) -> Any:
    axes = tuple(replace(a, taps=((a.taps[0][0] - 1,),)) if a.dropped else a for a in here.axes)
    return right(weight, replace(here, axes=axes), dtype, call)


def _small_gone(right: Any, weight: Any, here: Any, dtype: Any, call: Any) -> Any:
    made = right(weight, here, dtype, call)
    large = call(torch.ops.aten.gt.Scalar, call(torch.ops.aten.abs.default, made), 1e-6)
    return call(torch.ops.aten.mul.Tensor, made, large)


def _fractions_rounded(right: Any, weight: Any, here: Any, dtype: Any, call: Any) -> Any:
    made = call(torch.ops.aten.mul.Tensor, right(weight, here, dtype, call), 1024.0)
    return call(torch.ops.aten.div.Tensor, call(torch.ops.aten.round.default, made), 1024.0)


def _lowered(change: Callable[[Any], Any]) -> Callable[[Any], Iterator[Any]]:
    """Another new program, behind the back of the site oracles."""

    def patches(modules: Any) -> Iterator[Any]:
        right = modules["fold"].lower

        def wrong(*given: Any, **named: Any) -> Any:
            return change(right(*given, **named))

        yield mock.patch.object(modules["fold"], "lower", wrong)

    return patches


def _constants(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Iterator[Any]]:
    """Other weights everywhere, where the check of the weights alone would not stop them."""

    def changed(lowered: Any) -> Any:
        for key, c in list(lowered.constants.items()):
            lowered.constants[key] = replace(c, make=lambda w, make=c.make: change(make(w)))
        return lowered

    def patches(modules: Any) -> Iterator[Any]:
        yield _unchecked(modules)
        yield from _lowered(changed)(modules)

    return patches


def _unchecked(modules: Any) -> Any:
    return mock.patch.object(modules["verify"], "check_state", return_value=None)


def _one_number(value: torch.Tensor) -> torch.Tensor:
    value = value.clone()
    value.view(-1)[0] *= 1 + 1e-6
    return value


def _result(change: Callable[[Any, Any], Any]) -> Callable[[Any], Iterator[Any]]:
    """Another result of the new graph."""

    def changed(lowered: Any) -> Any:
        output = next(n for n in lowered.graph.nodes if n.op == "output")
        with lowered.graph.inserting_before(output):
            output.args = (tuple(change(lowered.graph, n) for n in output.args[0]),)
        return lowered

    return _lowered(changed)


def _state(change: Callable[[torch.Tensor], torch.Tensor], checked: bool) -> Callable[[Any], Iterator[Any]]:
    """Other weights in the folded module than were checked in float64."""

    def patches(modules: Any) -> Iterator[Any]:
        if not checked:
            yield _unchecked(modules)
        right = modules["fold"]._state

        def wrong(*given: Any, **named: Any) -> Any:
            return {k: change(v.detach()) for k, v in right(*given, **named).items()}

        yield mock.patch.object(modules["fold"], "_state", wrong)

    return patches


def _bfloat16(weight: torch.Tensor) -> torch.Tensor:
    return weight.bfloat16().to(weight.dtype)


def _no_guards(modules: Any) -> Iterator[Any]:
    yield mock.patch.object(modules["guards"].Guards, "check", return_value=None)


def _other_capture(modules: Any) -> Iterator[Any]:
    """A graph that is not the model."""
    right = modules["fold"].capture

    def wrong(*given: Any, **named: Any) -> Any:
        captured = right(*given, **named)
        for name, weight in captured.weights.items():
            captured.weights[name] = weight.detach() * 1.001
        for node, weight in captured.program.weights.items():
            captured.program.weights[node] = weight.detach() * 1.001
        return captured

    yield mock.patch.object(modules["fold"], "capture", wrong)


aten = torch.ops.aten
ALARMS: tuple[Alarm, ...] = (
    Alarm("wrong tap", SITE_WORDS[0], _plain(), _reduced(_wrong_tap)),
    Alarm("small taps gone", SITE_WORDS[1], _scaled_down, _reduced(_small_gone)),
    Alarm("merged taps rounded", SITE_WORDS[2], _plain(padding_mode="replicate"), _reduced(_fractions_rounded)),
    Alarm("all weights a little larger", "in float64 the fold differs", _two, _constants(lambda w: w * (1 + 1e-8))),
    Alarm("one weight a little larger", "in float64 the fold differs", _two, _constants(_one_number)),
    Alarm(
        "a number in one corner",
        "in float64 the fold differs",
        _two,
        _result(
            lambda g, n: g.call_function(
                aten.constant_pad_nd.default, (g.call_function(aten.slice.Tensor, (n, 4, 0, 6)), [0, 1], 0.0)
            )
        ),
    ),
    Alarm(
        "another shape", "of the fold is", _two, _result(lambda g, n: g.call_function(aten.unsqueeze.default, (n, 0)))
    ),
    Alarm("a constant for the example", "in float64 the fold differs", _on_zeros, _constants(lambda w: w * 2)),
    Alarm(
        "the example's height",
        "the fold fails where",
        _height,
        _result(lambda g, n: g.call_function(aten.narrow.default, (n, 3, 0, 6))),
        "auto",
    ),
    Alarm("weights in bfloat16", "against float64 in its own type", _two, _state(_bfloat16, checked=False)),
    Alarm("weights in bfloat16, looked at", "not the original's weight", _two, _state(_bfloat16, checked=True)),
    Alarm("guards that let all through", "which it is not for", _pooled, _no_guards),
    Alarm("another model", "the captured graph is", _two, _other_capture),
)
