"""Depth that carries meaning: frames, slices, bands, scales and brackets as the third axis, and back.

    source ──frames──▶ prepared (size, channels, range) ──strategy──▶ windows (1, C, D, H, W) ──merge──▶ frames

``sources/`` has one file for each format, ``strategies/`` one for each way to make depth.
"""

from flatconv.stack.layouts import LAYOUTS, from_ncdhw, kernel_from_tensorflow, kernel_to_tensorflow, to_ncdhw
from flatconv.stack.sources import Source
from flatconv.stack.stack import Batch, Stack, Window, stack
from flatconv.stack.strategies import Bands, Bracket, Pyramid, Single, Slices, Strategy, Time, read_strategy

__all__ = [
    "LAYOUTS",
    "Bands",
    "Batch",
    "Bracket",
    "Pyramid",
    "Single",
    "Slices",
    "Source",
    "Stack",
    "Strategy",
    "Time",
    "Window",
    "from_ncdhw",
    "kernel_from_tensorflow",
    "kernel_to_tensorflow",
    "read_strategy",
    "stack",
    "to_ncdhw",
]
