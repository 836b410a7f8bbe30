"""Programs as data: what the fuzzer draws, shrinks, writes down and prints as a reproduction.

A recipe is turned into a module by running its own source, so what is printed is what ran.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from trust import values
from trust.steps import Form, Shape, Step, form
from trust.steps.base import literal


@dataclass(frozen=True)
class Setting:
    """How a recipe is filled and folded.

    Attributes:
        dtype: of weights and inputs.
        weights: as ``flatconv.fold`` takes it.
        dynamic: likewise.
        verify: likewise.
        how: kind of numbers in the weights (``trust.values``).
        bits: likewise.
        scattered: whether forms are drawn (``trust.scattered``) and not the fixed choice.
    """

    dtype: str = "float64"
    weights: str = "folded"
    dynamic: str | bool = False
    verify: bool = False
    how: str = "full"
    bits: int = 0
    scattered: bool = False

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype itself."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found


@dataclass(frozen=True)
class Feed:
    """Inputs of a call.

    Attributes:
        how: kind of numbers (``trust.values``).
        bits: likewise.
        shapes: where they are not those of the recipe.
    """

    how: str = "full"
    bits: int = 0
    shapes: Sequence[Shape] | None = None


@dataclass(frozen=True)
class Recipe:
    """A program.

    Values are numbered: the inputs first, then the result of each step.

    Attributes:
        inputs: shapes.
        steps: in order.
        outputs: numbers of the values that are returned.
        seed: of all numbers in weights and inputs.
    """

    inputs: tuple[Shape, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    seed: int = 0

    def to_json(self) -> str:
        """One line of JSON."""
        found = {
            "inputs": self.inputs,
            "steps": [asdict(s) for s in self.steps],
            "outputs": self.outputs,
            "seed": self.seed,
        }
        return json.dumps(found)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe that ``to_json`` wrote."""
        found = json.loads(text)
        return cls(
            tuple(tuple(s) for s in found["inputs"]),
            tuple(Step(s["kind"], s["args"], tuple(s["inputs"])) for s in found["steps"]),
            tuple(found["outputs"]),
            found["seed"],
        )

    def value_name(self, number: int) -> str:
        """The variable that holds a value."""
        return f"x{number}" if number < len(self.inputs) else f"v{number - len(self.inputs)}"

    @property
    def modules(self) -> dict[str, str]:
        """Constructors of the modules by name."""
        return {s.args["module"]: f.module for s in self.steps if (f := form(s)).module}

    @property
    def class_source(self) -> str:
        """The module as Python."""
        made = [f"        self.{name} = {code}" for name, code in self.modules.items()]
        names = ", ".join(self.value_name(i) for i in range(len(self.inputs)))
        lines = []
        for i, step in enumerate(self.steps):
            code, what = _filled(form(step), step, self.value_name), form(step)
            target = self.value_name(len(self.inputs) + i)
            if what.statement:
                lines += [f"        {code}", f"        {target} = {self.value_name(step.inputs[0])}"]
            else:
                lines.append(f"        {target} = {code}")
        results = "".join(f"{self.value_name(o)}, " for o in self.outputs)
        return "\n".join(
            [
                "class Model(nn.Module):",
                "    def __init__(self):",
                "        super().__init__()",
                *made,
                "",
                f"    def forward(self, {names}):",
                *lines,
                f"        return ({results.strip()})",
                "",
            ]
        )

    def module(self, how: str = "full", bits: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The program in eval mode, with weights of a kind of numbers (``trust.values``)."""
        scope: dict[str, Any] = {"torch": torch, "nn": nn, "F": torch.nn.functional}
        exec(compile(self.class_source, "<recipe>", "exec"), scope)
        model: nn.Module = scope["Model"]()
        return values.fill(model.to(dtype).eval(), self.seed, how, bits)

    def tensors(
        self,
        how: str = "full",
        bits: int = 0,
        dtype: torch.dtype = torch.float64,
        shapes: Sequence[Shape] | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Inputs, of other shapes if wanted."""
        return tuple(
            values.numbers(tuple(s), f"{self.seed}/x{i}", how, bits).to(dtype)
            for i, s in enumerate(self.inputs if shapes is None else shapes)
        )

    def run(self, modules: dict[str, nn.Module], tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """All values, step by step."""
        found = list(tensors)
        for step in self.steps:
            found.append(apply(step, modules, [found[i] for i in step.inputs]))
        return found

    def source(self, setting: Setting | None = None, feed: Feed | None = None) -> str:
        """A script of its own that folds the program, calls it and fails where the fold is wrong."""
        setting, feed = setting or Setting(), feed or Feed()
        options = f"dynamic={setting.dynamic!r}, weights={setting.weights!r}, verify={setting.verify}"
        dtype = f"torch.{setting.dtype}"
        fed = [literal(s) for s in (self.inputs if feed.shapes is None else feed.shapes)]
        # Bit for bit where both kinds of numbers are whole, else as near as the type allows.
        exact = setting.how == feed.how == "dyadic"
        limit = 0.0 if exact else {"float64": 1e-10, "float32": 1e-4}.get(setting.dtype, 0.1)
        return "\n".join(
            [
                '"""A reproduction written by trust.fuzz."""',
                "",
                "import zlib",
                "",
                "import torch",
                "import torch.nn.functional as F",
                "from torch import nn",
                "",
                "import flatconv",
                *(["from trust.scattered import scattered"] if setting.scattered else []),
                "",
                "",
                inspect.getsource(values.numbers),
                "",
                inspect.getsource(values.fill),
                "",
                self.class_source,
                "",
                "def inputs(shapes, how, bits):",
                f'    return [numbers(s, f"{self.seed}/x{{i}}", how, bits).to({dtype}) for i, s in enumerate(shapes)]',
                "",
                "",
                f"model = fill(Model().to({dtype}).eval(), {self.seed}, {setting.how!r}, {setting.bits})",
                f"example = inputs([{', '.join(map(literal, self.inputs))}], 'full', 0)",
                *(
                    [f"with scattered({self.seed}):", f"    flat = flatconv.fold(model, tuple(example), {options})"]
                    if setting.scattered
                    else [f"flat = flatconv.fold(model, tuple(example), {options})"]
                ),
                f"given = inputs([{', '.join(fed)}], {feed.how!r}, {feed.bits})",
                "with torch.no_grad():",
                "    wanted, found = model(*[x.clone() for x in given]), flat(*[x.clone() for x in given])",
                "for a, b in zip(wanted, found, strict=True):",
                "    assert (a.shape, a.dtype) == (b.shape, b.dtype), (a.shape, b.shape)",
                "    if a.numel():",
                "        apart = float((a - b).abs().max() / a.abs().max().clamp(min=1e-30))",
                f"        assert apart <= {limit}, apart",
                'print("the same")',
                "",
            ]
        )


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a recipe's module by name."""
    return dict(model.named_children())


def apply(step: Step, modules: dict[str, nn.Module], given: Sequence[torch.Tensor]) -> torch.Tensor:
    """The result of one step. A step that works in place returns its first input, changed."""
    what = form(step)
    own = modules.get(step.args.get("module", ""))
    return evaluate(what.code, what.statement, own, given)


def evaluate(code: str, statement: bool, own: nn.Module | None, given: Sequence[torch.Tensor]) -> torch.Tensor:
    """The result of a form's code."""
    found = _function(code, statement, len(given))(own, *given)
    return given[0] if statement else found


def _filled(what: Form, step: Step, name: Any) -> str:
    return what.code.format(*(name(i) for i in step.inputs), m=f"self.{step.args.get('module')}")


@lru_cache(maxsize=4096)
def _function(code: str, statement: bool, count: int) -> Any:
    names = [f"a{i}" for i in range(count)]
    body = code.format(*names, m="own")
    head = f"def made(own, {', '.join(names)}):\n    "
    scope: dict[str, Any] = {"torch": torch, "F": torch.nn.functional}
    exec(head + (body if statement else f"return {body}"), scope)
    return scope["made"]
