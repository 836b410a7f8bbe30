"""In-place writes that torch does not write out the way the model makes them: refused before anything is rewritten.

When torch turns in-place operators into functional ones it has to know which values share memory. Three kinds of writes are
beyond it, or beyond any one answer:

* into an expanded tensor: all copies share one memory, and the changes of all of them are added up;
* into the result of an operator that may be a view and does not say so in its schema (``einsum`` of one tensor, ``meshgrid``);
* into the result of an operator that copies or not, depending on the layout or the type of its input (``contiguous``,
  ``reshape``, ``to``; ``dropout`` in eval mode, which hands its input on), if what it was made of is read again afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from flatconv.acceptance import module_path
from flatconv.errors import RefusedError

EXPANDED = ("expand", "expand_as", "broadcast_to", "broadcast_tensors", "meshgrid")
UNSAID = ("einsum", "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes", "lift_fresh")
"""May be views of what they are made of, and their schemas do not say so."""
PERHAPS = ("contiguous", "reshape", "reshape_as", "flatten", "ravel", "to", "type_as")
"""Copy or not, depending on what they are given."""
NEW = (
    "absolute", "adaptive_avg_pool", "adaptive_max_pool", "arc", "batch_norm", "bilinear", "cdist", "clip", "column_stack",
    "concat", "conv", "cosine_similarity", "cross", "diff", "divide", "dstack", "embedding", "float_power", "frobenius_norm",
    "greater", "group_norm", "gru", "hstack", "inner", "instance_norm", "isfinite", "kron", "layer_norm", "less", "linalg_",
    "linear", "log_softmax", "logical", "lstm", "matmul", "max_pool", "multiply", "negative", "norm", "not_equal", "outer",
    "pad", "pairwise_distance", "prelu", "rms_norm", "scaled_dot_product_attention", "selu", "softmax", "special_", "square",
    "std", "subtract", "tensordot", "tile", "true_divide", "upsample", "var", "vstack", "where",
)  # fmt: skip
"""Operators made of others whose results are always new."""


def check_writes(graph: fx.Graph) -> None:
    """Refuse the writes of a captured graph that are described above.

    Raises:
        RefusedError: naming where.
    """
    order = {node: i for i, node in enumerate(graph.nodes)}
    for write in graph.nodes:
        for target in _written(write):
            _follow(target, write, order)


def _follow(target: fx.Node, write: fx.Node, order: dict[fx.Node, int]) -> None:
    """Go from what is written to back to where its memory comes from."""
    # A value, and whether something between it and the write may have copied it.
    todo: list[tuple[fx.Node, str]] = [(target, "")]
    seen: set[tuple[fx.Node, str]] = set()
    while todo:
        node, copied = todo.pop()
        if (node, copied) in seen:
            continue
        seen.add((node, copied))
        name = _name(node)
        if name in EXPANDED and not _keeps_shape(node):
            raise _refused(write, "an expanded tensor", "which torch does not write out rightly")
        if name in UNSAID and (name != "einsum" or len(list(_tensors(node.args))) == 1):
            raise _refused(write, f"a result of {name}", "which may lie in the memory of what it is made of")
        for source, perhaps in _memory(node):
            through = copied or (name if perhaps else "")
            if through and (source.op != "call_function" or _read_after(source, node, order[write], order)):
                why = f"which lies in the memory of what is read later or not, depending on what {through} is given"
                raise _refused(write, f"a result of {through}", why)
            todo.append((source, through))


def _refused(write: fx.Node, what: str, why: str) -> RefusedError:
    return RefusedError(
        f"{module_path(write) or 'the model'} writes into {what} ({write.target}), {why}: clone() the tensor before it "
        "is changed"
    )


def _written(node: fx.Node) -> Iterator[fx.Node]:
    """The tensors that a node changes."""
    if not isinstance(node.target, torch._ops.OpOverload) or not node.target._schema.is_mutable:
        return
    for i, argument in enumerate(node.target._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from _tensors(node.kwargs[argument.name] if argument.name in node.kwargs else node.args[i : i + 1])


def _memory(node: fx.Node) -> Iterator[tuple[fx.Node, bool]]:
    """What a value may share memory with, and whether that depends on what it is given.

    An operator with kernels of its own says in its schema what it shares. One that is made of others need not say it, so of
    those only the known ones count as making new memory.
    """
    if node.op != "call_function":
        return
    if not isinstance(node.target, torch._ops.OpOverload):
        yield from ((a, False) for a in _tensors(node.args))
        return
    schema, name = node.target._schema, _name(node)
    if name in ("to", "type_as") and _type(node) != _type(next(_tensors(node.args), node)):
        return  # a conversion makes new memory
    if any(r.alias_info is not None for r in schema.returns):
        for i, argument in enumerate(schema.arguments):
            if argument.alias_info is not None:
                given = node.kwargs[argument.name] if argument.name in node.kwargs else node.args[i : i + 1]
                yield from ((a, name in PERHAPS) for a in _tensors(given))
        return
    composed = torch._C._dispatch_has_kernel_for_dispatch_key(node.target._name, "CompositeImplicitAutograd")
    if composed and not name.startswith(NEW):
        yield from ((a, True) for a in _tensors(node.args))


def _read_after(source: fx.Node, through: fx.Node, write: int, order: dict[fx.Node, int]) -> bool:
    """Whether the memory of a value is read after the write, other than by way of one node."""
    sharing, todo, seen = {source}, [u for u in source.users if u is not through], {through}
    while todo:
        user = todo.pop()
        if user in seen:
            continue
        seen.add(user)
        if order[user] > write:
            return True
        if any(a in sharing for a, _ in _memory(user)):
            sharing.add(user)
            todo += list(user.users)
    return False


def _keeps_shape(node: fx.Node) -> bool:
    """An expand that repeats nothing is a view like any other."""
    given = next(_tensors(node.args), None)
    values = [n.meta.get("val") if n is not None else None for n in (node, given)]
    return all(isinstance(v, torch.Tensor) for v in values) and values[0].shape == values[1].shape  # type: ignore[union-attr]


def _tensors(value: Any) -> Iterator[fx.Node]:
    """The nodes in an argument, nested ones too."""
    if isinstance(value, fx.Node):
        if not isinstance(value.meta.get("val"), int | float | bool | torch.SymInt | torch.SymFloat | torch.SymBool):
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _type(node: fx.Node) -> Any:
    return getattr(node.meta.get("val"), "dtype", None)


def _name(node: fx.Node) -> str:
    return str(node.target).removeprefix("aten.").partition(".")[0]
