"""A single convolution of a program, with the zero pad in front of it, as a program of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import sympy
import torch

from flatconv.analyse import Analysis, analyse
from flatconv.facts import Slices
from flatconv.ops.base import Facts
from flatconv.ops.conv import Site
from flatconv.program import Node, Program, Size, concrete


@dataclass(frozen=True)
class Isolated:
    """A program of one convolution.

    Attributes:
        program: its inputs are the source and, unless their tensors were given, weight and bias.
        analysis: with what is known of the source.
        node: the convolution.
    """

    program: Program
    analysis: Analysis
    node: Node


def isolate(
    here: Site,
    facts: Facts,
    dtype: torch.dtype | None = None,
    weights: Mapping[Node, torch.Tensor] | None = None,
    sizes: Mapping[sympy.Symbol, int] | None = None,
    shape: tuple[Size, ...] | None = None,
) -> Isolated:
    """Take one convolution out of its program.

    Args:
        here: the convolution, planned.
        facts: of its program.
        dtype: of all tensors; as they are if None.
        weights: tensors of the weight and the bias where they are known and are not to be inputs.
        sizes: values of the free sizes, to fix them; they stay free if None.
        shape: of the source, where it is to have another one, with a batch; the shapes behind it follow. The batch may be free.
    """
    nodes: list[Node] = []
    inputs: list[Node] = []
    held: dict[Node, torch.Tensor] = {}
    names: dict[Node, str] = {}

    def add(like: Node, op: str, name: str, **args: object) -> Node:
        shape = like.shape if sizes is None else concrete(like.shape or (), sizes)
        made = replace(
            like,
            index=len(nodes), op=op, name=name, args=dict(args), users=[], literal=None, shape=shape,
            dtype=dtype or like.dtype,
        )  # fmt: skip
        nodes.append(made)
        return made

    def tensor(like: Node, name: str) -> Node:
        known = (weights or {}).get(like)
        made = add(like, "input" if known is None else "weight", name)
        made.target = None
        if known is None:
            inputs.append(made)
        else:
            held[made], names[made] = known, name
        return made

    def follows(made: Node) -> Node:
        """With the shape that comes of the shapes before it, if these were changed."""
        if shape is not None and made.target is not None:
            blank = {
                k: torch.empty([s if isinstance(s, int) else 1 for s in v.shape or ()], device="meta")
                if isinstance(v, Node)
                else v
                for k, v in made.args.items()
            }
            made.shape = (shape[0], *made.target(**blank).shape[1:])
        return made

    source = tensor(here.source, "x")
    source.shape = shape or source.shape
    weight = tensor(here.weight, "w")
    bias = tensor(here.bias, "b") if here.bias is not None else None
    before: Node = here.node.args["input"]
    entry = source
    if before is not here.source:
        entry = follows(add(before, before.op, "pad", **(before.args | {"self": source})))
    tensors = {"input": entry, "weight": weight, "bias": bias}
    node = follows(add(here.node, here.node.op, "conv", **(here.node.args | tensors)))
    program = Program(nodes, inputs, [node], held, names)
    given = {}
    for axis in range(source.rank):
        known = facts.along(here.source, axis)
        if known is not None and not known.all_distinct and axis >= source.rank - len(here.axes):
            # Negative numbers never meet the ones that the new program hands out.
            given[source, axis] = Slices(tuple(-i for i in known.ids))
    return Isolated(program, analyse(program, given), node)
