"""Named orders of axes, and conversion to the one that torch's 3-D convolutions read: (N, C, D, H, W).

A layout is a word with a letter for each axis: N items, C channels, D depth (T, time, is depth by another name), H height,
W width. A shape alone never tells which axis is which, so a layout is always said and never guessed.

    >>> to_ncdhw(torch.zeros(16, 3, 64, 48), "TCHW").shape
    torch.Size([1, 3, 16, 64, 48])
    >>> to_ncdhw(torch.zeros(2, 16, 64, 48, 3), "NDHWC").shape
    torch.Size([2, 3, 16, 64, 48])
    >>> kernel_from_tensorflow(torch.zeros(3, 5, 7, 3, 64)).shape   # (D, H, W, in, out)
    torch.Size([64, 3, 3, 5, 7])
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from flatconv.errors import InputError

LAYOUTS = (
    "NCDHW", "NDCHW", "NDHWC", "NCTHW", "NTCHW", "NTHWC", "NCHW", "NHWC", "NDHW", "NTHW",
    "CDHW", "DCHW", "DHWC", "CTHW", "TCHW", "THWC", "DHW", "THW", "CHW", "HWC", "HW",
)  # fmt: skip
"""The layouts that are known."""

_TORCH = "NCDHW"


def check_layout(layout: str | None, shape: Sequence[int]) -> str:
    """The axes of an array by their letters, time written as depth.

    Args:
        layout: one of ``LAYOUTS``.
        shape: of the array.

    Returns:
        The layout with D for T.

    Raises:
        InputError: no layout is given, it is unknown, or the array has another number of axes.
    """
    given = "×".join(map(str, shape)) or "a single number"
    if layout is None:
        fitting = ", ".join(known for known in LAYOUTS if len(known) == len(shape)) or ", ".join(LAYOUTS)
        raise InputError(f"an array of {given} needs a layout, which is not guessed: say which of {fitting} it is")
    if layout not in LAYOUTS:
        raise InputError(f"the layout '{layout}' is unknown: it may be {', '.join(LAYOUTS)}")
    if len(layout) != len(shape):
        raise InputError(f"an array of {given} has {len(shape)} axes, and the layout {layout} names {len(layout)}")
    return layout.replace("T", "D")


def to_ncdhw(tensor: Tensor, layout: str) -> Tensor:
    """A view as (N, C, D, H, W); axes that the layout does not name get size 1.

    Raises:
        InputError: the layout is unknown, or does not fit the rank.
    """
    axes = check_layout(layout, tensor.shape)
    order = [axes.index(a) for a in _TORCH if a in axes]
    view = tensor.permute(order)
    for at, axis in enumerate(_TORCH):
        if axis not in axes:
            view = view.unsqueeze(at)
    return view


def from_ncdhw(tensor: Tensor, layout: str) -> Tensor:
    """The inverse of ``to_ncdhw``: a view of (N, C, D, H, W) in another layout.

    Raises:
        InputError: the tensor has not five axes, the layout is unknown, or it leaves out an axis that is not of size 1.
    """
    check_layout(_TORCH, tensor.shape)
    axes = check_layout(layout, (1,) * len(layout))
    for axis, size in zip(_TORCH, tensor.shape, strict=True):
        if axis not in axes and size != 1:
            shape = "×".join(map(str, tensor.shape))
            raise InputError(f"{shape} cannot be written as {layout}: axis {axis} has size {size} and no place in it")
    kept = [a for a in _TORCH if a in axes]
    view = tensor
    for at in reversed(range(len(_TORCH))):
        if _TORCH[at] not in axes:
            view = view.squeeze(at)
    return view.permute([kept.index(a) for a in axes])


def kernel_from_tensorflow(kernel: Tensor, *, transposed: bool = False) -> Tensor:
    """A kernel of TensorFlow or Keras as torch has it.

    ``Conv3D`` has (D, H, W, in, out), and torch (out, in, D, H, W). ``Conv3DTranspose`` has (D, H, W, out, in), and torch
    (in, out, D, H, W). Both move the depth-first axes behind the last two, turned round, and neither mirrors the taps.

    Args:
        kernel: (D, H, W, a, b).
        transposed: whether it belongs to a transposed convolution. The permutation is the same; what the axes mean is not.

    Returns:
        A view: (out, in, D, H, W); (in, out, D, H, W) if ``transposed``.

    Raises:
        InputError: it has not five axes.
    """
    _five(kernel, "(D, H, W, out, in)" if transposed else "(D, H, W, in, out)")
    return kernel.permute(4, 3, 0, 1, 2)


def kernel_to_tensorflow(kernel: Tensor, *, transposed: bool = False) -> Tensor:
    """The inverse of ``kernel_from_tensorflow``.

    Raises:
        InputError: it has not five axes.
    """
    _five(kernel, "(in, out, D, H, W)" if transposed else "(out, in, D, H, W)")
    return kernel.permute(2, 3, 4, 1, 0)


def _five(kernel: Tensor, axes: str) -> None:
    if kernel.dim() != 5:
        raise InputError(f"a kernel of a 3-D convolution has five axes {axes}; this one is {tuple(kernel.shape)}")
