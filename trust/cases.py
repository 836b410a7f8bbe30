"""One fuzz case: a recipe, a setting, a fold, and every oracle that applies."""

from __future__ import annotations

import copy
import random
import re
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

import flatconv
from trust import values
from trust.draw import graph, single
from trust.oracles import Judge, Tally, WrongError
from trust.recipes import Feed, Recipe, Setting
from trust.scattered import scattered
from trust.steps import Shape

What = Literal["operator", "graph"]

IN_FLOAT64 = "original fails in float64"
"""What became of a call: the original answers in its own type, and not in float64."""


@dataclass
class Outcome:
    """What became of one case.

    Attributes:
        failure: kind of failure; empty if there is none.
        detail: of the failure or refusal.
        refused: the fold was refused.
        skipped: the original does not run in this setting.
        rules: sites by rule that was applied.
        sites: convolutions that were rewritten.
        tally: what was compared.
        calls: other sizes, by what became of the call.
        feed: the inputs that were fed last, and the setting they met.
    """

    failure: str = ""
    detail: str = ""
    refused: str = ""
    skipped: bool = False
    rules: Counter[str] = field(default_factory=Counter)
    sites: int = 0
    tally: Tally = field(default_factory=Tally)
    calls: Counter[str] = field(default_factory=Counter)
    feed: tuple[Setting, Feed] | None = None


def recipe_of(what: What, seed: int) -> Recipe:
    """The recipe of a seed."""
    return single(seed) if what == "operator" else graph(seed)


def setting_of(what: What, seed: int) -> Setting:
    """How the recipe of a seed is filled and folded: every other one in forms that are drawn."""
    drawn = random.Random(f"{what} forms {seed}").random() < 0.5
    return replace(_setting_of(what, seed), scattered=drawn)


def _setting_of(what: What, seed: int) -> Setting:
    r = random.Random(f"{what} setting {seed}")
    weights = "shared" if seed % 2 else "folded"
    if what == "operator":
        dtype = "float64" if r.random() < 0.6 else "float32"
        grid = ("grid", 36) if dtype == "float64" else ("grid", 9)
        planted = ("dyadic", 20) if dtype == "float64" else ("dyadic", 6)
        full = ("full", 0) if dtype == "float32" else grid
        # Shared weights are filled again with dyadic numbers on the way.
        how, bits = r.choice([grid, full] if weights == "shared" else [grid, full, planted])
        return Setting(dtype, weights, False, r.random() < 0.05, how, bits)
    dtype = r.choices(["float64", "float32", "bfloat16"], [65, 25, 10])[0]
    small = {"float64": 20, "float32": 6, "bfloat16": 0}[dtype]
    how, bits = r.choice([("full", 0), ("dyadic", 0), ("dyadic", small)])
    dynamic: str | bool = "auto" if r.random() < 0.5 else False
    return Setting(dtype, weights, dynamic, r.random() < 0.2, how, bits)


