"""The corpus: every model folds to what it computed, into the operators written down for it, or is refused in those words."""

import random
from contextlib import nullcontext

import pytest
import torch

import flatconv
from tests.expected import operators
from trust.layers import look
from trust.scattered import everywhere
from trust.trap import FIELD, SENTENCES, fill
from trust.traps import CORPUS, named

torch.set_num_threads(1)
FOLDING = [t for t in CORPUS if t.expect == "folds"]


def test_names_are_unique():
    names = [t.name for t in CORPUS]
    assert len(names) == len(set(names)) >= 100


@pytest.mark.parametrize("key", [*SENTENCES, *FIELD])
def test_every_trap_has_a_model(key):
    assert any(t.trap == key for t in CORPUS)


def test_every_model_is_of_a_trap():
    assert {t.trap for t in CORPUS} == set(SENTENCES | FIELD)


@pytest.mark.parametrize("trap", CORPUS, ids=lambda t: t.name)
def test_every_layer_is_content(trap):
    # Values (bit for bit where they are exact), verification, claims, guards, memory, later changes, refusals.
    assert look(trap).said == {}


@pytest.mark.parametrize("trap", [t for t in FOLDING if t.operators], ids=lambda t: t.name)
def test_the_operators_are_those_written_by_hand(trap):
    model, args = trap.build()
    with everywhere(trap.form) if trap.form else nullcontext():
        flat = flatconv.fold(model, args, **{"dynamic": False, "verify": False, **trap.fold_options()})
    # Views and copies are none of its business, those of forms that move slices about neither.
    moves = ("squeeze", "unsqueeze", "alias", "clone", "flatten", "unflatten", "transpose", "slice", "contiguous")
    assert tuple(o for o in operators(flat) if o not in moves) == tuple(o for o in trap.operators if o not in moves)


@pytest.mark.parametrize("trap", [t for t in FOLDING if t.unused], ids=lambda t: t.name)
def test_what_is_never_called_is_reported(trap):
    model, args = trap.build()
    flat = flatconv.fold(model, args, **{"dynamic": False, "verify": False, **trap.fold_options()})
    assert set(flat.report.unused_parameters) == set(trap.unused)


def test_a_model_is_the_same_on_every_build():
    for trap in random.Random(0).sample(CORPUS, 20):
        if trap.expect == "folds":
            (model, args), (again, more) = trap.build(), trap.build()
            assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
            tensors = [(a, b) for a, b in zip(args, more, strict=True) if isinstance(a, torch.Tensor)]
            assert all(torch.equal(a, b) for a, b in tensors)


def test_weights_are_sums_of_eighths_and_none_is_zero():
    conv = torch.nn.Conv3d(2, 3, 3).double()
    fill(conv)
    assert torch.equal(conv.weight * 8, (conv.weight * 8).round())
    assert bool((conv.weight != 0).all())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("causal", lambda flat: flat.conv.weight.mul_(1 + 2**-40)),
        ("group-norm", lambda flat: flat.norm.bias.add_(1e-9)),
        ("random-single", lambda flat: flat.weight.copy_(flat.weight.half())),
    ],
)
def test_a_wrong_fold_is_noticed(monkeypatch, name, change):
    right = flatconv.fold

    def wrong(*args, **options):
        flat = right(*args, **options)
        with torch.no_grad():
            change(flat)
        return flat

    monkeypatch.setattr(flatconv, "fold", wrong)
    assert "the example: output 0" in look(named(name)).said["traps"]


def test_a_missing_refusal_is_noticed(monkeypatch):
    monkeypatch.setattr(flatconv, "fold", lambda model, args, **options: model)
    assert look(named("quantised")).said == {"traps": "folded where a refusal is due"}


def test_a_missing_guard_is_noticed(monkeypatch):
    monkeypatch.setattr("flatconv.guards.Guards.check", lambda self, tensors, *rest, **named: None)
    assert (
        "guard" in look(named("another-depth")).said["traps"] or "another" in look(named("another-depth")).said["traps"]
    )
