"""Peak memory of one side of a chain in one engine, in a process of its own.

    python -m flatconv.study.peak '{"channels": [3, 8], "size": 32, "depth": 3, …}'

A process that has done other things holds memory that a call may use again unseen. So ``peaks`` starts this module, and reads
what it writes. malloc is told to hand every large freed tensor back, so the peak is that of the tensors, not of its habits.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import torch

from flatconv import measure
from flatconv.study.engines import Engine, prepare
from flatconv.study.layers import Chain, direct, flat, images

Side = Literal["direct", "2-D"]
SIDES: tuple[Side, ...] = get_args(Side)
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "131072"}


@dataclass(frozen=True)
class Order:
    """What a process measures.

    Attributes:
        channels: of the chain.
        size: of its plane.
        depth: of the kernels of its direct form.
        side: which form.
        engine: that runs it.
        batches: one after another.
        threads: of the engine.
    """

    channels: tuple[int, ...]
    size: int
    depth: int
    side: Side
    engine: Engine
    batches: tuple[int, ...]
    threads: int


def peaks(order: Order) -> tuple[int, ...] | None:
    """Bytes above what is held before a call, for each batch; None where the engine or the system does not tell."""
    found = measure.in_process(["flatconv.study.peak", json.dumps(asdict(order))], RETURNING)
    if not isinstance(found, list) or not all(isinstance(n, int) for n in found):
        return None
    return tuple(found)


def measured(order: Order) -> list[int | None]:
    """The same in this process."""
    torch.set_num_threads(order.threads)
    chain = Chain(tuple(order.channels), order.size)
    model = direct(chain, order.depth)
    if order.side == "2-D":
        model = flat(model)
    found = []
    for batch in order.batches:
        given = images(chain, batch)
        call = prepare(order.engine, model, given[:, :, 0] if order.side == "2-D" else given, keeps_memory=False)
        with torch.inference_mode():
            call()  # compiles, starts threads and brings the kernels' code into memory
        found.append(measure.peak_memory(call))
    return found


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(measured(Order(**json.loads(sys.argv[1])))) + "\n")
