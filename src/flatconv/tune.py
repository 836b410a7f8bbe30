"""The measured choice among exact forms.

All forms of a convolution have the same result up to rounding, and none is the fastest everywhere: it depends on the device,
the type, the sizes, the threads and the engine. So each is timed where it will run. First every convolution alone, in each
form that computes it; then the whole model in the few combinations that come of this, against the original; then, from the
best of these, one group of equal convolutions after the other in another form, so that a change of layout between layers is
counted with what it costs. The original is among the candidates, and stays if it wins.
"""

from __future__ import annotations

import copy
import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import fx, nn

from flatconv import forms
from flatconv.analyse import Analysis
from flatconv.audit import site_names
from flatconv.capture import Capture
from flatconv.choices import Choice, key, load, store
from flatconv.errors import InputError
from flatconv.forms import native
from flatconv.interpret import evaluate
from flatconv.isolate import isolate
from flatconv.lower import Lowered, lower
from flatconv.measure import alternate
from flatconv.ops.conv import FORMATS, Site, site
from flatconv.program import Node, Program, concrete
from flatconv.signature import method_of

Engine = Literal["eager", "compile"]
CLEAR = 0.98
"""A form is taken for another only where it needs less than this part of the time."""


@dataclass(frozen=True)
class Tuning:
    """How forms are chosen.

    Attributes:
        engine: where the folded model will run: "eager", or "compile" for torch.compile.
        budget: seconds of timing, about; what was found so far is then used.
        more_memory: whether a form may be taken that holds more at once than the original does at its peak.
        cache: whether choices are read from and written to files in the user's cache folder.
        progress: called with a few words before each step.
    """

    engine: Engine = "eager"
    budget: float = 30.0
    more_memory: bool = False
    cache: bool = True
    progress: Callable[[str], None] = field(default=lambda words: None, compare=False)

    def __post_init__(self) -> None:
        if self.engine not in get_args(Engine):
            raise InputError(f"Tuning(engine={self.engine!r}): it may be {' or '.join(map(repr, get_args(Engine)))}")
        if not isinstance(self.budget, int | float) or not self.budget > 0:
            raise InputError(f"Tuning(budget={self.budget!r}): seconds of timing are needed, such as 30.0")


@dataclass(frozen=True)
class Trial:
    """The whole model in one combination of forms.

    Attributes:
        name: of the combination.
        seconds: of a call, median.
        ratio: seconds over those of the original, median of rounds.
        spread: the middle half of these ratios.
    """

    name: str
    seconds: float
    ratio: float
    spread: tuple[float, float]


@dataclass(frozen=True)
class SiteTrial:
    """One convolution alone, in one form.

    Attributes:
        form: its name.
        seconds: of a call, median.
    """

    form: str
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """What was timed, and what was taken.

    Attributes:
        engine: where.
        device: on which.
        threads: of the CPU.
        original: seconds of a call of the original, median.
        trials: the whole model.
        sites: every convolution alone, by site name.
        chosen: name of the combination that was taken.
        forms: by site name.
        reason: why.
        cached: whether it was found in the cache.
        seconds: that choosing took.
    """

    engine: str
    device: str
    threads: int
    original: float
    trials: tuple[Trial, ...]
    sites: Mapping[str, tuple[SiteTrial, ...]]
    chosen: str
    forms: Mapping[str, str]
    reason: str
    cached: bool
    seconds: float


Choices = dict[Node, Choice]
Timed = dict[str, list[float]]


def tune(captured: Capture, analysis: Analysis, settings: Tuning) -> tuple[Analysis, Tuned]:
    """Choose a form for every convolution by timing.

    Args:
        captured: the model.
        analysis: of it, as the rules left it.
        settings: how.

    Returns:
        The analysis with a form for every site, and what was timed.
    """
    return _Search(captured, analysis, settings).run()


def as_captured(analysis: Analysis) -> Analysis:
    """Every convolution as the model has it: no rule is applied."""
    bare = {n: site(n, analysis.facts) for n in analysis.sites}
    return replace(analysis, sites={n: s for n, s in bare.items() if s is not None})


def chosen(analysis: Analysis, choices: Mapping[Node, Choice]) -> Analysis:
    """Every convolution in the form that was chosen for it."""
    return replace(
        analysis, sites={n: forms.take(s, *choices[n]) if n in choices else s for n, s in analysis.sites.items()}
    )


