"""``flatconv peak``, which ``fold --measure`` and ``bench`` run in a process of its own."""

from __future__ import annotations

import gc
import json
import sys

import torch

from flatconv import measure
from flatconv.bench import machine
from flatconv.bench.sides import Case, Name
from flatconv.commands import options
from flatconv.commands.call import Call
from flatconv.spec import load_model
from flatconv.tune import Tuning


def peak(
    spec: options.Spec,
    input_: options.Input = None,
    image: options.Image = None,
    images: options.Images = None,
    how: options.How = None,
    size: options.Size = None,
    channels: options.Channels = None,
    layout: options.Layout = None,
    method: options.Method = "forward",
    side: Name = "original",
    threads: int = 0,
    reference: options.Reference = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    static: bool = False,
    budget: float = 0.0,
    trust: options.Trust = False,
    state: options.State = None,
) -> None:
    """Print the peak memory of one call in this process, for --measure and for bench."""
    call = Call(spec, input_, image, images, how, size, channels, layout, method, trust, state)
    args, kwargs = call.example()
    twin = load_model(reference, trust) if reference is not None and side == "reference" else None
    # What was chosen before is in the cache, so that this is the fold that was timed.
    tune = Tuning(budget=budget) if budget else False
    case = Case(call.model(), args, kwargs, method, twin, False if static else "auto", verify=False, tune=tune)
    with machine.set_up(device, threads or None):
        called = case.placed(device, getattr(torch, dtype) if dtype else None).side(side)
        # What only the original holds is free to go.
        del case
        gc.collect()
        found = measure.peak_memory(called) if device == "cpu" else measure.peak_on_gpu(called)
    sys.stdout.write(json.dumps(found) + "\n")
