"""The search: what is timed, and what is taken.

All forms of a convolution have the same result up to rounding, and none is the fastest everywhere: it depends on the device,
the type, the sizes, the threads and the engine. So each is timed where it will run. First every convolution alone, in each
form that computes it; then the whole model in the few combinations that come of this, against the original; then, from the
best of these, one group of equal convolutions after the other in another form, so that a change of layout between layers is
counted with what it costs. The original is among the candidates, and stays if it wins.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from flatconv.analyse import Analysis
from flatconv.audit import site_names
from flatconv.capture import Capture
from flatconv.errors import RefusedError
from flatconv.forms import native, together
from flatconv.lower import lower
from flatconv.measure import alternate, middle_half
from flatconv.module import Folded
from flatconv.program import Node
from flatconv.tune import candidates
from flatconv.tune.accurate import Accuracy
from flatconv.tune.alone import Alone, copies_nothing, groups, in_turn, options, time_alone, work
from flatconv.tune.cache import Stored, key, load, store
from flatconv.tune.candidates import CAPTURED, FASTEST, FIXED, ORDINARY, Choices
from flatconv.tune.combine import as_captured, chosen, label, tensor
from flatconv.tune.device import device_name, works
from flatconv.tune.results import SiteTrial, Trial, Tuned, Tuning
from flatconv.tune.running import Call, Running

CLEAR = 0.98
"""A form is taken for another only where it needs less than this part of the time."""
EVEN = 1.005
"""A choice that takes more than this part of the original's time is none."""
ROOM = 1.05
"""A peak above the original's by no more than this, and ``GRAIN``, is the same: allocators round."""
GRAIN = 2**20
TRIED = 2
"""Other forms that are tried for a group of convolutions within the whole model."""
CALLS = 20
"""Calls that the budget must have time for, if combinations are to be held against the original in float64."""
FEWEST = 3
"""The original, the captured program and two combinations are timed whatever it takes."""
ORIGINAL = "original"


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


