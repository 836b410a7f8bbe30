"""How forms are to be chosen, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from flatconv.errors import InputError

Engine = Literal["eager", "compile", "onnx", "onnxruntime", "openvino"]
RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
"""Engines that read ONNX files, and in which forms can be timed: names for people."""


@dataclass(frozen=True)
class Tuning:
    """How forms are chosen.

    Attributes:
        engine: where the folded model will run: "eager"; "compile" for torch.compile; "onnxruntime" or "openvino" for what
            ``export`` writes, which is timed there against the original's own file, both with the example's sizes; "onnx" for
            any runtime that reads such files, for which nothing is timed: a choice that is fixed, and was measured in two.
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
        peak: bytes that a call needs above what is held before it; None where that cannot be told.
    """

    name: str
    seconds: float
    ratio: float
    spread: tuple[float, float]
    peak: int | None


@dataclass(frozen=True)
class SiteTrial:
    """One convolution alone, in one form.

    Attributes:
        form: its name.
        seconds: of a call, median.
        peak: bytes that a call needs, as above.
    """

    form: str
    seconds: float
    peak: int | None


@dataclass(frozen=True)
class Tuned:
    """What was timed, and what was taken.

    Attributes:
        engine: where.
        device: on which.
        threads: of the CPU.
        original: seconds of a call of the original, median.
        original_peak: bytes that it needs above what is held before it; None where that cannot be told.
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
    original_peak: int | None
    trials: tuple[Trial, ...]
    sites: Mapping[str, tuple[SiteTrial, ...]]
    chosen: str
    forms: Mapping[str, str]
    reason: str
    cached: bool
    seconds: float
