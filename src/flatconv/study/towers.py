"""Plain towers of convolutions for images, flat and with depth, and how a signal goes through them at the start.

Runs of several seeds go side by side: their networks become the groups of one (Krizhevsky et al., 2012), whose loss is the sum
of theirs. No run feels another, and each computes what it would compute alone, but small networks are trained several times
faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Variant = Literal["2-D", "direct 3-D", "unit depth", "corrected 3-D"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
"""The flat network; kernels of (3, 3, 3) padded by 1; kernels of (1, 3, 3); and (3, 3, 3) after ``flatconv.reinit``."""


@dataclass(frozen=True)
class Shape:
    """Of a tower.

    Attributes:
        layers: convolutions of 3 by 3, each with ReLU; the plane is halved after half of them.
        width: channels.
        norm: batch normalisation after each convolution.
        size: of the plane, both ways.
        classes: to tell apart.
    """

    layers: int
    width: int
    norm: bool
    size: int
    classes: int


def tower(variant: Variant, shape: Shape, seed: int) -> nn.Sequential:
    """One network with PyTorch's default initialisation.

    Args:
        variant: 'corrected 3-D' is made as 'direct 3-D' is; the correction is made later.
        shape: see ``Shape``.
        seed: of the weights.

    Returns:
        (N, 1, H, W) -> (N, classes, 1, 1), with an axis of size 1 more before H unless flat.
    """
    flat = variant == "2-D"
    conv: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv2d if flat else nn.Conv3d
    norm: type[nn.Module] = nn.BatchNorm2d if flat else nn.BatchNorm3d
    rest = shape.size // 2
    depth = () if flat else (1 if variant == "unit depth" else 3,)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        # First of all, so that it is the same for every variant.
        head = conv(shape.width, shape.classes, (rest, rest) if flat else (1, rest, rest))  # type: ignore[arg-type]
        parts: list[nn.Module] = []
        for layer in range(shape.layers):
            kernel = (*depth, 3, 3)
            padding = tuple(k // 2 for k in kernel)
            parts.append(conv(shape.width if layer else 1, shape.width, kernel, padding=padding))
            parts += [norm(shape.width)] if shape.norm else []
            parts.append(nn.ReLU())
            if layer == (shape.layers + 1) // 2 - 1:
                parts.append(nn.MaxPool2d(2) if flat else nn.MaxPool3d((1, 2, 2)))
    return nn.Sequential(*parts, head)


def side_by_side(towers: Sequence[nn.Sequential]) -> nn.Sequential:
    """Towers of one shape as groups of one network.

    Shapes: (N, runs, H, W) -> (N, runs, classes)
    """
    runs, first = len(towers), towers[0]
    deep = isinstance(first[0], nn.Conv3d)
    parts: list[nn.Module] = [nn.Unflatten(1, (runs, 1))] if deep else []
    classes = 0
    for layers in zip(*towers, strict=True):
        one = layers[0]
        if isinstance(one, nn.Conv2d | nn.Conv3d):
            many = type(one)(
                one.in_channels * runs,
                one.out_channels * runs,
                one.kernel_size,  # type: ignore[arg-type]
                padding=one.padding,  # type: ignore[arg-type]
                groups=runs,
            )
            with torch.no_grad():
                for name in ("weight", "bias"):
                    getattr(many, name).copy_(torch.cat([getattr(layer, name) for layer in layers]))
            parts.append(many)
            classes = one.out_channels
        elif isinstance(one, nn.BatchNorm2d | nn.BatchNorm3d):
            parts.append(type(one)(one.num_features * runs))
        else:
            parts.append(one)
    return nn.Sequential(*parts, nn.Flatten(), nn.Unflatten(1, (runs, classes)))


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Σ over the runs of their mean cross entropy: outputs (N, runs, classes), targets (N, runs)."""
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten()) * targets.shape[1]


def copy_live(flat: nn.Module, deep: nn.Module, tap: int = 1) -> None:
    """Give a 3-D network the weights of its flat twin: its live taps and biases, and the norms."""
    with torch.no_grad():
        for a, b in zip(convolutions(flat), convolutions(deep), strict=True):
            live = tap if b.weight.shape[2] > 1 else 0
            b.weight[:, :, live].copy_(a.weight)
            assert a.bias is not None
            assert b.bias is not None
            b.bias.copy_(a.bias)


def convolutions(model: nn.Module) -> list[nn.Conv2d | nn.Conv3d]:
    """In order, the head last."""
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]


@dataclass(frozen=True)
class Beginning:
    """A network before its first step.

    Attributes:
        signal: how far the result of each convolution differs from image to image, the standard deviation over images,
            root mean square over channels and positions: (layers, runs). What is the same for all images is no signal.
        gradient: norm of the gradient of the loss in the weight of each convolution: (layers, runs).
    """

    signal: Tensor
    gradient: Tensor


def beginning(model: nn.Sequential, inputs: Tensor, targets: Tensor) -> Beginning:
    """Look at the layers of a network side by side, head left out. The network is in train mode, and is changed by norms only.

    Args:
        model: of ``side_by_side``.
        inputs: (N, runs, H, W).
        targets: (N, runs).
    """
    runs, layers = inputs.shape[1], convolutions(model)[:-1]
    signal: list[Tensor] = []

    def look(_module: nn.Module, _given: object, made: Tensor) -> None:
        signal.append(made.detach().double().var(0).reshape(runs, -1).mean(1).sqrt())

    hooks = [layer.register_forward_hook(look) for layer in layers]
    model.train()
    model.zero_grad(set_to_none=True)
    loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
    for hook in hooks:
        hook.remove()
    gradient = [g.double().reshape(runs, -1).norm(dim=1) for g in (m.weight.grad for m in layers) if g is not None]
    model.zero_grad(set_to_none=True)
    return Beginning(torch.stack(signal), torch.stack(gradient))