def label(choice: Choice) -> str:
    """A form in words."""
    name, last = choice
    return f"{name}, {forms.LAST}" if last else name


@dataclass(frozen=True)
class _Picked:
    """A combination of forms."""

    name: str
    choices: Choices


class _Search:
    """One search; everything is timed on the example."""

    def __init__(self, captured: Capture, analysis: Analysis, settings: Tuning) -> None:
        self.captured = captured
        self.analysis = analysis
        self.settings = settings
        self.names = site_names(analysis)
        shapes = {n: tuple(t.shape) for n, t in zip(captured.program.inputs, captured.example, strict=True)}
        self.sizes = captured.program.sizes(shapes)
        self.device = next((t.device for t in captured.example), torch.device("cpu"))
        self.made: dict[str, torch.Tensor] = {}
        self.began = time.perf_counter()
        self.limit = self._largest()
        self.groups = self._grouped()

    def run(self) -> tuple[Analysis, Tuned]:
        fixed = {n: _choice(forms.fixed(s)) for n, s in self.analysis.sites.items()}
        about = {"engine": self.settings.engine, "more memory": self.settings.more_memory}
        name = key(self.captured, self.analysis, about, self.sizes, device_name(self.device))
        order = list(self.analysis.sites)
        found = load(name, len(order)) if self.settings.cache else None
        if found is not None:
            picked = dict(zip(order, found.choices, strict=True))
            if found.stays or all(self._allowed(n, c) for n, c in picked.items()):
                return self._result(picked, found.stays, found.told | {"cached": True})
        alone = self._alone() if self.settings.engine == "eager" else {}
        taken, picked = self._whole(fixed, alone)
        ratios = {n: [a / b for a, b in zip(t, taken["original"], strict=True)] for n, t in taken.items()}
        stays = _beats(taken["original"], taken[picked.name])
        chosen_name = "as captured" if stays else picked.name
        reason = (
            f"the original needs less time than every fold: the best, '{picked.name}', takes "
            f"{statistics.median(ratios[picked.name]):.2f} times as long"
            if stays
            else f"the fastest of {len(taken) - 1} combinations"
        )
        told: dict[str, Any] = {
            "engine": self.settings.engine,
            "device": device_name(self.device),
            "threads": torch.get_num_threads(),
            "original": statistics.median(taken["original"]),
            "trials": [_trial(n, taken[n], ratios[n]) for n in taken if n != "original"],
            "sites": {self.names[n]: _site_trials(t) for n, t in alone.items()},
            "chosen": chosen_name,
            "reason": reason,
            "cached": False,
            "seconds": round(time.perf_counter() - self.began, 2),
        }
        if self.settings.cache:
            store(name, [picked.choices[n] for n in order], stays, told)
        return self._result(picked.choices, stays, told)

    def _result(self, picked: Choices, stays: bool, told: dict[str, Any]) -> tuple[Analysis, Tuned]:
        result = as_captured(self.analysis) if stays else chosen(self.analysis, picked)
        labels = {self.names[n]: native.NAME if stays else label(picked[n]) for n in self.analysis.sites}
        trials = tuple(Trial(**(t | {"spread": tuple(t["spread"])})) for t in told["trials"])
        alone = {n: tuple(SiteTrial(**t) for t in ts) for n, ts in told["sites"].items()}
        return result, Tuned(**(told | {"trials": trials, "sites": alone, "forms": labels}))

    # What may be chosen.

    def _options(self, node: Node) -> list[Choice]:
        """All forms of a convolution, each also in channels-last where there is such a format."""
        here = self.analysis.sites[node]
        found = []
        for name in forms.possible(here):
            found.append((name, False))
            if forms.FORMS[name].left(here) in FORMATS:
                found.append((name, True))
        return [c for c in found if c == (native.NAME, False) or self._allowed(node, c)]

    def _allowed(self, node: Node, choice: Choice) -> bool:
        """Whether a form computes the site at all, and holds no more at once than the original does at its peak."""
        name, last = choice
        here = self.analysis.sites[node]
        if name not in forms.FORMS or forms.FORMS[name].why_not(here) is not None:
            return False
        inputs, results = forms.FORMS[name].memory(here)
        held = (1 + inputs + last) * self._bytes(here.source) + (1 + results) * self._bytes(node)
        return self.settings.more_memory or name == native.NAME or held <= self.limit

    def _bytes(self, node: Node) -> int:
        return math.prod(concrete(node.shape or (), self.sizes)) * (node.dtype.itemsize if node.dtype else 1)

    def _largest(self) -> int:
        """The most that one operator of the original reads and writes: no more than its peak."""
        nodes = [n for n in self.captured.program.nodes if n.shape is not None and n.target is not None]
        return max((self._bytes(n) + sum(self._bytes(t) for t in n.tensors) for n in nodes), default=0)

    def _grouped(self) -> list[list[Node]]:
        """Convolutions that are the same in everything but the values of weights and inputs."""
        found: dict[Any, list[Node]] = {}
        for node, here in self.analysis.sites.items():
            axes = tuple(replace(a, ids=None, axis=0) for a in here.axes)
            rows = tuple(str(a.rows) if a.known and not a.plain else "" for a in here.axes)
            shapes = (concrete(here.source.shape or (), self.sizes), here.weight.shape, node.dtype, here.bias is None)
            found.setdefault((axes, rows, shapes, here.groups, here.transposed), []).append(node)
        return list(found.values())

    def _left(self) -> float:
        return self.settings.budget - (time.perf_counter() - self.began)

    # Each convolution alone.

    def _alone(self) -> dict[Node, list[tuple[Choice, float]]]:
        """Seconds of every form of every group of convolutions."""
        found: dict[Node, list[tuple[Choice, float]]] = {}
        share = self.settings.budget / 2 / max(len(self.groups), 1)
        for i, group in enumerate(self.groups):
            node, options = group[0], self._options(group[0])
            if len(options) < 2 or self._left() < self.settings.budget / 2:
                continue
            self.settings.progress(f"timing convolution {i + 1} of {len(self.groups)}, in {len(options)} forms")
            calls = []
            for choice in options:
                calls.append(self._synchronised(self._single(node, choice)))
            taken = alternate(calls, share, least=2, most=10)
            times = [(c, statistics.median(t)) for c, t in zip(options, taken, strict=True)]
            found |= dict.fromkeys(group, times)
        return found

    def _single(self, node: Node, choice: Choice) -> Callable[[], object]:
        here = self.analysis.sites[node]
        made = torch.Generator().manual_seed(0)

        def like(n: Node) -> torch.Tensor:
            dtype = n.dtype or torch.float32
            return torch.randn(concrete(n.shape or (), self.sizes), generator=made).to(self.device, dtype)

        tensors = {n: like(n) for n in (here.weight, here.bias) if n is not None}
        single = isolate(here, self.analysis.facts, weights=tensors, sizes=self.sizes)
        taken = {n: forms.take(s, *choice) for n, s in single.analysis.sites.items()}
        lowered = lower(single.program, replace(single.analysis, sites=taken))
        x = like(here.source)
        run = _module(lowered, single.program, {})
        return lambda: run(x)

    # The whole model.

    def _whole(self, fixed: Choices, alone: Mapping[Node, list[tuple[Choice, float]]]) -> tuple[Timed, _Picked]:
        """Time combinations of forms, then change one group at a time in the best."""
        plain = {n: (native.NAME, False) for n in fixed}
        best = {n: min(alone[n], key=lambda t: t[1])[0] if n in alone else c for n, c in fixed.items()}
        combinations = {"fixed": fixed, "rules alone": plain, "fastest alone": best}
        for name, choices in list(combinations.items()):
            combinations[f"{name}, {forms.LAST}"] = {n: self._last(n, c) for n, c in choices.items()}
        different: dict[str, Choices] = {}
        for name, choices in combinations.items():
            if choices not in different.values():
                different[name] = choices
        args, kwargs = self.captured.inputs.arguments(self.captured.example)
        called = method_of(self.captured.model, self.captured.method)
        original: Callable[..., object] = called
        if self.settings.engine == "compile":
            original = torch.compile(called)
        calls = {"original": self._synchronised(lambda: original(*args, **kwargs))}
        calls["as captured"] = self._program(as_captured(self.analysis))
        for name, choices in different.items():
            calls[name] = self._program(chosen(self.analysis, choices))
        taken = self._time(calls)
        picked = self._fastest(different, taken)
        if self.settings.engine == "eager":
            taken, picked = self._improved(picked, alone, calls, taken)
        return taken, picked

    def _improved(self, picked: _Picked, alone: Any, calls: dict[str, Any], taken: Timed) -> tuple[Timed, _Picked]:
        """Other forms for one group at a time, as long as there is time and it helps."""
        for i, group in enumerate(self.groups):
            if len(self.groups) == 1:
                break
            ranked = sorted(alone.get(group[0], []), key=lambda t: t[1])[:3]
            for choice, _ in ranked:
                cost = sum(statistics.median(t) for t in taken.values())
                if picked.choices[group[0]] == choice or self._left() < 4 * cost:
                    continue
                name = f"{picked.name}; {self.names[group[0]]}: {label(choice)}"
                changed = picked.choices | dict.fromkeys(group, choice)
                call = self._program(chosen(self.analysis, changed))
                pair = self._time({picked.name: calls[picked.name], name: call}, f"changing group {i + 1}")
                if _beats(pair[name], pair[picked.name]):
                    calls[name] = call
                    picked = _Picked(name, changed)
        if picked.name not in taken:
            taken = taken | self._time({n: calls[n] for n in ("original", picked.name)}, "the best again")
        return taken, picked

    def _last(self, node: Node, choice: Choice) -> Choice:
        wanted = (choice[0], True)
        return wanted if wanted in self._options(node) else choice

    def _fastest(self, candidates: Mapping[str, Choices], taken: Timed) -> _Picked:
        """The fastest; a form that copies nothing is left only for one that is clearly faster."""
        first, *others = candidates
        for name in others:
            if _beats(taken[name], taken[first]):
                first = name
        return _Picked(first, candidates[first])

    def _time(self, calls: Mapping[str, Callable[[], object]], words: str = "timing the whole model") -> Timed:
        self.settings.progress(f"{words}: {len(calls)} forms")
        share = max(self._left() / 3, 0.5)
        taken = alternate(list(calls.values()), share, least=5, most=20)
        return dict(zip(calls, taken, strict=True))

    def _program(self, analysis: Analysis) -> Callable[[], object]:
        program = self.captured.program
        run: Callable[..., object] = _module(lower(program, analysis), program, self.made)
        if self.settings.engine == "compile":
            run = torch.compile(run)
        example = [t.clone() for t in self.captured.example]
        return self._synchronised(lambda: run(*example))

    def _synchronised(self, call: Callable[[], object]) -> Callable[[], object]:
        if self.device.type != "cuda":
            return call

        def waited() -> object:
            made = call()
            torch.cuda.synchronize(self.device)
            return made

        return waited


