"""Checks of memory, weights and guards: each fails on a fold that is wrong in just that way."""

import importlib

import pytest
import torch
from torch import nn

import flatconv
from flatconv.guards import Guards
from flatconv.module import Folded
from tests.expected import filled, sample

folding = importlib.import_module("flatconv.fold")  # the package's name for it is the function
X = sample(2, 2, 1, 5, 6)


def conv(**options):
    return filled(nn.Conv3d(2, 3, 3, padding=1, **options))


def broken(monkeypatch, change):
    """Folds whose state passes through ``change``."""
    right = folding._state
    monkeypatch.setattr(folding, "_state", lambda *given: change(right(*given)))


def test_a_weight_in_memory_of_the_original(monkeypatch):
    model = filled(nn.Conv3d(2, 3, (1, 3, 3)))
    broken(monkeypatch, lambda state: {"weight": model.weight.detach().squeeze(2), "bias": state["bias"]})
    with pytest.raises(flatconv.VerificationError, match="'weight' of the fold lies in memory of the original"):
        flatconv.fold(model, (X,))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.detach().bfloat16().double(),
        lambda w: w.detach() * (1 + 2**-50),
        lambda w: torch.where(w.detach().abs() < 1e-2, 0.0, w.detach()),
    ],
    ids=["rounded", "scaled", "near zero"],
)
def test_a_weight_that_is_a_little_off(monkeypatch, change):
    broken(monkeypatch, lambda state: {"weight": change(state["weight"]), "bias": state["bias"]})
    with pytest.raises(flatconv.VerificationError, match="not the original's weight"):
        flatconv.fold(conv(), (X,))


def test_shared_weights_that_are_copies(monkeypatch):
    monkeypatch.setattr(folding.Folded, "__init__", unshared(folding.Folded.__init__))
    with pytest.raises(flatconv.VerificationError, match="not the original's own, though weights are shared"):
        flatconv.fold(conv(), (X,), weights="shared")


def unshared(right):
    def init(self, *given, follow=False, full=None):
        right(self, *given, follow=follow, full=full)
        self._parameters = {k: nn.Parameter(v.detach().clone()) for k, v in self._parameters.items()}

    return init


@pytest.mark.parametrize("skipped", ["shape", "type"])
def test_guards_that_let_everything_through(monkeypatch, skipped):
    right = Guards.check

    def check(self, tensors):
        if skipped == "shape" and all(t.dtype == g.dtype for t, g in zip(tensors, self.inputs, strict=True)):
            return
        if skipped == "type" and all(t.dim() == len(g.shape) for t, g in zip(tensors, self.inputs, strict=True)):
            tensors = [t.to(g.dtype) for t, g in zip(tensors, self.inputs, strict=True)]
        right(self, tensors)

    monkeypatch.setattr(Guards, "check", check)
    with pytest.raises(flatconv.VerificationError, match=r"passed the guards of the fold|which it is not for"):
        flatconv.fold(filled(nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.AdaptiveAvgPool3d(1))), (X,))


def test_a_result_in_the_memory_of_a_weight(monkeypatch):
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 3, 3, padding=1)
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return self.conv(x), self.scale + 0

    model = filled(Constant())
    flatconv.fold(model, (X,))
    right = Folded._compile

    def compiled(self):
        right(self)
        run = self._run
        self._run = lambda module, *tensors: (run(module, *tensors)[0], module._parameters["scale"])

    monkeypatch.setattr(Folded, "_compile", compiled)
    with pytest.raises(flatconv.VerificationError, match="output 1 of the fold lies in the memory of a weight"):
        flatconv.fold(model, (X,))


def test_a_size_of_the_example_written_into_the_graph(monkeypatch):
    # Cropping to the example's height changes nothing for what is smaller.
    right = Folded._compile

    def compiled(self):
        right(self)
        run = self._run
        self._run = lambda module, *tensors: tuple(r[:, :, :, :5] for r in run(module, *tensors))

    monkeypatch.setattr(Folded, "_compile", compiled)
    with pytest.raises(flatconv.VerificationError, match="output 0 of the fold is"):
        flatconv.fold(conv(), (X,))
