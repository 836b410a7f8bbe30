"""Models that cannot be captured whole: their parts are folded, and nothing else is touched."""

import copy

import pytest
import torch
from torch import nn

import flatconv
from flatconv.parts import FORMS, recorded
from flatconv.patch import Call
from tests.expected import agree, filled, sample

IMAGE = sample(2, 2, 1, 6, 5)


class Block(nn.Module):
    def __init__(self, into=2, out=2):
        super().__init__()
        self.conv = nn.Conv3d(into, out, 3, padding=1)

    def forward(self, x):
        return torch.relu(self.conv(x))


class Deciding(nn.Module):
    """Its code looks at values, which no capture can."""

    def __init__(self, **parts):
        super().__init__()
        self.first = Block()
        self.other = nn.Linear(5, 5)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        y = self.first(self.other(x))
        if y.sum() > 1e9:
            return y
        return self.more(y) if hasattr(self, "more") else y + 1


def patched(net, *args, **options):
    net = filled(net)
    plain = copy.deepcopy(net)
    return net, plain, flatconv.patch(net, {"forward": args or (IMAGE,)}, **options)


def same(net, plain, *args):
    with torch.no_grad():
        agree(net(*args), plain(*args))


def folded(handle):
    return {name: route.counts.folded for name, route in handle.routes.items()}


def test_the_largest_part_that_can_be_captured():
    net, plain, handle = patched(Deciding())
    assert set(handle.routes) == {"first.forward"}
    assert "cannot be captured" in handle.left["forward"]
    same(net, plain, IMAGE)
    assert folded(handle) == {"first.forward": 1}
    # Frames take the original part within the same model.
    frames = sample(2, 2, 3, 6, 5)
    same(net, plain, frames)
    assert folded(handle) == {"first.forward": 1}
    handle.undo()
    assert type(net.first) is Block
    assert type(net) is Deciding


def test_parts_of_parts():
    net, plain, handle = patched(Deciding(more=Deciding(more=Block())))
    assert set(handle.routes) == {"first.forward", "more.first.forward", "more.more.forward"}
    assert "more.forward" in handle.left
    same(net, plain, IMAGE)
    assert set(folded(handle).values()) == {1}


class Sizes(nn.Module):
    """One block, called with several sizes."""

    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, x):
        y = self.block(x)
        if y.sum() > 1e9:
            return y
        return self.block(torch.cat([y, y, y], 2)).mean() + self.block(y[:, :, :, :2]) + y[:, :, :, :2]


def test_a_part_that_is_called_with_several_sizes():
    net, plain, handle = patched(Sizes())
    route = handle.routes["block.forward"]
    # The narrower one fits the program of the first, and where depth is three nothing can be left out.
    assert len(route.programs) == 1
    same(net, plain, IMAGE)
    assert route.counts.folded == 2
    assert route.counts.original == 1


def test_no_more_than_a_few_forms_of_one_part_are_recorded():
    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block()

        def forward(self, x):
            return sum(self.block(x[..., :i]).mean() for i in range(1, 2 * FORMS))

    net = Many().double()
    assert len(recorded(net, "forward", [Call(sample(1, 2, 1, 4, 3 * FORMS))])[net.block]) == FORMS


class Caching(nn.Module):
    """Changes the list that it is given, as decoders with caches of features do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(2, 2, 3, padding=1)

    def forward(self, x, cache=None, at=(0,)):
        y = self.conv(x)
        if cache is not None:
            cache[at[0]] = y
        return y


class Caller(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Caching()

    def forward(self, x):
        cache = [None]
        y = self.part(x, cache)
        return y + cache[0] if y.sum() < 1e9 else y


def test_a_part_that_changes_what_it_is_given():
    net, plain, handle = patched(Caller())
    assert "changes the container that it is given as 'cache'" in handle.left["part.forward"]
    assert set(handle.routes) == {"part.conv.forward"}
    same(net, plain, IMAGE)


def test_a_whole_model_that_changes_what_it_is_given_is_refused():
    net = filled(Caching())
    with pytest.raises(flatconv.RefusedError, match="changes the container that it is given as 'cache'"):
        flatconv.fold(net, (IMAGE, [None]))
    with pytest.raises(flatconv.RefusedError, match="changes the container that it is given as 'cache'"):
        flatconv.fold(net, (IMAGE,), {"cache": {0: None}})
    # Without a cache there is nothing to change.
    agree(flatconv.fold(net, (IMAGE,))(IMAGE), net(IMAGE))


class Writing(nn.Module):
    """Writes into its input."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(2, 2, 3, padding=1)

    def forward(self, x):
        return self.conv(x.mul_(2))


def test_a_part_that_writes_into_its_input():
    net, plain, handle = patched(Deciding(more=Writing()))
    assert "in place" in handle.left["more.forward"]
    assert set(handle.routes) == {"first.forward", "more.conv.forward"}
    same(net, plain, IMAGE)


class Remembering(nn.Module):
    """Keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(2, 2, 3, padding=1)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        return self.conv(x)


def test_a_part_that_changes_a_buffer():
    net, plain, handle = patched(Deciding(more=Remembering()))
    for count in (1, 2):
        same(net, plain, IMAGE)
        agree(net.more.seen, plain.more.seen)
        assert int(net.more.seen) == count
    assert folded(handle) == {"first.forward": 2, "more.forward": 2}


def test_hooks_of_parts_run():
    net = filled(Deciding())
    seen = []
    net.first.register_forward_hook(lambda m, a, y: seen.append(y.shape))
    handle = flatconv.patch(net, {"forward": (IMAGE,)})
    assert set(handle.routes) == {"first.conv.forward"}
    seen.clear()
    same(net, net, IMAGE)
    assert seen == [IMAGE.shape] * 2


def test_recording_leaves_no_trace():
    net = filled(Deciding(more=Remembering()))
    before = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in net.modules()]
    x = IMAGE.clone()
    recorded(net, "forward", [Call(x)])
    assert [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in net.modules()] == before
    assert torch.equal(x, IMAGE)
    assert net.more.seen == 0


def test_models_without_such_convolutions_are_refused():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3)

        def forward(self, x):
            y = self.conv(x)
            return y if y.sum() > 0 else -y

    with pytest.raises(flatconv.RefusedError, match="nothing of Flat was folded"):
        flatconv.patch(filled(Flat()), {"forward": (IMAGE[:, :, 0],)})


def test_a_failing_capture_prints_nothing(capfd):
    patched(Deciding())
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""
