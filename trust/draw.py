"""Random programs: one operator behind a prefix that creates facts, and small graphs."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import nn

from trust import values
from trust.recipes import Recipe, apply
from trust.steps import KINDS, Scope, Shape, Step, form
from trust.steps.conv import draw_conv

LARGEST = 1500
"""Numbers in one value of a single operator; graphs may have more."""
GRAPH_LARGEST = 6000

OPERATORS = {
    "conv3d": 40.0,
    "conv_transpose3d": 22.0,
    "conv2d": 5.0,
    "conv1d": 4.0,
    "conv_transpose2d": 3.0,
    "conv_transpose1d": 2.0,
    "pool": 8.0,
    "norm": 4.0,
    "resize": 4.0,
    "other": 8.0,
}
"""How often each operator is drawn, in percent."""


class Draft:
    """A program while it is drawn: every step is run once on real numbers, so that what is kept runs."""

    def __init__(self, shapes: list[Shape], seed: int, largest: int) -> None:
        self.recipe = Recipe(tuple(shapes), (), (), seed)
        self.largest = largest
        self.found = list(self.recipe.tensors())
        self.modules: dict[str, nn.Module] = {}

    @property
    def scope(self) -> Scope:
        """What the next step can be drawn on."""
        return Scope([tuple(t.shape) for t in self.found], self.recipe.steps, len(self.recipe.inputs))

    @property
    def last(self) -> int:
        """The newest value."""
        return len(self.found) - 1

    def add(self, step: Step | None) -> bool:
        """Keep a step if it runs and its result is of use."""
        if step is None:
            return False
        what = form(step)
        modules = self.modules
        name = step.args.get("module", "")
        try:
            if what.module and name not in modules:
                own = eval(what.module, {"nn": nn}).double().eval()
                holder = nn.Module()
                holder.add_module(name, own)
                values.fill(holder, self.recipe.seed)
                modules = modules | {name: own}
            # With gradients, since autograd forbids some writes into views.
            with torch.set_grad_enabled(what.statement):
                if what.statement:
                    found = [t.detach() for t in self._rerun((*self.recipe.steps, step), modules)]
                else:
                    found = [*self.found, apply(step, modules, [self.found[i] for i in step.inputs])]
        except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError, ZeroDivisionError):
            return False
        if what.statement and _overlap(*(found[i] for i in (step.inputs[0], step.inputs[-1]))):
            return False
        made = found[-1]
        if made.dtype != torch.float64 or made.dim() > 6 or made.numel() > self.largest:
            return False
        if not made.numel() and all(t.numel() for t in self.found):
            return False
        if not all(bool(t.isfinite().all()) and (not t.numel() or float(t.abs().max()) < 1e5) for t in found):
            return False
        for i, t in enumerate(self.recipe.tensors() if what.statement else ()):
            if not torch.equal(t, found[i]):
                return False  # a caller's tensor would change
        self.found, self.modules = found, modules
        self.recipe = Recipe(self.recipe.inputs, (*self.recipe.steps, step), (), self.recipe.seed)
        return True

    def _rerun(self, steps: tuple[Step, ...], modules: dict[str, nn.Module]) -> list[torch.Tensor]:
        """Everything from the start, since a write reaches earlier values."""
        whole = Recipe(self.recipe.inputs, steps, (), self.recipe.seed)
        return whole.run(modules, whole.tensors())

    def finished(self, outputs: tuple[int, ...]) -> Recipe:
        """The program with its outputs."""
        return Recipe(self.recipe.inputs, self.recipe.steps, outputs, self.recipe.seed)


def single(seed: int) -> Recipe:
    """One operator behind a prefix of up to two steps that create facts."""
    r = random.Random(f"operator {seed}")
    name = r.choices(list(OPERATORS), list(OPERATORS.values()))[0]
    while True:
        draft = Draft([_shape(r, _axes(r, name))], seed, LARGEST)
        for _ in range(r.choice([0, 1, 1, 1, 1, 2])):
            draft.add(_prefix(r, draft.scope))
        if any(draft.add(_operator(r, draft.scope, name)) for _ in range(8)):
            return draft.finished((draft.last,))


def graph(seed: int) -> Recipe:
    """A graph of 2 to 20 steps with at least one 3-D convolution."""
    r = random.Random(f"graph {seed}")
    kinds = list(KINDS.values())
    shares = [k.share for k in kinds]
    while True:
        shape = _shape(r, 3)
        shapes = [shape]
        if r.random() < 0.3:
            n, c, _, h, w = shape if len(shape) == 5 else (1, *shape)
            shapes.append(r.choice([shape, (n, c, 1, 1, 1), (n, c, 1, h, w), (n, c, h, w)]))
        draft = Draft(shapes, seed, GRAPH_LARGEST)
        wanted = r.choice([2, 3, 4, 5, 6, 8, 10, 14, 20])
        for _ in range(wanted * 8):
            if len(draft.recipe.steps) >= wanted:
                break
            missing = len(draft.recipe.steps) >= wanted // 2 and not _has_conv3d(draft.recipe)
            step = draw_conv(r, draft.scope, 3, r.random() < 0.2) if missing else None
            draft.add(step or r.choices(kinds, shares)[0].draw(r, draft.scope))
        if len(draft.recipe.steps) < 2 or not _has_conv3d(draft.recipe):
            continue
        read = {i for s in draft.recipe.steps for i in s.inputs}
        made = range(len(shapes), len(draft.found))
        outputs = [i for i in made if i not in read] or [draft.last]
        if r.random() < 0.2:
            outputs.append(r.choice(list(made)))
        return draft.finished(tuple(dict.fromkeys(outputs)))


def _overlap(target: torch.Tensor, source: torch.Tensor) -> bool:
    """Whether a write reads what it changes, in another order: torch defines no result of that."""
    a, b = target.untyped_storage(), source.untyped_storage()
    if not target.numel() or a.data_ptr() != b.data_ptr():
        return False
    return target.storage_offset() != source.storage_offset() or target.stride() != source.stride()


def _has_conv3d(recipe: Recipe) -> bool:
    return any(s.kind == "conv" and s.args["axes"] == 3 for s in recipe.steps)


def _axes(r: random.Random, name: str) -> int:
    for n in (1, 2, 3):
        if name.endswith(f"{n}d"):
            return n
    return r.choice([3, 3, 3, 2])


def _shape(r: random.Random, axes: int) -> Shape:
    """Batch, channels, then depth of 1 to 3 or so, height, width; sometimes all alike, without batch, or an empty batch."""
    batch, channels = r.choice([1, 1, 2, 3]), r.choice([1, 2, 3, 4])
    sizes = [r.choice([1, 1, 1, 2, 3, 4]), r.choice([1, 3, 4, 5, 6]), r.choice([1, 2, 3, 5, 7])]
    style = r.random()
    if style < 0.2:
        k = r.choice([2, 3])
        batch, channels, sizes = k, k, [r.choice([1, 1, k]), k, k]
    elif style < 0.3:
        batch, channels, sizes = 2, 3, [1, 4, 5]
    sizes = sizes[:axes]
    if style > 0.9:
        return (channels, *sizes)
    if style > 0.87:
        batch = 0
    return (batch, channels, *sizes)


def _prefix(r: random.Random, scope: Scope) -> Step | None:
    """A step that creates facts along the first spatial axis."""
    value = len(scope.shapes) - 1
    shape = scope.shapes[value]
    if len(shape) < 3:
        return None
    axis = 2 if len(shape) == 5 or r.random() < 0.5 else r.randrange(1, len(shape))
    behind = len(shape) - 1 - axis

    def pad(lo: int, hi: int, mode: str = "constant", number: float = 0.0) -> Step:
        # Other modes than zeros take two sides for each of one to three axes, and only those.
        amounts = [0, 0] * behind + [lo, hi]
        return Step("pad", {"amounts": amounts, "mode": mode, "value": number}, (value,))

    def cat(*parts: str) -> Step:
        return Step("cat", {"dim": axis, "parts": [[0, p] for p in parts], "stack": False}, (value,))

    def pick(how: str, *numbers: int) -> Step:
        return Step("pick", {"how": how, "axis": axis, "numbers": list(numbers)}, (value,))

    def repeat(count: int) -> Step:
        numbers = [count if a == axis else 1 for a in range(len(shape))]
        return Step("repeat", {"how": "repeat", "numbers": numbers}, (value,))

    def expand(count: int) -> Step:
        numbers = [count if a == axis and s == 1 else -1 for a, s in enumerate(shape)]
        return Step("repeat", {"how": "expand", "numbers": numbers}, (value,))

    def nearest(factor: float) -> Step:
        factors = [factor if a == axis else 1.0 for a in range(2, len(shape))]
        return Step("resize", {"mode": "nearest", "factor": factors, "recompute": False, "corners": None}, (value,))

    size = max(shape[axis], 1)
    zeros = [(1, 0), (2, 0), (0, 1), (1, 1), (2, 2), (0, 3), (3, 1), (2, 1)]
    choices: list[Callable[[], Step]] = [
        *[lambda: pad(*r.choice(zeros))] * 4,
        lambda: pad(*r.choice([(-1, 1), (1, -1), (-1, 2), (2, -1), (-1, 0)])),
        lambda: pad(*r.choice([(1, 0), (1, 1)]), "constant", 1.5),
        lambda: pad(*r.choice([(2, 0), (1, 1), (0, 1), (2, 2)]), "replicate"),
        lambda: pad(*r.choice([(1, 0), (1, 1)]), r.choice(["reflect", "circular"])),
        lambda: KINDS["pad"].draw(r, scope) or pad(1, 1),
        lambda: cat(*r.choice([("zeros", "whole"), ("whole", "zeros"), ("zeros", "whole", "zeros")])),
        lambda: cat(
            *r.choice([("first", "whole"), ("first", "first", "whole"), ("whole", "last"), ("whole", "whole")])
        ),
        lambda: expand(r.choice([2, 3])),
        lambda: repeat(r.choice([2, 3])),
        lambda: nearest(r.choice([2.0, 3.0, 1.5])),
        lambda: pick("flip"),
        lambda: pick("step", r.randrange(size), 2),
        lambda: pick("roll", 1),
        lambda: pick("list", *(r.randrange(size) for _ in range(r.choice([2, 3])))),
        lambda: pick("range", 0, r.randrange(size) + 1),
    ]
    return r.choice(choices)()


def _operator(r: random.Random, scope: Scope, name: str) -> Step | None:
    if name.startswith("conv"):
        # On the newest value: whatever came before is its prefix.
        return _on_last(scope, lambda s: draw_conv(r, s, int(name[-2]), "transpose" in name))
    kinds = {
        "pool": ["max_pool", "avg_pool", "adaptive_pool", "lp_pool"],
        "norm": ["norm"],
        "resize": ["resize"],
        "other": ["reduce", "shape", "pick", "cat", "unary", "binary", "linear", "along", "product", "repeat", "pad"],
    }[name]
    return _on_last(scope, lambda s: KINDS[r.choice(kinds)].draw(r, s))


def _on_last(scope: Scope, draw: Callable[[Scope], Step | None]) -> Step | None:
    step = draw(Scope(scope.shapes[-1:], scope.steps, 0))
    shift = len(scope.shapes) - 1
    return None if step is None else Step(step.kind, step.args, tuple(i + shift for i in step.inputs))
