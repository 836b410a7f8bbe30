"""Folded graphs as rows that a test can write by hand, and small networks to fold."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

import flatconv
from flatconv.report.fold import SiteReport

torch.set_num_threads(1)

TINY = 1e-12
"""Relative error that float64 leaves room for."""


class Padded(nn.Module):
    """A pad, then a convolution."""

    def __init__(
        self, conv: nn.Module, pad: tuple[int, ...], mode: str = "constant", value: float | None = None
    ) -> None:
        super().__init__()
        self.conv = conv
        self.pad, self.mode, self.value = pad, mode, value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, self.pad, mode=self.mode, value=self.value))


class Before(nn.Module):
    """A function of the input, then a convolution."""

    def __init__(self, function: Any, conv: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.function(x))


class Net(nn.Module):
    """A forward method given as a function of the module and its inputs."""

    def __init__(self, forward: Any, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        # As a method, so that the arguments keep their names.
        self.forward = MethodType(forward, self)


def sample(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Random values that are the same on every run."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def filled(model: nn.Module, seed: int = 1, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The model in eval mode with weights that are the same on every run; no two of them alike."""
    generator = torch.Generator().manual_seed(seed)
    model.to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def folded(model: nn.Module, *tensors: torch.Tensor, **options: Any) -> flatconv.Folded:
    """The model folded, after a look that it computes what the model computes."""
    options = {"dynamic": False, "verify": False} | options
    flat = flatconv.fold(model, tensors, **options)
    with torch.no_grad():
        agree(flat(*tensors), model(*tensors))
    return flat


def agree(given: Any, wanted: Any, limit: float = TINY) -> None:
    """Fail unless shapes, dtypes and, within ``limit`` of the largest value, the values are the same."""
    assert type(given) is type(wanted)
    if not isinstance(wanted, torch.Tensor):
        assert len(given) == len(wanted)
        for a, b in zip(given, wanted, strict=True):
            agree(a, b, limit)
        return
    assert (given.shape, given.dtype) == (wanted.shape, wanted.dtype)
    if wanted.numel():
        scale = max(float(wanted.abs().max()), 1e-300)
        assert float((given - wanted).abs().max()) / scale < limit


def form(flat: flatconv.Folded) -> list[tuple[Any, ...]]:
    """The graph as rows ``(operator, *arguments)``.

    Inputs go by the names of the arguments, weights by their names in the state, and results by the number of their row:
    ``#0`` is what the first row computed.
    """
    names: dict[fx.Node, str] = {}
    rows: list[tuple[Any, ...]] = []
    inputs = iter(guard.name for guard in flat.guards.inputs)

    def words(value: Any) -> Any:
        return fx.node.map_arg(value, lambda n: names[n])

    for node in flat.graph.nodes:
        if node.op == "placeholder":
            names[node] = next(inputs)
        elif node.op == "get_attr":
            names[node] = node.target
        elif node.op == "output":
            rows.append(("return", *words(node.args[0])))
        else:
            names[node] = f"#{len(rows)}"
            rest = [dict(words(node.kwargs))] if node.kwargs else []
            rows.append((str(node.target).removeprefix("aten."), *words(node.args), *rest))
    return rows


def operators(flat: flatconv.Folded) -> list[str]:
    """Names of the operators, without overloads."""
    return [row[0].partition(".")[0] for row in form(flat)[:-1]]


def only_site(flat: flatconv.Folded) -> SiteReport:
    """The report of the one convolution."""
    (site,) = flat.report.sites
    return site


def refused(flat: flatconv.Folded, rule: str) -> str:
    """Why a rule did not apply to the one convolution; empty if nothing was said."""
    return "; ".join(r for r in only_site(flat).refusal if r.startswith(f"{rule}: "))
