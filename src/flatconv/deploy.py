"""Files for other runtimes, each run and compared before it is put in its place."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from flatconv import files, runtimes
from flatconv.errors import InputError, RefusedError, VerificationError, first_line
from flatconv.program import DRAWS

if TYPE_CHECKING:
    from flatconv.module import Folded

EXTRA = ("onnx", "writing ONNX")
SUFFIXES = (".onnx", ".pt2")
Names: TypeAlias = tuple[Sequence[str], Sequence[str]]
LARGEST = 2_000_000_000
"""Bytes of weights in an ONNX file, which is one protocol buffer."""


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: of it.
        inputs: the tensors that it takes: name and shape, None where a size is free.
        differences: for each runtime in which it was run, the largest difference from the folded model, root mean square over
            that of the result.
        unread: runtimes that cannot read it, with the reason.
    """

    path: Path
    inputs: tuple[tuple[str, tuple[int | None, ...]], ...]
    differences: Mapping[str, float]
    unread: Mapping[str, str]


def export(flat: Folded, path: Any, *, force: bool = False, names: Names | None = None) -> Exported:
    """Write a folded model; see ``Folded.export``."""
    target = Path(path)
    if target.suffix not in SUFFIXES:
        raise InputError(f"'{target}' must end in .onnx or .pt2")
    files.check_file(target, force=force)
    names = _names(flat, names)
    files.check_one_form(flat)
    if any(str(n.target) in DRAWS for n in flat.graph.nodes):
        raise RefusedError(
            "the fold draws random numbers (dropout in train mode), so that its file could not be compared with it: fold the "
            "model in eval mode"
        )
    onnx = target.suffix == ".onnx"
    if onnx:
        runtimes.require("onnx", "onnxruntime", extra=EXTRA)
        _check_onnx(flat, target)
    try:
        program = files.exported(flat)
    except Exception as e:
        raise RefusedError(f"the fold cannot be exported: {type(e).__name__}: {first_line(e)}") from e
    differences: dict[str, float] = {}
    unread: dict[str, str] = {}

    def write(place: Path) -> None:
        if onnx:
            _write_onnx(flat, program, place, names)
        else:
            files.put_program(program, place)
        for trial in _trials(flat):
            _compare(flat, place, trial, differences, unread)

    files.write(target, write, force=force)
    return Exported(target, tuple(zip(names[0], _shapes(flat), strict=True)), differences, unread)


def _check_onnx(flat: Folded, target: Path) -> None:
    unchecked = [a.name for a in flat.assumed if a.check != "never"]
    if unchecked:
        raise RefusedError(
            f"what was declared of {', '.join(map(repr, unchecked))} cannot be checked in an ONNX file: write a .pt2 file, "
            "which checks it, or fold with check='never' if it is always true"
        )
    size = sum(t.numel() * t.element_size() for t in flat.state_dict().values())
    if size > LARGEST:
        raise RefusedError(
            f"'{target}' would hold {size} bytes of weights, and an ONNX file in one piece at most {LARGEST}: write a .pt2 file"
        )
    if any(t.device.type != "cpu" for t in flat.state_dict().values()):
        raise RefusedError("ONNX files are checked on the CPU: move the model there with .to('cpu') and export again")


def _write_onnx(flat: Folded, program: torch.export.ExportedProgram, place: Path, names: Names) -> None:
    inputs, outputs = names
    try:
        runtimes.to_onnx(program, (), place, input_names=list(inputs), output_names=list(outputs), external_data=False)  # type: ignore[arg-type]
    except Exception as e:
        raise RefusedError(f"torch.onnx cannot write the fold: {type(e).__name__}: {first_line(e)}") from e
    import onnx

    model = onnx.load(place)
    notes = {"made by": "flatconv", "conditions": "; ".join(_conditions(flat)) or "none"}
    onnx.helper.set_model_props(model, notes)
    onnx.save(model, place)


def _conditions(flat: Folded) -> list[str]:
    """What the fold checks of sizes, in the words of the original's inputs."""
    found = []
    for guard in flat.guards.inputs:
        for axis, (size, (least, most)) in enumerate(zip(guard.shape, guard.ranges, strict=True)):
            if size is None:
                found.append(
                    f"{guard.name}.shape[{axis}] {f'>= {least}' if most is None else f'from {least} to {most}'}"
                )
    found += [flat.guards.words(c) for c in flat.guards.conditions]
    return found


