"""``flatconv peak``, which ``fold --measure`` runs in a process of its own."""

from __future__ import annotations

import gc
import json
import sys
from typing import Any, Literal

import torch

from flatconv import measure
from flatconv.commands import options
from flatconv.commands.call import Call
from flatconv.fold import fold as run_fold
from flatconv.signature import method_of


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
    side: Literal["original", "folded"] = "original",
    threads: int = 0,
    trust: options.Trust = False,
    state: options.State = None,
) -> None:
    """Print the peak memory of one call in this process, for --measure."""
    if threads:
        torch.set_num_threads(threads)
    call = Call(spec, input_, image, images, how, size, channels, layout, method, trust, state)
    args, kwargs = call.example()
    model = call.model()
    if side == "folded":
        called: Any = run_fold(model, args, kwargs, method=method, verify=False)
        del model
        gc.collect()
    else:
        called = method_of(model, method)
    sys.stdout.write(json.dumps(measure.peak_memory(lambda: called(*args, **kwargs))) + "\n")
