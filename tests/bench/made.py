"""Small networks with a form by hand, and made-up results for the tests of the views."""

import torch
from torch import nn

from flatconv.bench import Bench, Case, Row, Timed


class Taps(nn.Module):
    """Two convolutions of 3×3×3 with zeros on all sides."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv3d(3, 4, 3, padding=1), nn.Conv3d(4, 2, 3, padding=1)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))

    def pair(self, x, y):
        """Two inputs, a mapping and a tensor that is none of floating point."""
        z = self(x + y)
        return {"sum": z, "where": z > 0}


class ByHand(nn.Module):
    """The same on one image, in 2-D; `tap` is the one that meets it."""

    def __init__(self, original, tap=1):
        super().__init__()
        self.layers = nn.ModuleList()
        for conv in (original.first, original.second):
            flat = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1)
            flat.load_state_dict({"weight": conv.weight[:, :, tap], "bias": conv.bias})
            self.layers.append(flat)

    def forward(self, x):
        return self.layers[1](torch.relu(self.layers[0](x.squeeze(2))))


def image(*more):
    return torch.randn(1, 3, 1, 9, 10, generator=torch.Generator().manual_seed(1), **dict(more))


def case(tap=1, **more):
    model = Taps().eval()
    return Case(model, (image(),), reference=ByHand(model, tap).eval(), **({"verify": False} | more))


def bench(word="plain", **more):
    """One engine with all sides, one with a side that has no time, one that is not there."""
    rows = (
        Row(
            "eager",
            (
                Timed("original", (0.4, 0.6, 0.5), 1e-7, 0.1),
                Timed("folded", (0.1, 0.2, 0.1), 2e-7, 0.2),
                Timed("reference", (0.1, 0.1, 0.1), 3e-7, 0.3),
            ),
            0.01,
        ),
        Row(
            "compile",
            (
                Timed("original", (0.3, 0.3, 0.3), 1e-7, 9.0),
                Timed("folded", (), 0.7, 8.0, f"its output is not the original's: {word}"),
                Timed("reference", (), None, None, f"RuntimeError: {word}"),
            ),
            0.5,
        ),
        Row("openvino", why_not=f"{word} is not installed"),
    )
    given = {
        "model": word,
        "method": "decode",
        "inputs": ((word, (1, 3, 1, 9, 10), "float32"),),
        "rows": rows,
        "compared": "float64",
        "tolerance": 2e-5,
        "weights": {"original": 3000, "folded": 1000, "reference": 1000},
        "peak_memory": {"original": 4_000_000, "folded": 1_000_000, "reference": None},
        "settings": {"device": "cpu", "dtype": "float32"},
        "environment": {"processor": word, "threads": "2", "torch": "2.13.0", "date": "2026-01-01 10:00 UTC"},
    }
    return Bench(**(given | more))