def _names(flat: Folded, asked: Names | None) -> Names:
    """Of the inputs and the outputs in an ONNX file: those asked for, or those that the call has."""
    results: Any = flat.graph.output_node().args[0]
    counts = len(flat.guards.inputs), len(results)
    if asked is None:
        return _own_names(flat), tuple(f"output_{i}" for i in range(counts[1]))
    for what, given, count in zip(("inputs", "outputs"), asked, counts, strict=True):
        if len(given) != count or not all(isinstance(n, str) and n for n in given):
            raise InputError(
                f"names has {len(given)} for the {what}, and the fold has {count}: one name for each is needed"
            )
    if len({n for given in asked for n in given}) < sum(counts):
        raise InputError("names has a name twice")
    return tuple(asked[0]), tuple(asked[1])


def _own_names(flat: Folded) -> tuple[str, ...]:
    names: list[str] = []
    for guard in flat.guards.inputs:
        name = re.sub(r"\W+", "_", guard.name).strip("_") or "input"
        if name.startswith("output_"):
            name = f"input_{name}"  # the results have such names
        found, count = name, 1
        while found in names:
            count += 1
            found = f"{name}_{count}"
        names.append(found)
    return tuple(names)


def _shapes(flat: Folded) -> list[tuple[int | None, ...]]:
    dropped = flat.boundary.dropped if flat.boundary else ((),) * len(flat.guards.inputs)
    return [
        tuple(s for a, s in enumerate(g.shape) if a not in d) for g, d in zip(flat.guards.inputs, dropped, strict=True)
    ]


def _trials(flat: Folded) -> list[list[Tensor]]:
    """The example's sizes, and others where they are free and taken."""
    noise = torch.Generator().manual_seed(0)

    def tensors(change: int) -> list[Tensor]:
        made = []
        for guard, shape in zip(flat.guards.inputs, flat.example_shapes, strict=True):
            sizes = [s + change * (1 if a == 0 else 8) if guard.shape[a] is None else s for a, s in enumerate(shape)]
            if guard.dtype.is_floating_point:
                made.append(torch.randn(sizes, generator=noise).to(guard.dtype))
            else:
                made.append(torch.randint(0, 2, sizes, generator=noise).to(guard.dtype))
        return made

    return [tensors(0), *(t for t in [tensors(1)] if flat.guards.fit(t))]


def _compare(
    flat: Folded, place: Path, tensors: Sequence[Tensor], differences: dict[str, float], unread: dict[str, str]
) -> None:
    """Run the file in every runtime there is, and hold its results against the model's."""
    given = flat.boundary.enter(tensors) if flat.boundary else list(tensors)
    with torch.no_grad():
        wanted = flat.run_flat(*given)
    for name, run in _runtimes(place):
        try:
            results = run(given)
        except Exception as e:
            if name in ("ONNX Runtime", "torch.export"):
                raise RefusedError(
                    f"{name} cannot run the file: {type(e).__name__}: {first_line(e)}. Nothing was written"
                ) from e
            unread[name] = f"{type(e).__name__}: {first_line(e)}"
            continue
        for i, (a, b) in enumerate(zip(results, wanted, strict=True)):
            apart = runtimes.apart(a, b)
            if not apart <= runtimes.LIMITS.get(b.dtype, 0.0):
                shapes = [tuple(t.shape) for t in tensors]
                raise VerificationError(
                    f"output {i} of the file in {name} is {apart:.3g} of its size away from the fold's, for inputs of shape "
                    f"{shapes}: more than rounding explains. Nothing was written"
                )
            differences[name] = max(differences.get(name, 0.0), apart)


def _runtimes(place: Path) -> list[tuple[str, Any]]:
    if place.suffix == ".pt2":
        program: Any = torch.export.load(place).module()
        return [("torch.export", lambda tensors: program(*tensors))]
    found: list[tuple[str, Any]] = [("ONNX Runtime", lambda tensors: runtimes.onnxruntime(place, tensors)())]
    if importlib.util.find_spec("openvino") is not None:
        found.append(("OpenVINO", lambda tensors: runtimes.openvino(place, tensors)()))
    return found