@dataclass(frozen=True)
class _Picked:
    """A combination of forms."""

    name: str
    choices: Choices
    joint: tuple[tuple[Node, ...], ...] = ()


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
        self.running = Running(captured, settings.engine, self.device)
        self.groups = groups(analysis, self.sizes)
        self.accuracy = Accuracy(captured, lambda: self.calls[ORIGINAL]())
        self.inaccurate: list[str] = []
        self.weights: dict[str, torch.Tensor] = {}
        self.calls: dict[str, Call] = {}
        self.taken: dict[str, list[float]] = {}
        self.peaks: dict[str, int | None] = {}
        self.cost = self.worst = 0.0
        self.began = time.perf_counter()

    def run(self) -> tuple[Analysis, Tuned]:
        about: dict[str, object] = {"engine": self.settings.engine, "more memory": self.settings.more_memory}
        if self.running.files:
            about["versions"] = self.running.versions()
        name = key(self.captured, self.analysis, about, self.sizes, device_name(self.device))
        order = list(self.analysis.sites)
        found = load(name, len(order)) if self.settings.cache else None
        if found is not None:
            held = self._held(found, order)
            if held is not None:
                return self._result(held, found.stays, found.told | {"cached": True})
        self._begin()
        # Alone they are timed in eager PyTorch in any case: torch.compile calls the same kernels for convolutions.
        alone = self._alone()
        if self.running.files:
            picked = self._whole(candidates.in_runtimes(self.analysis))
        else:
            picked = self._whole(candidates.in_pytorch(self.analysis, self.groups, alone, self.sizes))
        if self.settings.engine == "eager":
            picked = self._improved(picked, alone) if len(self.groups) > 1 else picked
            picked = self._joined(picked)
        stays = self._stays(picked)
        told = self._told(picked, alone, stays)
        if self.settings.cache:
            joint = [[order.index(n) for n in bundle] for bundle in picked.joint]
            store(name, [picked.choices[n] for n in order], joint, stays, told)
        return self._result(picked, stays, told)

    def _held(self, found: Stored, order: Sequence[Node]) -> _Picked | None:
        """A choice of the cache; None if any part of it does not apply."""
        choices = dict(zip(order, found.choices, strict=True))
        if not all(c in options(self.analysis, n) for n, c in choices.items()):
            return None
        try:
            joint = tuple(tuple(order[i] for i in bundle) for bundle in found.joint)
            chosen(self.analysis, choices, joint)
        except (ValueError, IndexError):
            return None
        return _Picked("", choices, joint)

    def _left(self) -> float:
        return self.settings.budget - (time.perf_counter() - self.began)

    # The original.

    def _begin(self) -> None:
        """The original's peak, which no form may exceed."""
        self.settings.progress("timing the original")
        self.calls[ORIGINAL] = self.running.original()
        with torch.inference_mode():
            self.calls[ORIGINAL]()  # compiles, where that is asked for: time that the user's own calls take too
            begun = self.began = time.perf_counter()
            self.calls[ORIGINAL]()
        self.cost = time.perf_counter() - begun
        self._measure(ORIGINAL)
        self.calls[CAPTURED] = self._program(as_captured(self.analysis))
        if self.running.files and not works(self.calls[CAPTURED]):
            raise RefusedError(
                "the captured program does not run where the original does, so no form can be held against it: take "
                "tune=flatconv.Tuning('onnx'), a fixed choice"
            )

    def _fits(self, needed: int | None) -> bool:
        """Whether a peak is no more than the original's; unknown peaks are."""
        most = self.peaks[ORIGINAL]
        return self.settings.more_memory or needed is None or most is None or needed <= ROOM * most + GRAIN

    def _works(self, name: str, call: Call) -> bool:
        """Whether a combination runs, and is as accurate as the original."""
        if not works(call):
            return False
        # Where a call takes long, this would take longer than the choice itself: the verification of the result is left.
        if self.cost * CALLS > self.settings.budget:
            return True
        begun = time.perf_counter()
        accurate = self.accuracy.holds(call)
        self.began += time.perf_counter() - begun  # no time for choosing: verification runs the model in float64 too
        if accurate:
            return True
        self.inaccurate.append(name)
        return False

    # Each convolution alone.

    def _alone(self) -> dict[Node, list[Alone]]:
        """The forms of every group of convolutions that may be taken, the fastest first."""
        found: dict[Node, list[Alone]] = {}
        if self.running.files:
            return found  # other kernels
        amount = sum(work(self.analysis, group, self.sizes) for group in self.groups)
        for i, group in enumerate(in_turn(self.analysis, self.groups)):
            share = self.settings.budget / 3 * work(self.analysis, group, self.sizes) / max(amount, 1)
            node = group[0]
            if len(options(self.analysis, node)) < 2 or self._left() < self.settings.budget / 2:
                continue
            self.settings.progress(f"timing convolution {i + 1} of {len(self.groups)} in its forms")
            timed = time_alone(self.analysis, node, self.sizes, self.device, share)
            known = self.peaks[ORIGINAL] is not None
            may = [
                t for t in timed if copies_nothing(self.analysis, node, t.choice)
                or (self._fits(t.peak) and (known or self.settings.more_memory))
            ]  # fmt: skip
            found |= dict.fromkeys(group, sorted(may, key=lambda t: t.seconds))
        return found

    # The whole model.

    def _whole(self, combinations: Mapping[str, Choices]) -> _Picked:
        """Time the combinations against the original; a simple one is left only for one that is clearly faster."""
        most = max(2, int(self._left() / max(self.cost, 1e-9) / 2) - 2)
        before = len(self.calls)
        for name in candidates.ranked(combinations):
            if name in self.calls or (name == ORDINARY and FASTEST in self.calls):
                continue
            if len(self.calls) - before == most:
                break
            if len(self.calls) > FEWEST and self._left() < 0:
                break  # each takes long to compile
            call = self._program(chosen(self.analysis, combinations[name]))
            if (name == FIXED and not self.running.files) or self._works(name, call):
                self.calls[name] = call
        tried = [n for n in combinations if n in self.calls]
        self.taken |= self._time(list(self.calls), "timing the whole model")
        if not tried:
            return _Picked(CAPTURED, candidates.plain(self.analysis))
        first, *others = tried
        for name in tried:
            self._measure(name)
        for name in others:
            better = self._fits(self.peaks[name]) and _beats(self.taken[name], self.taken[first])
            if better or (not self._fits(self.peaks[first]) and self._fits(self.peaks[name])):
                first = name
        return _Picked(first, combinations[first])

    def _improved(self, picked: _Picked, alone: Mapping[Node, Sequence[Alone]]) -> _Picked:
        """Other forms for one group at a time, as long as there is time."""
        # The slowest convolutions first: there is most to gain.
        ordered = sorted(self.groups, key=lambda g: -len(g) * max((t.seconds for t in alone.get(g[0], ())), default=0))
        for group in ordered:
            others = [t.choice for t in alone.get(group[0], ()) if t.choice != picked.choices[group[0]]]
            for choice in others[:TRIED]:
                name = f"{picked.name}; {self.names[group[0]]}: {label(choice)}"
                other = replace(picked, name=name, choices=picked.choices | dict.fromkeys(group, choice))
                picked = self._better(picked, other, f"{self.names[group[0]]} in the form '{label(choice)}'", 0.2)
        return picked

    def _joined(self, picked: _Picked) -> _Picked:
        """Convolutions of one input as one, where that is faster."""
        for bundle in together.bundles(self.analysis.sites):
            if len({picked.choices[n] for n in bundle}) > 1:
                continue
            name = f"{picked.name}; {self.names[bundle[0]]} and {len(bundle) - 1} more {together.NAME}"
            other = replace(picked, name=name, joint=(*picked.joint, bundle))
            picked = self._better(picked, other, f"{len(bundle)} convolutions of one input as one", 0.3)
        return picked

    def _better(self, picked: _Picked, other: _Picked, words: str, part: float) -> _Picked:
        """The other combination if there is time for it, it runs, it fits and it is clearly faster."""
        cost = statistics.median(self.taken.get(picked.name) or self.taken[ORIGINAL])
        if self._left() < 12 * cost + 1:
            return picked
        call = self._program(chosen(self.analysis, other.choices, other.joint))
        if not self._works(other.name, call):
            return picked
        self.calls[other.name] = call
        pair = self._time([picked.name, other.name], words, part)
        self._measure(other.name)
        if self._fits(self.peaks[other.name]) and _beats(pair[other.name], pair[picked.name]):
            return other
        del self.calls[other.name]
        return picked

    def _stays(self, picked: _Picked) -> bool:
        """Whether the convolutions stay as they were.

        The fastest of many is in part the luckiest, so it is timed anew against the original; where it is not the faster one
        now, the program without any rewrite is taken if that is faster.
        """
        if picked.name == CAPTURED:
            return True
        found = self._time([ORIGINAL, CAPTURED, picked.name], "the choice against the original")
        runs = [t for t in (found, dict(self.taken)) if picked.name in t]
        self.taken |= found
        lost = any(_beats(t[ORIGINAL], t[picked.name]) for t in runs)
        now, *_ = parts = [_part(t[picked.name], t[ORIGINAL]) for t in runs]
        self.worst = max(parts)
        behind = now > EVEN
        return lost or (behind and statistics.median(found[CAPTURED]) < statistics.median(found[picked.name]))

    def _time(self, names: Sequence[str], words: str, part: float = 0.5) -> dict[str, list[float]]:
        self.settings.progress(words)
        left = max(part * self._left(), 0.5)
        least = max(1, min(5, int(left / max(self.cost * len(names), 1e-9))))
        taken = alternate([self.calls[n] for n in names], left, least=least, most=20, turn=0.001)
        return dict(zip(names, taken, strict=True))

    def _measure(self, name: str) -> None:
        self.peaks[name] = self.running.peak(self.calls[name])

    def _program(self, analysis: Analysis) -> Call:
        """The model in a combination of forms, called as the user will call it: its checks of the inputs count, too."""
        program = self.captured.program
        lowered = lower(program, analysis)
        state = {c.name: tensor(c, program, self.weights) for c in lowered.constants.values()}
        return self.running.folded(Folded(lowered.graph, state, self.captured))

    # What is told.

    def _told(self, picked: _Picked, alone: Mapping[Node, Sequence[Alone]], stays: bool) -> dict[str, Any]:
        original = self.taken[ORIGINAL]
        ratios = {n: [a / b for a, b in zip(t, original, strict=False)] for n, t in self.taken.items()}
        trials = []
        for name, seconds in self.taken.items():
            if name != ORIGINAL:
                trials.append(
                    {
                        "name": name,
                        "seconds": statistics.median(seconds),
                        "ratio": statistics.median(ratios[name]),
                        "spread": middle_half(ratios[name]),
                        "peak": self.peaks.get(name),
                    }
                )
        reason = f"the fastest of {len(trials)} combinations"
        if stays:
            reason = f"the original wins: the best fold, '{picked.name}', takes {self.worst:.2f} times as long"
        if picked.name == CAPTURED:
            reason = "no other form runs there, or is faster"
        if self.inaccurate:
            reason += (
                f"; {len(self.inaccurate)} less accurate than the original left out, such as '{self.inaccurate[0]}'"
            )
        return {
            "engine": self.settings.engine,
            "device": device_name(self.device),
            "threads": torch.get_num_threads(),
            "original": statistics.median(original),
            "original_peak": self.peaks[ORIGINAL],
            "trials": trials,
            "sites": {
                self.names[n]: [{"form": label(t.choice), "seconds": t.seconds, "peak": t.peak} for t in each]
                for n, each in alone.items()
            },
            "chosen": CAPTURED if stays else picked.name,
            "reason": reason,
            "cached": False,
            "seconds": round(time.perf_counter() - self.began, 2),
        }

    def _result(self, picked: _Picked, stays: bool, told: Mapping[str, Any]) -> tuple[Analysis, Tuned]:
        if stays:
            result = as_captured(self.analysis)
        else:
            result = chosen(self.analysis, picked.choices, picked.joint)
        joint = {n for bundle in picked.joint for n in bundle}
        labels = {}
        for node in self.analysis.sites:
            named = native.NAME if stays else label(picked.choices[node])
            labels[self.names[node]] = f"{named}, {together.NAME}" if node in joint and not stays else named
        trials = tuple(Trial(**(t | {"spread": tuple(t["spread"])})) for t in told["trials"])
        sites = {n: tuple(SiteTrial(**t) for t in each) for n, each in told["sites"].items()}
        return result, Tuned(**(dict(told) | {"trials": trials, "sites": sites, "forms": labels}))


def _part(one: Sequence[float], other: Sequence[float]) -> float:
    """The time of one over that of another, median of rounds."""
    return statistics.median(a / b for a, b in zip(one, other, strict=False))


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether one is clearly faster: in the median round by more than noise, and in three rounds of four at all."""
    ratios = sorted(a / b for a, b in zip(one, other, strict=False))
    return _part(one, other) < CLEAR and ratios[(3 * len(ratios)) // 4] < 1