def check(recipe: Recipe, setting: Setting, what: What) -> Outcome:
    """Fold a recipe and hold it against the oracles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _check(recipe, setting, what)


def _check(recipe: Recipe, setting: Setting, what: What) -> Outcome:
    outcome = Outcome()
    model = recipe.module(setting.how, setting.bits, setting.torch_dtype)
    example = recipe.tensors("full", 0, setting.torch_dtype)
    try:
        with torch.no_grad():
            model(*[x.clone() for x in example])
    except (RuntimeError, ValueError, NotImplementedError):
        outcome.skipped = True
        return outcome
    options: dict[str, Any] = {"dynamic": setting.dynamic, "weights": setting.weights, "verify": setting.verify}
    try:
        with scattered(recipe.seed) if setting.scattered else nullcontext():
            flat = flatconv.fold(model, tuple(x.clone() for x in example), **options)
    except flatconv.RefusedError as e:
        outcome.refused = re.sub(r"'[^']*'|\d+", "#", str(e))[:160]
        return outcome
    except Exception as e:
        # Whatever else a fold raises is a failure to be shown, not an error of the fuzzer.
        outcome.failure, outcome.detail = f"fold: {type(e).__name__}", _last_lines(e)
        return outcome
    for site in flat.report.sites:
        outcome.rules.update(site.rule)
        outcome.sites += bool(site.rule)
    judge = Judge(recipe, setting, model, flat, outcome.tally)
    try:
        _judge(judge, what)
        if setting.dynamic:
            for shapes in other_sizes(recipe.inputs):
                _call(judge, flat, shapes, outcome)
        if setting.weights == "shared":
            # The fold reads the very same parameters: new numbers in them reach it.
            bits = {"float64": 20, "float32": 6}.get(setting.dtype, 0) if what == "operator" else 0
            values.fill(model, recipe.seed, "dyadic", bits)
            judge = Judge(recipe, replace(setting, how="dyadic", bits=bits), model, flat, outcome.tally)
            judge.dyadics(bits)
    except WrongError as e:
        outcome.failure, outcome.detail = e.oracle, str(e)
    except Exception as e:
        outcome.failure, outcome.detail = f"call: {type(e).__name__}", _last_lines(e)
    outcome.feed = judge.setting, judge.feed
    return outcome


def _judge(judge: Judge, what: What) -> None:
    setting, last = judge.setting, judge.recipe.steps[-1].kind
    if what == "operator" and setting.how != "full" and last in ("conv", "linear"):
        judge.impulses()
    if setting.how != "full":
        fine = {"grid": {"float64": 4, "float32": 2}, "dyadic": {"float64": 20, "float32": 6}}
        judge.dyadics(fine[setting.how].get(setting.dtype, 0) if what == "operator" else min(setting.bits, 6))
    judge.randoms()


def _call(judge: Judge, flat: flatconv.Folded, shapes: Sequence[Shape], outcome: Outcome) -> None:
    """A call at other sizes: the right answer, or a refusal to answer."""
    judge.feed = Feed("full", 0, shapes)
    inputs = judge.recipe.tensors("full", 0, judge.setting.torch_dtype, shapes)
    runs = _runs(judge.model, inputs)
    try:
        with torch.no_grad():
            flat(*[x.clone() for x in inputs])
    except flatconv.GuardError:
        outcome.calls["guarded" if runs else "guarded, original fails"] += 1
        return
    except Exception:
        if runs:
            raise
        outcome.calls["both fail"] += 1
        return
    if not runs:
        outcome.calls["answered, original fails"] += 1
        return
    if not _runs(copy.deepcopy(judge.model).double(), [x.double() for x in inputs]):
        # Some kernels of float64 refuse an empty result that others give: then nothing can be said of the numbers.
        outcome.calls[IN_FLOAT64] += 1
        return
    judge.randoms(shapes)
    if judge.setting.how != "full":
        judge.dyadics(0, shapes)
    outcome.calls["right"] += 1


def _runs(model: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> bool:
    try:
        with torch.no_grad():
            model(*[x.clone() for x in inputs])
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError):
        return False
    return True


def other_sizes(shapes: Sequence[Shape]) -> list[list[Shape]]:
    """The same inputs with another batch, height or width."""
    found = []
    for batch, height, width in ((1, 0, 0), (2, 0, 0), (5, 1, 0), (2, 0, 2), (1, 2, 3), (4, -1, -1), (0, 0, 0)):
        made = []
        for shape in shapes:
            sizes = list(shape)
            sizes[0] = batch
            if len(sizes) >= 4:
                for axis, more in ((-2, height), (-1, width)):
                    sizes[axis] = max(sizes[axis] + more, 1) if sizes[axis] > 1 else sizes[axis]
            made.append(tuple(sizes))
        if tuple(made) != tuple(shapes):
            found.append(made)
    return found


def _last_lines(error: Exception) -> str:
    return "".join(traceback.format_exception(error))[-1200:]