def _choice(here: Site) -> Choice:
    return here.form or native.NAME, here.channels_last


def _module(lowered: Lowered, program: Program, made: dict[str, torch.Tensor]) -> fx.GraphModule:
    """A lowered program as a module; ``made`` keeps the weights that several of them have in common."""
    graph, root = copy.deepcopy(lowered.graph), nn.Module()
    for i, node in enumerate(n for n in graph.nodes if n.op == "get_attr"):
        constant = lowered.constants[node.target]
        if constant.recipe not in made:
            with torch.no_grad():
                made[constant.recipe] = constant.make(evaluate(constant.source, program.weights)).detach()
        root.register_buffer(f"w{i}", made[constant.recipe])
        node.target = f"w{i}"
    return fx.GraphModule(root, graph)


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether one is clearly faster: in the median round by more than noise, and in three rounds of four at all."""
    ratios = sorted(a / b for a, b in zip(one, other, strict=True))
    return statistics.median(ratios) < CLEAR and ratios[(3 * len(ratios)) // 4] < 1


def _trial(name: str, seconds: Sequence[float], ratios: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(ratios)
    quarter = len(ordered) // 4
    spread = [ordered[quarter], ordered[-1 - quarter]]
    median = statistics.median
    return {"name": name, "seconds": median(seconds), "ratio": median(ratios), "spread": spread}


def _site_trials(times: Sequence[tuple[Choice, float]]) -> list[dict[str, Any]]:
    return [{"form": label(c), "seconds": s} for c, s in sorted(times, key=lambda t: t[1])]


def device_name(device: torch.device) -> str:
    """What computes: the GPU's name, or the processor's."""
    if device.type == "cuda":
        return str(torch.cuda.getdevice_name(device))
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} ({torch.backends.cpu.get_cpu_capability()})"
