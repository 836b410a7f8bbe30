"""Forms for all convolutions of a model, and the model in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import fx

from flatconv import forms
from flatconv.analyse import Analysis
from flatconv.forms import together
from flatconv.lower import Constant, Lowered
from flatconv.ops.conv import site
from flatconv.program import Node, Program
from flatconv.state import as_module
from flatconv.tune.cache import Choice


def as_captured(analysis: Analysis) -> Analysis:
    """Every convolution as the model has it: no rule is applied."""
    bare = {n: site(n, analysis.facts) for n in analysis.sites}
    return replace(analysis, sites={n: s for n, s in bare.items() if s is not None})


def chosen(analysis: Analysis, choices: Mapping[Node, Choice], joint: Sequence[tuple[Node, ...]] = ()) -> Analysis:
    """Every convolution in the form that was chosen for it, some of them as one."""
    sites = {n: forms.take(s, *choices[n]) if n in choices else s for n, s in analysis.sites.items()}
    for bundle in joint:
        sites = together.take(sites, bundle)
    return replace(analysis, sites=sites)


def label(choice: Choice) -> str:
    """A form in words."""
    name, last = choice
    return f"{name}, {forms.LAST}" if last else name


def tensor(constant: Constant, program: Program, made: dict[str, torch.Tensor]) -> torch.Tensor:
    """The tensor of a constant; ``made`` keeps those that several programs have in common."""
    if constant.key not in made:
        with torch.no_grad():
            made[constant.key] = constant.value(program.weights).detach()
    return made[constant.key]


def module(lowered: Lowered, program: Program, made: dict[str, torch.Tensor]) -> fx.GraphModule:
    """A lowered program as a module; ``made`` keeps the weights that several of them have in common."""
    return as_module(lowered.graph, lambda name: tensor(lowered.constants[name], program, made))
