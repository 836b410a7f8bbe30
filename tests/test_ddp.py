"""Training in two processes: averaged gradients, statistics and parameters as with the original."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WAYS = ("original", "shared", "patched", "patched later")
SCRIPT = """
import os, sys
import torch
from torch import distributed as dist, nn
from torch.nn.parallel import DistributedDataParallel
import flatconv

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()


def net():
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(),
        nn.Conv3d(4, 4, (3, 1, 1), padding=(1, 0, 0)), nn.BatchNorm3d(4, momentum=0.3), nn.SiLU(),
        nn.Conv3d(4, 2, 3, padding=1),
    ).double().train()


def data(step, rank):
    # Each rank has images of its own, and not the same number of them.
    noise = torch.Generator().manual_seed(100 * step + rank)
    return torch.randn(2 + rank, 2, 1, 6, 5, generator=noise, dtype=torch.float64)


def train(way):
    model, x = net(), data(0, 0)
    patched = flatconv.patch(model, {"forward": (x,)}) if way == "patched" else None
    called = flatconv.fold(model, (x,), weights="shared") if way == "shared" else model
    ddp = DistributedDataParallel(called)
    if way == "patched later":
        patched = flatconv.patch(model, {"forward": (x,)})
    optimiser = torch.optim.SGD(ddp.parameters(), lr=0.05, momentum=0.9)
    losses, gradients = [], []
    for step in range(4):
        optimiser.zero_grad()
        # The first half of a step is accumulated without averaging.
        with ddp.no_sync():
            (ddp(data(step, rank)) - 1).square().mean().backward()
        loss = (ddp(data(step + 50, rank)) - 1).square().mean()
        loss.backward()
        gradients.append([p.grad.clone() for p in ddp.parameters()])
        optimiser.step()
        losses.append(loss.detach())
    # Not averaged: what this rank has of its own data.
    alone = torch.autograd.grad(called(data(0, rank)).square().mean(), list(called.parameters()))
    counts = None if patched is None else (patched.counts["forward"].folded, patched.counts["forward"].original)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    return {"losses": losses, "gradients": gradients, "state": state, "alone": alone, "counts": counts}


found = {way: train(way) for way in sys.argv[2].split(",")}
torch.save(found, os.path.join(sys.argv[1], f"{rank}.pt"))
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--standalone", "--local-addr", "localhost", str(folder / "train.py"), str(folder), ",".join(WAYS)]
    root = str(Path(__file__).parent.parent / "src")
    given = dict(os.environ, PYTHONPATH=root, OMP_NUM_THREADS="1", FLATCONV_TUNE="0")
    if (Path("/sys/class/net") / "lo").exists():
        given["GLOO_SOCKET_IFNAME"] = "lo"
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=240, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def near(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", WAYS[1:])
def test_each_rank_has_what_the_original_has(ranks, way):
    for rank in ranks:
        wanted, given = rank["original"], rank[way]
        assert given["state"].keys() == wanted["state"].keys()
        assert all(near(given["state"][k], v) for k, v in wanted["state"].items())
        assert all(near(a, b) for a, b in zip(given["losses"], wanted["losses"], strict=True))
        for a, b in zip(given["gradients"], wanted["gradients"], strict=True):
            assert all(near(u, v) for u, v in zip(a, b, strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_averaged(ranks, way):
    one, other = (rank[way] for rank in ranks)
    # The data differ, and with them what a rank computes alone.
    assert not any(near(a, b) for a, b in zip(one["losses"], other["losses"], strict=True))
    assert not all(near(a, b) for a, b in zip(one["alone"], other["alone"], strict=True))
    for a, b in zip(one["gradients"], other["gradients"], strict=True):
        assert all(near(u, v) and bool(u.abs().max() > 0) for u, v in zip(a, b, strict=True))
    for name, value in one["state"].items():
        # Each rank has statistics of its own data; the first one's are sent to all before a call, and then updated by each.
        assert near(value, other["state"][name]) or "running" in name
    assert any(not near(v, other["state"][k]) for k, v in one["state"].items() if "running" in k)


def test_patched_calls_take_the_fold(ranks):
    for rank in ranks:
        for way in WAYS[2:]:
            assert rank[way]["counts"] == (9, 0)
