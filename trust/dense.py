"""Random densely connected networks with zero and equal slices planted in them.

Every operator reads one or several of all earlier values. Slices are planted by operators that copy or make zeros, and
are carried on by all kinds of layers, so that a network holds many slices that are zero or equal for every input and every
weight. Which ones they are is not noted: it is measured, see ``trust.recall``.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import nn

from trust.carrying import CARRIERS
from trust.growing import Growth, Make, Shape, Step
from trust.planting import PLANTS

MOST_ELEMENTS = 3000
LONGEST_AXIS = 20
LARGEST = 1e4
SHARE_OF_PLANTS = 0.4


class DenseNet(nn.Module):
    """The steps of a network, run in order; every value that no step reads is returned."""

    def __init__(self, shapes: list[Shape], steps: list[Step]) -> None:
        super().__init__()
        self.shapes = shapes
        self.steps = steps
        for i, step in enumerate(steps):
            if isinstance(step.part, nn.Parameter):
                self.register_parameter(f"scale{i}", step.part)
            elif step.part is not None:
                self.add_module(f"part{i}", step.part)
        read = {i for step in steps for i in step.reads}
        self.returned = [i for i in range(len(shapes), len(shapes) + len(steps)) if i not in read]

    def forward(self, *inputs: torch.Tensor) -> Any:
        values = list(inputs)
        for step in self.steps:
            read = [values[i] for i in step.reads]
            values.append(step.call(*read) if step.part is None else step.call(step.part, *read))
        return tuple(values[i] for i in self.returned)

    @property
    def example(self) -> tuple[torch.Tensor, ...]:
        """Inputs to capture the network with."""
        generator = torch.Generator().manual_seed(0)
        return tuple(torch.randn(s, generator=generator, dtype=torch.float64) for s in self.shapes)


def dense_network(seed: int, steps: int | None = None) -> DenseNet:
    """The network of a seed, in float64 and in evaluation mode.

    Args:
        seed: equal seeds give equal networks.
        steps: number of operators; 8 to 20 if nothing is said.
    """
    choose = random.Random(f"dense {seed}")
    shapes: list[Shape] = [
        (2, choose.choice([2, 3, 4]), choose.choice([1, 1, 2, 3]), choose.choice([3, 4]), choose.choice([2, 3, 5]))
    ]
    if choose.random() < 0.5:
        shapes.append((2, shapes[0][1], choose.choice([1, 2]), *shapes[0][3:]))
    growth = Growth(choose)
    generator = torch.Generator().manual_seed(seed)
    growth.values = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    found: list[Step] = []
    wanted = choose.randint(8, 20) if steps is None else steps
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        while len(found) < wanted:
            step = _draw(growth)
            value = None if step is None else _value(growth, step)
            if step is not None and value is not None:
                found.append(step)
                growth.values.append(value)
    return DenseNet(shapes, found).double().eval()


def _draw(growth: Growth) -> Step | None:
    table: tuple[tuple[float, Make], ...] = PLANTS if growth.choose.random() < SHARE_OF_PLANTS else CARRIERS
    (make,) = growth.choose.choices([m for _, m in table], [w for w, _ in table])
    return make(growth)


def _value(growth: Growth, step: Step) -> torch.Tensor | None:
    """What a step gives on the example; None where it refuses the values, or gives something too large to be of use."""
    read = [growth.values[i] for i in step.reads]
    part = step.part
    if part is not None:
        part = part.double().eval() if isinstance(part, nn.Module) else nn.Parameter(part.double())
        step.part = part
        read = [part, *read]  # type: ignore[list-item]
    try:
        value = step.call(*read)
    except (RuntimeError, ValueError, IndexError, NotImplementedError):
        return None
    if not 0 < value.numel() <= MOST_ELEMENTS or max(value.shape, default=0) > LONGEST_AXIS or value.dim() == 0:
        return None
    return value if bool(value.isfinite().all()) and float(value.abs().max()) < LARGEST else None
