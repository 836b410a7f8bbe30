"""What a trap is: a small model that a hand-written conversion would get wrong, and what is to become of it.

Sizes are chosen so that a mix-up shows (batch, channels, depth, height and width all differ), and weights and inputs are
eighths of small whole numbers: sums of their products are exact in float64, so a chain of convolutions can be compared bit
for bit, whatever the order of summation.

This module and the corpus never import flatconv, since a mutated copy of it is imported later.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

SENTENCES: dict[str, str] = {
    "same-even": "'same' with an even kernel is asymmetric",
    "same-dilation": "'same' with dilation",
    "padding-overload": "aten.conv3d.padding is another overload",
    "unbatched": "unbatched 4-D input",
    "padding-mode": "padding_mode other than zeros is a separate pad",
    "border": "equal input slices are not equal at a zero-padded border",
    "pool-arguments": "count_include_pad, ceil_mode, divisor_override",
    "max-pool": "max-pool pads -inf, so a ZERO slice still counts",
    "skipped-slice": "depth stride or dilation that skips the only live slice",
    "few-slices": "1 < D < k",
    "batch-order": "folding N and D in the wrong order (invisible at N=1)",
    "height-width": "H and W swapped (invisible when square)",
    "groups": "grouped and depthwise weight shapes",
    "flatten": "Linear flatten order",
    "remainder": "kernel == stride with a remainder",
    "transposed": "transposed convolutions (output_padding, flipped taps, interleaved zeros)",
    "align-corners": "trilinear with align_corners",
    "zero-lost": "ZERO lost through bias, BatchNorm shift, sigmoid",
    "statistics": "statistics over depth in Group/Instance/LayerNorm (equality survives, dropping a slice does not)",
    "train-mode": "BatchNorm in train mode",
    "shared-weights": "shared weights under two names",
    "read-elsewhere": "a weight or conv output read elsewhere",
    "in-place": "in-place operators and views",
    "consumers": "several consumers",
    "output": "a conv that is itself an output",
    "weight-norm": "weight_norm",
    "autocast": "autocast subgraphs",
    "small-and-large": "-0.0, subnormals, summed weights overflowing half",
    "huge": "more than 2^31 elements",
    "empty-batch": "empty batch",
    "example-only": "slices equal for the example only",
    "kinds-of-weights": "quantised, sparse, complex and lazy weights",
    "control-flow": "control-flow subgraphs",
    "stale-weights": "weights changed after capture",
}
"""Every trap of the design, by a short name."""

FIELD: dict[str, str] = {
    "field:causal": "zero-front causal (last tap; with a cache or T > 1 it stays 3-D)",
    "field:reflect": "reflect on H and W with zeros in front",
    "field:strided-causal": "strided causal",
    "field:replicate": "replicate-front and replicate on both sides (sum)",
    "field:symmetric": "symmetric zero (tap p; for 1 < D < k a different subset for each output)",
    "field:time-only": "time-only convolutions that are never called on one frame (reported as unused)",
    "field:tiled": "image tiled to two frames (sum)",
    "field:patches": "patches already flattened by a processor",
}
"""Cases from the field that must come out right, by a short name."""

Args = tuple[Any, ...]
Make = Callable[[], tuple[nn.Module, Args]]
"""Makes a model and an example call."""


@dataclass(frozen=True)
class Declared:
    """What ``flatconv.repeated`` is called with, once it is known which flatconv."""

    dim: int
    within: tuple[int, ...] | None = None
    axis: int | None = None
    otherwise: str = "refuse"


@dataclass(frozen=True)
class Trap:
    """One model of the corpus.

    Attributes:
        name: unique.
        trap: which sentence of the design, by its short name.
        make: the model and an example call; called once random numbers are seeded.
        expect: 'folds', or 'refused' with an error of flatconv.
        operators: what the fold consists of, written by hand; None where nobody did.
        says: words of the refusal.
        error: class of the refusal, by name.
        options: of the fold, beside dynamic=False.
        others: further calls: each is answered as the model answers it, or stopped by a guard.
        guarded: further calls that a guard has to stop.
        exact: compared bit for bit.
        dtype: the model's.
        fill: give every parameter new values.
        train: leave the model in train mode.
        verify: whether its fold can be verified (what is too large cannot).
        runs: whether it can be run at all here (a huge image cannot).
        unused: names of parameters that are reported as unused.
        form: every convolution is computed in this form where it applies; the fixed choice if empty.
    """

    name: str
    trap: str
    make: Make
    expect: str = "folds"
    operators: tuple[str, ...] | None = None
    says: str = ""
    error: str = "RefusedError"
    options: Mapping[str, Any] = field(default_factory=dict)
    others: Callable[[], Sequence[Args]] | None = None
    guarded: Callable[[], Sequence[Args]] | None = None
    exact: bool = False
    dtype: torch.dtype = torch.float64
    fill: bool = True
    train: bool = False
    verify: bool = True
    runs: bool = True
    unused: tuple[str, ...] = ()
    form: str = ""

    def fold_options(self) -> dict[str, Any]:
        """The options as flatconv takes them."""
        import flatconv  # the one that is there when this is called: it may be a mutant

        def made(value: Any) -> Any:
            return flatconv.repeated(**vars(value)) if isinstance(value, Declared) else value

        found = dict(self.options)
        if "assume" in found:
            found["assume"] = {name: made(value) for name, value in found["assume"].items()}
        return found

    def seed(self) -> None:
        """The same random numbers on every run."""
        torch.manual_seed(zlib.crc32(self.name.encode()))

    def build(self) -> tuple[nn.Module, Args]:
        """The model with its weights, and an example call, both in the trap's dtype."""
        self.seed()
        model, args = self.make()
        if self.fill:
            fill(model)
            model.to(self.dtype)
        model.train(self.train)
        return model, self.cast(args)

    def cast(self, args: Args) -> Args:
        """Floating inputs in the trap's dtype."""
        return tuple(
            a.to(self.dtype) if isinstance(a, torch.Tensor) and a.is_floating_point() and self.fill else a for a in args
        )


class Flow(nn.Module):
    """A function of modules and tensors as a module: ``function(self, *tensors)``."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args: Any) -> Any:
        """Call the function."""
        return self.function(self, *args)


def x(*shape: int) -> torch.Tensor:
    """Eighths of whole numbers, none of them zero."""
    whole = torch.randint(1, 33, shape) * (torch.randint(0, 2, shape) * 2 - 1)
    return whole.to(torch.float64) / 8


def fill(model: nn.Module) -> None:
    """Parameters and statistics as eighths of whole numbers, none of them zero."""
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(x(*tensor.shape))
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(x(*buffer.shape).abs() if name.endswith("var") else x(*buffer.shape))


def c3(into: int, out: int, kernel_size: Any, **options: Any) -> nn.Conv3d:
    """A Conv3d."""
    return nn.Conv3d(into, out, kernel_size, **options)


def t3(into: int, out: int, kernel_size: Any, **options: Any) -> nn.ConvTranspose3d:
    """A ConvTranspose3d."""
    return nn.ConvTranspose3d(into, out, kernel_size, **options)


def one(module: nn.Module, *shape: int) -> Make:
    """A module that is called on one tensor; made anew on every call."""
    return lambda: (copy.deepcopy(module), (x(*shape),))


def flow(function: Callable[..., Any], *shapes: tuple[int, ...], **parts: Any) -> Make:
    """A function of modules and tensors; the modules are made anew on every call."""
    return lambda: (Flow(function, **copy.deepcopy(parts)), tuple(x(*s) for s in shapes))
