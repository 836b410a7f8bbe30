"""Recall and false claims: the counters, and a small run of the measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from flatconv import ops
from flatconv.capture import capture
from flatconv.errors import RefusedError
from flatconv.ops import pad, pick
from flatconv.program import Node, Program
from trust import recall as recall_module
from trust.dense import dense_network
from trust.recall import Recall, main, measure, measure_networks
from trust.truth import Truth, draw, truth


class Mirror(nn.Module):
    """Depth 2 is padded to [0, a, b, 0] and joined with its mirror image: [0, a, b, 0, 0, b, a, 0]."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.pad(x, (0, 0, 0, 0, 1, 1), value=self.value)
        return torch.cat([y, y.flip(2)], 2)


ZERO_FLOOR = 0.4
EQUAL_FLOOR = 0.75
"""Measured 0.46 and 0.89 on the seeds of the small run."""


def program(model: nn.Module, *shape: int) -> Program:
    return capture(model.double(), (torch.ones(shape, dtype=torch.float64),), dynamic=False).program


def measured(model: nn.Module, *shape: int) -> Recall:
    recall = Recall()
    measure(program(model, *shape), recall)
    return recall


def counts(recall: Recall, operator: str) -> tuple[int, ...]:
    f = recall.families[operator]
    return f.slices, f.zeros, f.zeros_found, f.redundant, f.redundant_found, f.first_losses, f.lost_there


# --- truth


def test_truth_numbers_zero_slices_and_equal_slices() -> None:
    a, b = np.array([[1.0, 2.0], [5.0, 0.0]]), np.array([[1.0, 2.0], [5.0, 1.0]])
    value = np.stack([a, 0 * a, b, a * (1 + 1e-14), 0 * a], axis=1)
    assert truth(value, 0) == Truth((1, 0, 2, 1, 0))
    assert (truth(value, 0).zeros, truth(value, 0).redundant) == (2, 1)


def test_slices_equal_in_one_draw_only_are_not_equal() -> None:
    value = np.array([[[1.0], [1.0]], [[1.0], [2.0]]])
    assert truth(value, 0) == Truth((1, 2))
    assert truth(value[:1], 0) == Truth((1, 1))


def test_a_slice_that_is_zero_in_one_draw_only_is_not_zero() -> None:
    assert truth(np.array([[[0.0], [1.0]], [[3.0], [2.0]]]), 0) == Truth((1, 2))


# --- draws


def test_weights_are_drawn_anew_and_literals_stay() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) * torch.tensor([0.0, 1.0], dtype=x.dtype)

    p = program(Masked(), 1, 2, 1, 3, 2)
    one, other = draw(p, 0), draw(p, 1)
    literals = [n for n in p.nodes if n.literal is not None]
    drawn = [n for n in p.nodes if n.op in ("weight", "input") and n.literal is None]
    assert len(literals) == 1
    assert len(drawn) == 3
    assert all(torch.equal(one[n], torch.tensor([0.0, 1.0], dtype=torch.float64)) for n in literals)
    assert not any(torch.equal(one[n], other[n]) for n in drawn)


def test_variances_are_drawn_above_zero() -> None:
    p = program(nn.BatchNorm3d(4).eval(), 1, 4, 2, 2, 2)
    (variance,) = [n for n, name in p.names.items() if name.endswith("running_var")]
    assert float(draw(p, 0)[variance].min()) > 0


# --- counting


def test_counters_of_a_network_whose_truth_is_known_by_hand() -> None:
    recall = measured(Mirror(), 2, 3, 2, 4, 5)
    # Slices of all axes: 2 + 3 + 4 + 4 + 5, and 2 + 3 + 8 + 4 + 5 where two are joined.
    assert counts(recall, "pad") == (18, 2, 2, 0, 0, 0, 0)
    assert counts(recall, "flip") == (18, 2, 2, 0, 0, 0, 0)
    assert counts(recall, "cat") == (22, 4, 4, 2, 2, 0, 0)
    assert (recall.networks, recall.nodes, recall.false_claims) == (1, 4, [])
    assert (recall.zero_recall, recall.equal_recall) == (1.0, 1.0)


