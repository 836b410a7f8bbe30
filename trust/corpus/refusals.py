"""What cannot be folded, and is refused in so many words; autocast, which can."""

from __future__ import annotations

import torch
from torch import nn

from trust.trap import Args, Flow, Trap, c3, flow, x


class _Conv(nn.Module):
    """A convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = c3(2, 3, (3, 2, 2), padding=(1, 0, 0))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """As it is."""
        return self.conv(t)


class _Autocast(_Conv):
    """Half of it in another precision."""

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """As it says."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.conv(t)


class _AutocastThenNot(_Conv):
    """A convolution in bfloat16, and a second one in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.second = c3(3, 2, (3, 2, 2), padding=(1, 0, 0))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """As it says."""
        with torch.autocast("cpu", torch.bfloat16):
            made = self.conv(t)
        return self.second(made.float())


class _Conditional(_Conv):
    """A branch on data."""

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """As it says."""
        return torch.cond(t.sum() > 0, lambda a: a * 2, lambda a: a - 1, (self.conv(t),))


class _DataBranch(_Conv):
    """A Python branch on data."""

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """As it says."""
        return self.conv(t) if t.sum() > 0 else self.conv(t) * 2


class _Cache(_Conv):
    """Keeps the last frame between calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(2, 2, 1, 5, 7))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """As it says."""
        made = self.conv(t + self.last)
        self.last.copy_(t)
        return made


def _quantised() -> tuple[nn.Module, Args]:
    model = Flow(lambda s, t: s.conv(t) + s.scale.dequantize(), conv=c3(2, 3, 3, padding=1))
    model.register_buffer("scale", torch.quantize_per_tensor(torch.ones(7), 0.1, 0, torch.qint8))
    return model, (torch.randn(2, 2, 1, 5, 7),)


def _sparse() -> tuple[nn.Module, Args]:
    model = Flow(lambda s, t: s.conv(t) * s.scale.to_dense(), conv=c3(2, 3, 3, padding=1))
    model.scale = nn.Parameter(torch.eye(7).to_sparse())
    model.function = lambda s, t: s.conv(t) @ s.scale.to_dense()
    return model, (torch.randn(2, 2, 1, 5, 7),)


def _complex() -> tuple[nn.Module, Args]:
    conv = c3(2, 3, 3, padding=1, padding_mode="replicate").to(torch.complex64)
    return Flow(lambda s, t: s.conv(t), conv=conv), (torch.randn(2, 2, 1, 5, 7, dtype=torch.complex64),)


def _lazy() -> tuple[nn.Module, Args]:
    return nn.LazyConv3d(3, 3, padding=1), (torch.randn(2, 2, 1, 5, 7),)


ALL = (
    Trap("quantised", "kinds-of-weights", _quantised, expect="refused", says="quantised", fill=False),
    Trap("sparse", "kinds-of-weights", _sparse, expect="refused", says="only dense real tensors", fill=False),
    Trap("complex", "kinds-of-weights", _complex, expect="refused", says="complex", fill=False),
    Trap("lazy", "kinds-of-weights", _lazy, expect="refused", says="lazy", fill=False),
    Trap("autocast", "autocast", lambda: (_Autocast(), (x(2, 2, 1, 5, 7),)), dtype=torch.float32),
    Trap("autocast-then-not", "autocast", lambda: (_AutocastThenNot(), (x(2, 2, 1, 5, 7),)), dtype=torch.float32),
    Trap("cond", "control-flow", lambda: (_Conditional(), (x(2, 2, 1, 5, 7),)), expect="refused", says="control flow"),
    Trap(
        "branch-on-data",
        "control-flow",
        lambda: (_DataBranch(), (x(2, 2, 1, 5, 7),)),
        expect="refused",
        says="cannot be captured",
    ),
    Trap("cache-between-calls", "in-place", lambda: (_Cache(), (x(2, 2, 1, 5, 7),)), expect="refused", says="in place"),
    Trap(
        "random-noise",
        "train-mode",
        flow(lambda s, t: s.conv(t + torch.randn_like(t)), (2, 2, 1, 5, 7), conv=c3(2, 3, 3, padding=1)),
        expect="refused",
        says="random",
    ),
    Trap(
        "memory-layout",
        "in-place",
        flow(lambda s, t: s.conv(t).as_strided((2, 3, 2), (9, 3, 1)), (2, 2, 1, 5, 7), conv=c3(2, 3, 3, padding=1)),
        expect="refused",
        says="memory layout",
    ),
)
