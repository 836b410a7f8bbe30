"""A model is the same after it was captured."""

import types

import torch
from torch import nn

import flatconv
from flatconv.modelstate import Modes, unchanged
from tests.expected import agree, filled, sample


class Keeping(nn.Module):
    """Keeps what it has seen, as video autoencoders do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 3, 3, padding=1)
        self.seen: list[torch.Tensor] = []
        self.by_name: dict[str, list[torch.Tensor]] = {"x": []}
        self.ranks: set[int] = set()
        self.calls = 0

    def forward(self, x):
        self.seen.append(x)
        self.by_name["x"].append(x)
        self.by_name["y"] = [x]
        self.ranks.add(x.dim())
        self.calls += 1
        self.last = self.calls
        return self.conv(x)


def untouched(model):
    return (model.seen, model.by_name, model.ranks, model.calls) == ([], {"x": []}, set(), 0) and not hasattr(
        model, "last"
    )


def test_fold_and_audit_leave_no_tensors_behind():
    x = sample(2, 2, 1, 5, 6)
    model = filled(Keeping())
    held = model.seen, model.by_name, model.by_name["x"]
    flatconv.audit(model, (x,))
    assert untouched(model)
    flatconv.fold(model, (x,))
    assert untouched(model)
    assert all(a is b for a, b in zip(held, (model.seen, model.by_name, model.by_name["x"]), strict=True))


def test_a_failure_leaves_none_either():
    class Failing(Keeping):
        def forward(self, x):
            super().forward(x)
            if x.sum() > 0:  # depends on the data
                return x
            return -x

    model = filled(Failing())
    try:
        flatconv.fold(model, (sample(2, 2, 1, 5, 6),))
    except flatconv.RefusedError:
        assert untouched(model)
    else:
        raise AssertionError("a branch on data was captured")


def test_buffers_that_a_call_updates():
    norm = nn.BatchNorm3d(2)
    with unchanged(norm):
        norm(sample(2, 2, 1, 5, 6).float())
        assert norm.num_batches_tracked == 1
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(2))


def test_only_reads_inside_the_call_count():
    modes, model = Modes(), nn.Sequential(nn.Dropout(), nn.BatchNorm3d(2), nn.ReLU()).eval()
    with modes.watched():
        assert model[0].training is False
        with modes.calling():
            assert model[1].training is False
        model.train()
        assert model[0].training is True
    assert modes.of(model) == {"1": False}
    assert model[1].training is True


def test_python_modules_are_not_looked_into():
    """They hold everything, and lazy ones import what they are asked for."""

    class Lazy(dict):
        def keys(self):
            raise ValueError("asked for all it could import")

    module = types.ModuleType("lazy")
    module.table = Lazy()
    model = nn.Conv3d(1, 1, 3, padding=1)
    model.library = module
    x = torch.randn(1, 1, 1, 4, 4)
    agree(flatconv.fold(model, (x,))(x), model(x).detach())
