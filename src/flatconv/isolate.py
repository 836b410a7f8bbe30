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
from flatconv.program import Node, Program, concrete


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
) -> Isolated:
    """Take one convolution out of its program.

    Args:
        here: the convolution, planned.
        facts: of its program.
        dtype: of all tensors; as they are if None.
        weights: tensors of the weight and the bias where they are known and are not to be inputs.
        sizes: values of the free sizes, to fix them; they stay free if None.
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

    source = tensor(here.source, "x")
    weight = tensor(here.weight, "w")
    bias = tensor(here.bias, "b") if here.bias is not None else None
    before: Node = here.node.args["input"]
    entry = source
    if before is not here.source:
        entry = add(before, before.op, "pad", **(before.args | {"self": source}))
    node = add(here.node, here.node.op, "conv", **(here.node.args | {"input": entry, "weight": weight, "bias": bias}))
    program = Program(nodes, inputs, [node], held, names)
    given = {}
    for axis in range(source.rank):
        known = facts.along(here.source, axis)
        if known is not None and not known.all_distinct and axis >= source.rank - len(here.axes):
            # Negative numbers never meet the ones that the new program hands out.
            given[source, axis] = Slices(tuple(-i for i in known.ids))
    return Isolated(program, analyse(program, given), node)
