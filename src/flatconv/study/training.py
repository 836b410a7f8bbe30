"""The training loop that all trained claims share, so that they differ in nothing but their networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Optimizer = Literal["sgd", "sgd with decay", "adam", "adam with decay", "adamw"]


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        epochs: passes over the data.
        batch: images in a step.
        rate: learning rate; it falls to zero along half a cosine.
        optimizer: its name; SGD has a momentum of 0.9. 'adam with decay' adds the decay to the gradient, 'adamw' takes it
            from the weights themselves.
        decay: of the weights, where the optimizer has it.
    """

    epochs: int
    batch: int = 64
    rate: float = 2e-3
    optimizer: Optimizer = "adamw"
    decay: float = 1e-2


def fit(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    how: Training,
    seed: int,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    each_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train a model in place; the order of the data depends on the seed alone.

    Args:
        model: any.
        inputs: (N, …).
        targets: (N, …).
        how: see ``Training``.
        seed: of the order.
        loss: of outputs and targets.
        each_step: called after each backward pass and before the step, with its number and the loss.

    Returns:
        The mean loss of each epoch.
    """
    order = torch.Generator().manual_seed(seed)
    steps = how.epochs * -(-len(inputs) // how.batch)
    optimizer = optimizer_of(model, how)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    means, step = [], 0
    for _ in range(how.epochs):
        losses = []
        for part in torch.randperm(len(inputs), generator=order).split(how.batch):  # type: ignore[no-untyped-call]
            optimizer.zero_grad(set_to_none=True)
            value = loss(model(inputs[part]), targets[part])
            value.backward()  # type: ignore[no-untyped-call]
            losses.append(float(value.detach()))
            if each_step is not None:
                each_step(step, losses[-1])
            optimizer.step()
            schedule.step()
            step += 1
        means.append(sum(losses) / len(losses))
    model.eval()
    return means


def optimizer_of(model: nn.Module, how: Training) -> torch.optim.Optimizer:
    """The optimizer that a training asks for."""
    given = list(model.parameters())
    if how.optimizer.startswith("sgd"):
        decay = how.decay if how.optimizer == "sgd with decay" else 0.0
        return torch.optim.SGD(given, how.rate, momentum=0.9, weight_decay=decay)
    if how.optimizer.startswith("adam "):
        return torch.optim.Adam(given, how.rate, weight_decay=how.decay)
    if how.optimizer == "adam":
        return torch.optim.Adam(given, how.rate)
    return torch.optim.AdamW(given, how.rate, weight_decay=how.decay)


@torch.inference_mode()
def predict(model: nn.Module, inputs: Tensor, batch: int = 256) -> Tensor:
    """Outputs in eval mode, in parts."""
    model.eval()
    return torch.cat([model(x) for x in inputs.split(batch)])  # type: ignore[no-untyped-call]


def accuracy(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """The share of inputs whose largest output is that of the target."""
    return float((predict(model, inputs).argmax(1) == targets).double().mean())
