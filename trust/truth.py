"""What is true of a program's slices, measured: the program is run on draws of inputs and weights, and slices compared."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from flatconv.facts import ZERO
from flatconv.program import Node, Program, transform

CLOSE = 1e-12
"""Slices that differ by less, relative to the largest element of their tensor, are equal."""

Values = dict[Node, np.ndarray]


def draw(program: Program, seed: int) -> dict[Node, torch.Tensor]:
    """Random inputs and random weights; literals of the code as they are."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[Node, torch.Tensor] = {}
    for node in program.nodes:
        if node.op == "weight":
            held = program.weights[node].detach()
            fixed = node.literal is not None or not held.is_floating_point()
            found[node] = held if fixed else _weight(program.names[node], held, generator)
        elif node.op == "input":
            shape = tuple(int(s) for s in node.shape or ())
            found[node] = torch.randn(shape, generator=generator, dtype=torch.float64)
    return found


def _weight(name: str, held: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    value: torch.Tensor = torch.randn(held.shape, generator=generator, dtype=torch.float64)
    if name.endswith("running_var"):
        return value.abs() + 0.5
    # As large as it takes to keep results of the size of the inputs.
    fan_in: int = max(held[0].numel() if held.dim() > 1 else 1, 1)
    return value / float(fan_in) ** 0.5


def run(program: Program, given: Mapping[Node, torch.Tensor], narrow: bool = False) -> dict[Node, Any]:
    """The value of every node, computed by the operators of the captured graph; in float32 if ``narrow``."""
    values: dict[Node, Any] = {}

    def fit(value: Any) -> Any:
        if narrow and isinstance(value, torch.Tensor) and value.dtype == torch.float64:
            return value.float()
        return torch.float32 if narrow and value is torch.float64 else value

    for node in program.nodes:
        if node in given:
            values[node] = fit(given[node])
            continue
        assert node.target is not None
        args = transform(node.args, lambda v: values[v] if isinstance(v, Node) else fit(v))
        if isinstance(node.target, torch._ops.OpOverload):
            values[node] = node.target(**args)
        else:
            values[node] = node.target(*args.values())
    return values


def sample(program: Program, seeds: Sequence[int]) -> Values:
    """Every tensor of the program, the draws along a new axis in front."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = [run(program, draw(program, s)) for s in seeds]
    nodes = [n for n in program.nodes if n.shape is not None]
    return {n: np.stack([r[n].to(torch.float64).numpy() for r in runs]) for n in nodes}


@dataclass(frozen=True)
class Truth:
    """What is true of the slices along one axis.

    Attributes:
        classes: one number a slice; equal numbers for equal slices, ``ZERO`` for zero ones.
    """

    classes: tuple[int, ...]

    @property
    def zeros(self) -> int:
        """Zero slices."""
        return self.classes.count(ZERO)

    @property
    def redundant(self) -> int:
        """Non-zero slices that repeat an earlier one."""
        rest = [c for c in self.classes if c != ZERO]
        return len(rest) - len(set(rest))


def truth(value: np.ndarray, axis: int) -> Truth:
    """The classes of the slices of ``value`` (draws in front) along an axis of the tensor."""
    count = value.shape[axis + 1]
    rows = np.moveaxis(value, axis + 1, 0).reshape(count, value.shape[0], -1)
    limit = CLOSE * scale_of(value)[:, None]
    classes: list[int] = []
    kinds: list[np.ndarray] = []
    for row in rows:
        if not row.any():
            classes.append(ZERO)
            continue
        same = next((i for i, k in enumerate(kinds) if (np.abs(row - k) <= limit).all()), None)
        if same is None:
            kinds.append(row)
        classes.append(len(kinds) if same is None else same + 1)
    return Truth(tuple(classes))


def scale_of(value: np.ndarray) -> np.ndarray:
    """The largest element of each draw."""
    found: np.ndarray = np.abs(value.reshape(value.shape[0], -1)).max(axis=1, initial=0.0)
    return found
