"""``flatconv bench``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.text import Text

from flatconv import bench as benchmark
from flatconv import files, measure
from flatconv.bench import ENGINES, QUICK, Bench, Case, Engine, Plan
from flatconv.commands import options
from flatconv.commands.call import Call
from flatconv.commands.console import err, out, step
from flatconv.errors import InputError, MissingExtraError, plain
from flatconv.report import bench as report
from flatconv.report.jsonview import dumps
from flatconv.report.stacking import stack_view
from flatconv.spec import load_model
from flatconv.tune import Tuning

DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda")


def bench(
    spec: options.Spec,
    input_: options.Input = None,
    image: options.Image = None,
    images: options.Images = None,
    how: options.How = None,
    size: options.Size = None,
    channels: options.Channels = None,
    layout: options.Layout = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Where the numbers and the figure go.")
    ] = None,
    method: options.Method = "forward",
    reference: options.Reference = None,
    engines: Annotated[str, typer.Option(metavar="NAMES", help="Some engines only, such as eager,compile.")] = ",".join(
        ENGINES
    ),
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    threads: Annotated[int | None, typer.Option(help="Threads of every engine; as many as torch takes.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Most rounds in an engine.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Time after which no round of an engine begins.")] = None,
    tune: Annotated[
        bool, typer.Option("--tune/--no-tune", help="Choose the fold's forms by timing, or take the fixed choice.")
    ] = True,
    budget: Annotated[float, typer.Option(metavar="SECONDS", help="Time for choosing in each engine, about.")] = 30.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two rounds, to see that it works; the numbers mean little.")
    ] = False,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure peak memory, in processes.")] = True,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Verify the fold before it is timed.")] = True,
    static: Annotated[bool, typer.Option("--static", help="Fold for these sizes only.")] = False,
    trust: options.Trust = False,
    state: options.State = None,
    force: options.Force = False,
    json_: options.Json = False,
) -> None:
    """Time the original, its fold and a reference side by side, in every engine that is there.

    bench.json, bench.txt and bench.svg. Exit codes: 0 done; 2 wrong usage or input; 3 the model was refused; 4 the fold is
    wrong, nothing written.
    """
    plan = _plan(engines, device, dtype, threads, rounds, seconds, quick)
    Tuning(budget=budget)  # says what is wrong with it
    plan = dataclasses.replace(plan, tune=budget if tune and not quick else 0.0)
    if output is not None:
        files.check_folder(output, force=force)
    call = Call(spec, input_, image, images, how, size, channels, layout, method, trust, state)
    args, kwargs = call.example()
    model = call.model()
    twin = None if reference is None else step(f"building {reference}", lambda: load_model(str(reference), trust))
    case = Case(model, args, kwargs, method, twin, False if static else "auto", verify)
    asked = [*call.arguments(), *_arguments(plan, reference, static)]

    def peak(side: str) -> int | None:
        return measure.peak_in_process(asked, side)

    found = benchmark.run(case, plan, doing=step, peak=peak if memory else None)
    more = {} if call.stack is None else {"stack": call.stack.summary().to_dict()}
    if json_:
        sys.stdout.write(dumps(found.to_dict() | more) + "\n")
    else:
        if call.stack is not None:
            out.print(stack_view(call.stack.summary()))
        out.print(report.view(found))
    if output is not None:
        written = step("writing", lambda: _write(output, force, found, more))
        err.print(Text(f"Wrote {', '.join(written)} to {plain(output)}"))


def _plan(
    engines: str,
    device: str,
    dtype: str | None,
    threads: int | None,
    rounds: int | None,
    seconds: float | None,
    quick: bool,
) -> Plan:
    names = tuple(dict.fromkeys(name.strip() for name in engines.split(",") if name.strip()))
    for name in names:
        if name not in ENGINES:
            raise InputError(f"--engines has '{name}', and there is no such engine: there are {', '.join(ENGINES)}")
    if not names:
        raise InputError(f"--engines names none: there are {', '.join(ENGINES)}")
    for option, value, known in (("device", device, DEVICES), ("dtype", dtype, DTYPES)):
        if value is not None and value not in known:
            raise InputError(f"--{option} is '{value}'; it may be {', '.join(known[:-1])} or {known[-1]}")
    for option, number in (("threads", threads), ("rounds", rounds)):
        if number is not None and number < 1:
            raise InputError(f"--{option} is {number}; at least 1 is needed")
    if seconds is not None and not 0 <= seconds < float("inf"):
        raise InputError(f"--seconds is {seconds}; a number from 0 is needed")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda, and torch finds no CUDA device here: use --device cpu")
    chosen: tuple[Engine, ...] = tuple(e for e in ENGINES if e in names)
    plan = dataclasses.replace(QUICK if quick else Plan(), engines=chosen, device=device, dtype=dtype, threads=threads)
    if rounds is not None:
        plan = dataclasses.replace(plan, most=rounds, least=min(plan.least, rounds))
    return plan if seconds is None else dataclasses.replace(plan, seconds=seconds)


def _arguments(plan: Plan, reference: str | None, static: bool) -> list[str]:
    """What the process that measures memory is told beside the call."""
    told = ["--device", plan.device, *(["--dtype", plan.dtype] if plan.dtype else [])]
    told += ["--reference", reference] if reference else []
    return [*told, *(["--static"] if static else []), *(["--budget", str(plan.tune)] if plan.tune else [])]


def _write(output: Path, force: bool, found: Bench, more: dict[str, Any]) -> list[str]:
    with files.folder(output, force=force) as folder:
        (folder / "bench.json").write_text(dumps(found.to_dict() | more) + "\n", encoding="utf-8")
        (folder / "bench.txt").write_text(f"{found}\n", encoding="utf-8")
        try:
            (folder / "bench.svg").write_text(report.figure(found), encoding="utf-8")
        except MissingExtraError as e:
            err.print(Text(f"No figure: {e}"))
        return sorted(p.name for p in folder.iterdir())
