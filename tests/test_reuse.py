"""Steps that write in place: where nothing else reads what they write over, and nowhere else."""

import pytest
import torch
from torch import nn

import flatconv
from flatconv.reuse import IN_PLACE, in_place
from tests.expected import agree, filled, sample

X = sample(2, 2, 1, 5, 6)
aten = torch.ops.aten


class Net(nn.Module):
    """A convolution and what is done with its result."""

    def __init__(self, then):
        super().__init__()
        self.conv = nn.Conv3d(2, 3, 3, padding=1)
        self.then = then

    def forward(self, x):
        return self.then(self.conv(x), x)


def targets(graph):
    return [n.target for n in graph.nodes if n.op == "call_function"]


def folded(then, **options):
    model = filled(Net(then))
    return model, flatconv.fold(model, (X,), **options)


def check(model, flat):
    x = X.clone()
    with torch.no_grad():
        agree(flat(x), model(x))
        agree(flat(x), model(x))
    assert torch.equal(x, X)
    agree(flat(X), model(X))


FIRE = {
    "relu": (lambda y, x: torch.relu(y), aten.relu_.default),
    "silu": (lambda y, x: torch.nn.functional.silu(y), aten.silu_.default),
    "clamp": (lambda y, x: y.clamp(-0.1, 0.2), aten.clamp_.default),
    "in place in the model": (lambda y, x: y.relu_(), aten.relu_.default),
    "a view between": (lambda y, x: y.flatten(3, 4).sigmoid(), aten.sigmoid_.default),
    "and after": (lambda y, x: (y.tanh() * 2, x + 1), aten.tanh_.default),
}


@pytest.mark.parametrize("case", FIRE)
def test_a_step_writes_over_what_only_it_reads(case):
    then, target = FIRE[case]
    model, flat = folded(then)
    assert target in targets(in_place(flat.graph))
    # What is shown and saved stays functional.
    assert target not in targets(flat.graph)
    assert ".relu_." not in flat.code
    check(model, flat)


KEEP = {
    "read again": lambda y, x: torch.relu(y) + y,
    "read again before": lambda y, x: (y * 2) + torch.relu(y),
    "a result too": lambda y, x: (y, torch.relu(y)),
    "read again through a view": lambda y, x: torch.relu(y.flatten(3, 4)).sum() + y,
    "the view read again": lambda y, x: (lambda v: torch.relu(v) + v)(y.flatten(3, 4)),
    "an input": lambda y, x: torch.relu(x).mean(1, keepdim=True) + y,
    "a view of an input": lambda y, x: torch.relu(x.flatten(3, 4)).unflatten(3, x.shape[3:]).sum() + y,
    "one slice": lambda y, x: torch.relu(y[:, :1]) + y[:, 1:],
    "expanded": lambda y, x: torch.relu(y.mean(1, keepdim=True).expand(-1, 3, -1, -1, -1)),
}


@pytest.mark.parametrize("case", KEEP)
def test_what_is_read_elsewhere_is_not_written_over(case):
    model, flat = folded(KEEP[case])
    assert in_place(flat.graph) is flat.graph
    check(model, flat)


def test_gradients_take_the_functional_graph():
    def then(y, x):
        return torch.nn.functional.silu(y)

    model, flat = folded(then, weights="shared")
    assert in_place(flat.graph) is not flat.graph
    wanted = torch.autograd.grad(model(X).square().sum(), list(model.parameters()))
    found = torch.autograd.grad(flat(X).square().sum(), list(flat.parameters()))
    for w, f in zip(wanted, found, strict=True):
        torch.testing.assert_close(f, w)


@pytest.mark.parametrize("target", IN_PLACE, ids=str)
def test_each_step_in_place_has_the_same_bits(target):
    more = (-0.5, 0.5) if target is aten.clamp.default else ()
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        x = sample(3, 5, 7).to(dtype) * 4
        wanted = target(x, *more)
        assert torch.equal(IN_PLACE[target](x, *more), wanted)
        assert torch.equal(x, wanted)
