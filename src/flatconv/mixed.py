"""Whether a folded program may be called under autocast: only where autocast does to it what it does to the original.

Autocast chooses a type for each operator by its name. A program that was captured without it has the same operators, but for
their ranks: ``avg_pool3d`` is among the names, and ``avg_pool2d`` is not. And what the model's code asked of types, or wrote in
place into a tensor of one type, was decided when it was captured.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from flatconv.aliases import base
from flatconv.gradients import LAYOUT
from flatconv.program import Program

NARROW = {
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "matmul", "mm", "bmm",
    "addmm", "baddbmm",
}  # fmt: skip
"""All of these compute in the narrow type, so that one may stand for another."""
KEYS = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA", "xpu": "AutocastXPU", "mps": "AutocastMPS"}

Operators = Counter[tuple[str, str]]
"""How often an operator is called, by its own name and by that without its rank."""


def active() -> bool:
    """Whether autocast is on, on any device."""
    return bool(torch._C._is_any_autocast_enabled())


def of_program(program: Program) -> Operators:
    """The original's operators that depend on its inputs."""
    nodes = (n for n in program.nodes if n.target is not None and n not in program.constant)
    return Counter(_name(n.target, n.args.get("pad"), n.args.get("mode")) for n in nodes)


def of_graph(graph: fx.Graph) -> Operators:
    """Those of a new graph."""
    fed: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(n in fed for n in node.all_input_nodes):
            fed.add(node)
    return Counter(_name(n.target, *_padding(n)) for n in graph.nodes if n in fed and n.op == "call_function")


def _padding(node: fx.Node) -> Iterator[Any]:
    for i, name in enumerate(("pad", "mode"), start=1):
        yield node.args[i] if len(node.args) > i else node.kwargs.get(name)


def _name(target: Any, pad: Any, mode: Any) -> tuple[str, str]:
    name = base(target)
    if name == "pad" and mode in ("reflect", "replicate") and isinstance(pad, Sequence):
        name = f"{'reflection' if mode == 'reflect' else 'replication'}_pad{len(pad) // 2}d"
    family = re.sub(r"(?:bi|tri)?(linear|cubic)", r"\1", re.sub(r"\d?d$", "", name))
    return name, family


def unlike(before: Operators, after: Operators, asked: Iterable[str], kind: str) -> str | None:
    """Why autocast may do to a program something else than to the original; None if it does the same.

    Args:
        before: the original's operators.
        after: the program's.
        asked: what the original's code asked of its tensors and is not in the program.
        kind: of device.
    """
    for what in asked:
        if what not in LAYOUT:
            return f"its code has '{what}', and what came of that was decided when it was captured"
    key = KEYS.get(kind)
    if key is None:
        return f"which operators it changes on {kind} is not known"
    left, right = _touched(before, key), _touched(after, key)
    for family in left.keys() | right.keys():
        if left[family] != right[family]:
            return f"it chooses the type of {family}, and the fold has more or less of these, or of another rank"
    return None


def _touched(operators: Mapping[tuple[str, str], int], key: str) -> Counter[str]:
    """The operators that autocast chooses another type for than the narrow one, by family."""
    found: Counter[str] = Counter()
    for (name, family), count in operators.items():
        if name not in NARROW and name in _chosen(key):
            found[family] += count
    return found


@functools.cache
def _chosen(key: str) -> frozenset[str]:
    """The operators that autocast chooses a type for on a kind of device."""
    has, names = torch._C._dispatch_has_kernel_for_dispatch_key, torch._C._dispatch_get_all_op_names()
    return frozenset(
        n.partition(".")[0].removeprefix("aten::") for n in names if n.startswith("aten::") and has(n, key)
    )
