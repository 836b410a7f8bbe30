"""Other exact ways to compute a planned convolution, one a file.

A rule decides *what* of a convolution has to be computed; a form is *how*: as it is, as a matrix product, as 2-D
convolutions. All forms of a site have the same result up to the order of sums, so which of them is taken is a question of
speed: a fixed choice, or a measured one (``flatconv.tune``).

To add a form: one file with ``NAME``, ``why_not``, ``weight``, ``emit``, ``views`` and ``left``, one line in ``FORMS``, one
test file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from flatconv.forms import (
    axis_into_batch,
    axis_into_channels,
    native,
    patches,
    pointwise_axes,
    sum_of_slices,
    unfold_axis,
)
from flatconv.ops.base import Axes, Lowering
from flatconv.ops.conv import FORMATS, Site
from flatconv.program import Node

LAST = "channels-last"
"""A memory format: the same convolutions on tensors whose channels lie side by side."""


@dataclass(frozen=True)
class Form:
    """One way to compute a site.

    Attributes:
        name: in reports.
        why_not: the reason why it does not apply to a site; None if it does.
        weight: the weight that ``emit`` wants, from the one that the rules left.
        emit: the nodes. Returns the result and the axes it lacks.
        views: whether it only looks at input and result in another way, so that nothing is copied.
        left: spatial axes of its convolutions; none for a matrix product.
        stacked: whether its weight is a stack of one weight for each tap.
    """

    name: str
    why_not: Callable[[Site], str | None]
    weight: Callable[[Any, Site, Callable[..., Any]], Any]
    emit: Callable[[Site, Lowering, Any, Any], tuple[fx.Node, Axes]]
    views: Callable[[Site], bool]
    left: Callable[[Site], int]
    stacked: bool = False


FORMS: Mapping[str, Form] = {
    room.NAME: Form(room.NAME, room.why_not, room.weight, room.emit, room.views, room.left, room is sum_of_slices)
    for room in (
        patches,
        axis_into_channels,
        pointwise_axes,
        axis_into_batch,
        sum_of_slices,
        unfold_axis,
        native,
    )
}
"""By name, in the order in which a fixed choice prefers them."""


def form(here: Site) -> Form:
    """The form that a site is to be computed in."""
    return FORMS[here.form or native.NAME]


def possible(here: Site) -> list[str]:
    """Names of all forms that compute a site."""
    return [name for name, each in FORMS.items() if each.why_not(here) is None]


def has_format(here: Site, name: str) -> bool:
    """Whether a form can work in channels-last: there is such a format for a batch of images and one of volumes."""
    return here.batched and FORMS[name].left(here) in FORMATS


def take(here: Site, name: str, last: bool = False) -> Site:
    """A site to be computed in a form."""
    why = FORMS[name].why_not(here)
    if why is None and last and not has_format(here, name):
        why = "there is no channels-last format of its tensors"
    if why is not None:
        raise ValueError(f"{here.node.where}: {name}: {why}")
    taken = replace(here, form="" if name == native.NAME else name, channels_last=last)
    if taken.form:
        taken = taken.did(name)
    return taken.did(LAST) if last else taken


def fixed(here: Site) -> Site:
    """The choice that needs no measuring: the first form that copies nothing, or else the convolution as it is.

    A matrix product of patches is taken even where patches must be cut out first.
    """
    for name, each in FORMS.items():
        if each.why_not(here) is None and (each.views(here) or name == patches.NAME):
            return take(here, name)
    return here


def portable(here: Site) -> Site:
    """The choice for runtimes that read ONNX: a matrix product for patches, or else the convolution as the rules left it.

    Other forms look at tensors in other ways, which such runtimes have to copy, and their 3-D kernels know these cases.
    """
    return take(here, patches.NAME) if FORMS[patches.NAME].why_not(here) is None else here


def choose(sites: Mapping[Node, Site], engine: str = "") -> dict[Node, Site]:
    """Every site in the form of the fixed choice, which is another one for runtimes that read ONNX."""
    how = fixed if engine in ("", "eager", "compile") else portable
    return {node: how(here) for node, here in sites.items()}