def test_a_room_that_finds_nothing_is_named_as_the_first_to_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ops.room

    def without_flip(node: Node) -> Any:
        return None if node.op == "aten.flip.default" else known(node)

    monkeypatch.setattr(ops, "room", without_flip)
    recall = measured(Mirror(), 2, 3, 2, 4, 5)
    assert counts(recall, "flip") == (18, 2, 0, 0, 0, 1, 2)
    # What is lost in its input is not held against the cat: two zeros and both repeats.
    assert counts(recall, "cat") == (22, 4, 2, 2, 0, 0, 0)
    assert recall.false_claims == []


def test_equal_slices_at_an_accident_of_the_first_draws_are_drawn_again() -> None:
    class Clamped(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # Both slices are clamped in most draws, and in all of six draws more often than not.
            return (x + 0.2).clamp(0.0, 0.001)

    recall = measured(Clamped(), 1, 1, 2, 1, 1)
    assert (recall.total("zeros"), recall.total("redundant")) == (0, 0)


# --- false claims


def test_a_claim_of_equality_across_tensors_that_is_false_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick.Reorder, "positions", lambda self, node: list(range(node.shape[self.axis(node)])))
    recall = measured(Mirror(), 2, 3, 2, 4, 5)
    # Slices 1 and 2 are claimed to be unmoved by the flip, in the flip and again in the cat; only the zeros are right.
    moved = [c for c in recall.false_claims if "axis 2 slice" in c.partition(" is not ")[0]]
    assert len(moved) == 4
    assert all("is not tensors_0 axis 2" in claim for claim in moved)
    assert recall.equal_recall == 0.0


def test_a_claim_of_zero_that_is_false_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pad.Padding, "zeros", True)
    recall = measured(Mirror(value=1.0), 2, 3, 2, 4, 5)
    assert sum("is not zero" in claim for claim in recall.false_claims) == 2 + 2 + 4
    assert recall.total("zeros") == 0


# --- the networks


def test_equal_seeds_give_equal_networks() -> None:
    one, same, other = (dense_network(s) for s in (5, 5, 6))
    assert [(s.kind, s.reads) for s in one.steps] == [(s.kind, s.reads) for s in same.steps]
    assert [(s.kind, s.reads) for s in one.steps] != [(s.kind, s.reads) for s in other.steps]
    for a, b in zip(one(*one.example), same(*same.example), strict=True):
        assert torch.equal(a, b)


def test_networks_are_dense() -> None:
    """Operators read values from everywhere before them, not the last one only."""
    steps = [(i + len(net.shapes), s) for net in map(dense_network, range(20)) for i, s in enumerate(net.steps)]
    reaches = [at - read for at, step in steps for read in step.reads]
    assert sum(r > 1 for r in reaches) > len(reaches) / 2
    assert max(reaches) > 10
    assert sum(len(step.reads) > 1 for _, step in steps) > 20


def test_a_small_run_finds_most_slices_and_claims_nothing_false() -> None:
    recall = measure_networks(0, 20)
    assert recall.false_claims == []
    assert recall.networks == 20
    assert recall.total("zeros") > 100
    assert recall.total("redundant") > 300
    assert recall.zero_recall > ZERO_FLOOR
    assert recall.equal_recall > EQUAL_FLOOR


def test_a_network_that_is_refused_is_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = recall_module.capture

    def refuses_the_first(net: Any, *args: Any, **options: Any) -> Any:
        if net.shapes == dense_network(0).shapes and len(net.steps) == len(dense_network(0).steps):
            raise RefusedError("no")
        return real(net, *args, **options)

    monkeypatch.setattr(recall_module, "capture", refuses_the_first)
    recall = measure_networks(0, 2)
    assert (recall.refused, recall.networks) == (1, 1)


def test_the_command_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recall.json"
    assert main(["--networks", "2", "--start", "3", "--json", str(file)]) == 0
    data = json.loads(file.read_text())
    assert data["networks"] == 2
    assert data["seeds"] == [3, 5]
    assert data["false_claims"] == 0
    assert f"{data['redundant_found']} of {data['redundant']} found" in capsys.readouterr().out
