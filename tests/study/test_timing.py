"""What is timed has the same function on both sides; what cannot be timed is noted."""

import dataclasses
import sys

import pytest
import torch

from flatconv.study import engines, timing
from flatconv.study.layers import Chain, direct, flat, images

CHAIN = Chain((2, 3, 2), 6)
PLAN = timing.Plan(
    depth=3,
    chains=(CHAIN,),
    batches=(1, 2),
    engines=("eager",),
    folded=("eager",),
    threads=1,
    warmup=1,
    least=2,
    most=2,
    seconds=0.0,
    turn=0.0,
)


def silent(_words):
    pass


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_both_forms_have_one_function(depth):
    model, given = direct(CHAIN, depth), images(CHAIN, 2)
    with torch.inference_mode():
        expected, found = model(given), flat(model)(given[:, :, 0])
    assert expected.shape == (2, 2, 1, 6, 6)
    torch.testing.assert_close(found, expected[:, :, 0])


def test_weights_depend_on_the_seed_alone():
    before = torch.random.get_rng_state()
    a, b, c = direct(CHAIN, 3), direct(CHAIN, 3), direct(CHAIN, 3, seed=1)
    assert torch.equal(a[0].weight, b[0].weight)
    assert not torch.equal(a[0].weight, c[0].weight)
    assert torch.equal(before, torch.random.get_rng_state())


def test_all_cells_are_timed():
    told = []
    found = timing.costs(PLAN, told.append)
    assert [(c.engine, c.batch) for c in found.cells] == [("eager", 1), ("eager", 2)]
    assert not found.missing
    assert len(told) == 2
    for cell in found.cells:
        assert set(cell.seconds) == {"direct", "2-D", "folded"}
        assert all(len(s) == 2 for s in cell.seconds.values())


def test_ratios_are_within_a_round():
    cell = timing.Cell(CHAIN, "eager", 1, {"direct": (2.0, 9.0), "2-D": (1.0, 3.0)})
    assert cell.ratios("direct") == (2.0, 3.0)


def test_multiply_adds():
    (work,) = timing.costs(dataclasses.replace(PLAN, folded=(), batches=()), silent).work
    assert work.flat == 2 * (2 * 3 * 9 * 36)
    assert work.direct == 3 * work.flat
    assert work.useful == work.flat


def test_an_engine_that_is_missing_is_noted(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = timing.costs(dataclasses.replace(PLAN, engines=("onnxruntime", "eager"), folded=()), silent)
    assert {c.engine for c in found.cells} == {"eager"}
    assert len(found.missing) == 1
    assert "onnxruntime" in found.missing[0]


def test_a_side_that_does_something_else_is_not_timed(monkeypatch):
    right = engines.prepare

    def wrong(engine, model, given, keeps_memory=True):
        call = right(engine, model, given, keeps_memory)
        return (lambda: call() * 1.001) if given.dim() == 5 else call

    monkeypatch.setattr(engines, "prepare", wrong)
    found = timing.costs(dataclasses.replace(PLAN, folded=()), silent)
    assert not found.cells
    assert any("differs" in words for words in found.missing)


def test_threads_are_put_back():
    before = torch.get_num_threads()
    timing.costs(dataclasses.replace(PLAN, threads=before + 1, batches=(1,), folded=()), silent)
    assert torch.get_num_threads() == before
