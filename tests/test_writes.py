"""Writes in place that torch does not write out as the model makes them are refused; all others are not."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatconv
from tests.expected import agree, filled, sample


class Net(nn.Module):
    def __init__(self, forward) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv3d(3, 3, (3, 2, 2), padding=(1, 0, 0)), nn.GroupNorm(3, 3)
        self.drop, self.does = nn.Dropout(), forward

    def forward(self, x):
        return self.does(self, x)


def _residual(self, x):
    h = self.conv(x)
    return F.relu_(self.drop(h)) + h


def _joined(self, x):
    h = self.conv(x)
    wide = torch.broadcast_tensors(h, h.new_zeros(2, 1, 1, 1, 1, 1))[0]
    wide.fill_(1.0)
    return h * 2


def _einsum(self, x):
    h = self.conv(x)
    torch.einsum("ncdhw->nchwd", h).fill_(1.0)
    return h * 2


def _chunks(self, x):
    h = self.conv(x)
    h.unsafe_chunk(3, 1)[0].fill_(1.0)
    return h * 2


REFUSED = {
    "dropout in eval mode, and its input read again": (_residual, "a result of dropout"),
    "broadcast tensors": (_joined, "an expanded tensor"),
    "einsum of one tensor": (_einsum, "a result of einsum"),
    "pieces that do not say that they are views": (_chunks, "a result of unsafe_chunk"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    does, words = REFUSED[name]
    with pytest.raises(flatconv.RefusedError, match=f"writes into {words}.*clone"):
        flatconv.fold(filled(Net(does)).eval(), (sample(2, 3, 1, 4, 5),), verify=False)


def test_an_audit_refuses_them_too():
    # Before, it called taps dead that were not.
    model = filled(Net(lambda self, x: self.conv(self.drop(y := F.pad(x, (0, 0, 0, 0, 1, 1))).add_(1.0)) + y.sum()))
    with pytest.raises(flatconv.RefusedError, match="a result of dropout"):
        flatconv.audit(model.eval(), (sample(2, 3, 1, 4, 5),))


FINE = {
    "dropout in eval mode, and nothing reads its input": lambda self, x: F.relu_(self.drop(self.conv(x))),
    "a flattened feature": lambda self, x: F.relu_(self.conv(x).flatten(1)),
    "what was read before": lambda self, x: (y := self.conv(x), y.mean((2, 3, 4), True), self.drop(y).relu_())[1],
    "a residual sum": lambda self, x: (y := self.conv(x)).add_(self.norm(y)).relu_(),
    "arithmetic under its other names": lambda self, x: torch.subtract(y := self.conv(x), 1.0).mul_(2.0) + y,
    "a conversion": lambda self, x: (y := self.conv(x)).double().add_(1.0) + y,
    "einsum of two": lambda self, x: torch.einsum("ncdhw,ck->nkdhw", self.conv(x), x.new_ones(3, 2)).relu_(),
    "an expand that repeats nothing": lambda self, x: self.conv(x).expand(-1, -1, 1, -1, -1).relu_(),
}


@pytest.mark.parametrize("name", FINE)
def test_not_refused(name):
    model = filled(Net(FINE[name])).eval()
    flat = flatconv.fold(model, (sample(2, 3, 1, 4, 5),))
    agree(flat(sample(3, 3, 1, 6, 7)), model(sample(3, 3, 1, 6, 7)))
