"""Facts of every tensor of a program, and a plan for every convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flatconv import ops, rules
from flatconv.facts import ZERO, Slices
from flatconv.ops.base import Facts
from flatconv.ops.conv import Site, site
from flatconv.program import Node, Program


@dataclass(frozen=True)
class Analysis:
    """What is known of a program.

    Attributes:
        facts: slice identities of every tensor.
        sites: every convolution, planned.
        unknown: operators without a room, with the places that use them.
        engine: that will run what is made of it.
    """

    facts: Facts
    sites: Mapping[Node, Site]
    unknown: Mapping[str, tuple[str, ...]]
    engine: str = "eager"


def analyse(program: Program, given: Mapping[tuple[Node, int], Slices] | None = None) -> Analysis:
    """Derive facts in program order, then plan the convolutions.

    Args:
        program: functional.
        given: what is known of the inputs, by (input, axis); all distinct where nothing is given.
    """
    facts = Facts()
    sites: dict[Node, Site] = {}
    unknown: dict[str, list[str]] = {}
    for node in program.nodes:
        if node.shape is None:
            continue
        room = ops.room(node)
        fresh = tuple(facts.fresh(node, a) for a in range(node.rank))
        if room is None:
            facts.of[node] = tuple((given or {}).get((node, a), f) for a, f in enumerate(fresh))
            if node.target is not None:
                op = node.op if node.op != "getitem" else _origin(node).op
                unknown.setdefault(op, []).append(node.where)
            continue
        facts.of[node] = _closed(node, room.facts(node, facts))
        here = site(node, facts)
        if here is not None:
            sites[node] = rules.plan(here, facts)
    return Analysis(facts, sites, {op: tuple(dict.fromkeys(where)) for op, where in unknown.items()})


def _closed(node: Node, found: tuple[Slices | None, ...]) -> tuple[Slices | None, ...]:
    """A tensor whose slices along one axis are all zero is zero along every axis."""
    zero = next((s for s in found if s is not None and s.all_zero), None)
    if zero is None:
        return found
    return tuple(Slices((ZERO,) * s, zero.origin) if isinstance(s, int) else None for s in node.shape or ())


def _origin(node: Node) -> Node:
    found = node.args["0"]
    return found if isinstance(found, Node) else node
