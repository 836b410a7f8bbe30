"""What stays free, and the conditions that torch.export leaves and those that it does not."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatconv
from tests.expected import agree, filled, sample


class Net(nn.Module):
    def __init__(self, forward, **parts) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.does = forward

    def forward(self, x):
        return self.does(self, x)


SQUEEZES = {
    "all": lambda self, x: self.conv(x).squeeze(),
    "some": lambda self, x: self.conv(x).squeeze((2, 4)),
    "one": lambda self, x: self.conv(x).squeeze(-1),
    "written out": lambda self, x: self.conv(x).relu_().squeeze(),
}


@pytest.mark.parametrize("squeeze", SQUEEZES)
def test_a_size_that_a_squeeze_looks_at_may_not_become_one(squeeze):
    # torch.export leaves no condition: the graph would keep an axis that the model removes.
    model = filled(Net(SQUEEZES[squeeze], conv=nn.Conv3d(2, 3, (3, 2, 2), padding=(1, 0, 0))))
    flat = flatconv.fold(model, (sample(2, 2, 1, 6, 7),))
    narrow, wide = sample(3, 2, 1, 6, 2), sample(3, 2, 1, 5, 9)
    assert model(narrow).dim() < model(wide).dim()
    agree(flat(wide), model(wide))
    with pytest.raises(flatconv.GuardError, match=r"x\.shape\[4\] != 1"):
        flat(narrow)


def test_an_example_in_which_a_squeeze_removes_a_computed_size():
    model = filled(Net(SQUEEZES["all"], conv=nn.Conv3d(2, 3, (3, 2, 2), padding=(1, 0, 0))))
    flat = flatconv.fold(model, (sample(2, 2, 1, 6, 2),))
    agree(flat(sample(2, 2, 1, 6, 2)), model(sample(2, 2, 1, 6, 2)))
    assert "x.shape[4]" not in flat.report.free


def test_writing_out_in_place_operators_fixes_no_size():
    # Written out for the example alone, the pooled height was taken to be 1, and no condition said so.
    def forward(self, x):
        x.index_select(0, torch.tensor([0, 0]))
        return self.conv(self.linear(F.avg_pool3d(x, (1, 2, 2), (1, 3, 2), (0, 0, 1))))

    model = filled(Net(forward, linear=nn.Linear(2, 1, bias=False), conv=nn.Conv3d(1, 2, (4, 1, 1), padding=(2, 0, 0))))
    flat = flatconv.fold(model, (sample(1, 1, 1, 4, 2),))
    for height in (4, 5, 8):
        agree(flat(sample(5, 1, 1, height, 2)), model(sample(5, 1, 1, height, 2)))


def test_a_condition_that_divides_by_the_batch():
    def forward(self, x):
        product = x @ x.transpose(-1, -2)
        return self.conv(x), product.chunk(1, 0)[-1] + 1.0

    flat = flatconv.fold(filled(Net(forward, conv=nn.Conv3d(1, 1, 1))), (sample(2, 1, 1, 3, 3),))
    with pytest.raises(flatconv.GuardError, match="do not meet a condition"):
        flat(sample(0, 1, 1, 3, 3))


def test_an_empty_example_is_folded_for_empty_batches():
    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=(1.0, 2.0, 2.0)))

    model = filled(Net(forward, conv=nn.Conv3d(1, 2, 3, padding=1)))
    flat = flatconv.fold(model, (sample(0, 1, 1, 3, 4),))
    assert flat(sample(0, 1, 1, 3, 4)).shape == (0, 2, 1, 6, 8)


@pytest.mark.parametrize(
    "reshape",
    [lambda x: x.flatten(1), lambda x: x.flatten(2), lambda x: x.flatten(3).flatten(2)],
    ids=["1", "2", "3 2"],
)
def test_reshapes_of_an_empty_batch(reshape):
    model = filled(Net(lambda self, x: reshape(self.conv(x)), conv=nn.Conv3d(1, 2, 3, padding=1)))
    flat = flatconv.fold(model, (sample(2, 1, 1, 3, 4),))
    assert flat.report.free == ("x.shape[0]", "x.shape[3]", "x.shape[4]")
    for batch in (0, 1, 3):
        x = sample(batch, 1, 1, 5, 6)
        agree(flat(x), model(x))


def test_a_parameter_that_a_call_changes():
    def forward(self, x):
        y = self.conv(x)
        with torch.no_grad():
            self.conv.weight[0].zero_()
        return y

    model = filled(Net(forward, conv=nn.Conv3d(3, 4, 3, padding=1)))
    before = model.conv.weight.detach().clone()
    with pytest.raises(flatconv.RefusedError, match=r"a call changes conv\.weight in place"):
        flatconv.fold(model, (sample(1, 3, 1, 8, 9),), verify=False)
    assert torch.equal(model.conv.weight, before)


def test_functorch_inside_is_refused():
    model = filled(
        Net(lambda self, x: torch.func.vmap(lambda v: v.sum(1, keepdim=True))(self.conv(x)), conv=nn.Conv3d(1, 2, 3))
    )
    with pytest.raises(flatconv.RefusedError, match="functorch"):
        flatconv.fold(model, (sample(2, 1, 3, 4, 5),), verify=False)


def test_a_failing_second_call_is_told():
    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 2, 3, padding=1)
            self.last = None

        def forward(self, x):
            y = self.conv(x)
            if self.last is not None:
                y = y + self.last
            self.last = y.detach()
            return y

    with pytest.raises(flatconv.FlatconvError):
        flatconv.fold(filled(Remembering()), (sample(2, 1, 1, 4, 5),))


def _dropped(self, x):
    # In eval mode dropout hands its input on, expanded memory and all.
    return self.conv(self.drop(torch.cat([x, x], 2).expand(2, -1, -1, -1, -1)).zero_())


WRITES = {
    "at once": lambda self, x: self.conv(torch.cat([x, x], 2).expand(2, -1, -1, -1, -1).zero_()),
    "a view of it": lambda self, x: self.conv(torch.cat([x, x], 2).expand(2, -1, -1, -1, -1)[:, :, :1].add_(1.0)),
    "through dropout": _dropped,
}


@pytest.mark.parametrize("write", WRITES)
def test_a_write_into_an_expanded_tensor_is_refused(write):
    # Graph 4254 of the long run: torch writes it out as the sum of the changes of all copies.
    model = filled(Net(WRITES[write], conv=nn.Conv3d(2, 3, (1, 2, 2)), drop=nn.Dropout())).eval()
    with pytest.raises(flatconv.RefusedError, match="writes into an expanded tensor"):
        flatconv.fold(model, (sample(1, 2, 1, 4, 5),), verify=False)


COPIES = {
    "a convolution of it": lambda self, x: self.conv(x.expand(-1, 3, -1, -1, -1)).relu_(),
    "a clone of it": lambda self, x: self.conv(x.expand(-1, 3, -1, -1, -1).clone().mul_(2.0)),
    "a norm of it": lambda self, x: self.conv(self.norm(x.expand(-1, 3, -1, -1, -1)).relu_()),
    "a sum with it": lambda self, x: self.conv((x.expand(-1, 3, -1, -1, -1) + 1.0).relu_()),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_write_into_what_is_computed_from_an_expanded_tensor_is_none_into_it(copy):
    # A grey image expanded to three channels, and a ReLU in place behind the first layer: many networks.
    model = filled(Net(COPIES[copy], conv=nn.Conv3d(3, 2, (3, 2, 2), padding=(1, 0, 0)), norm=nn.GroupNorm(3, 3)))
    flat = flatconv.fold(model, (sample(2, 1, 1, 4, 5),))
    agree(flat(sample(3, 1, 1, 6, 7)), model(sample(3, 1, 1, 6, 7)))


def test_a_condition_on_the_batch_that_one_does_not_meet_holds_for_larger_ones():
    def even(self, x):
        y = self.conv(x)
        return torch.cat([y, y[-1:]]) if x.shape[0] > 1 and x.shape[0] % 2 == 1 else y

    model = filled(Net(even, conv=nn.Conv3d(2, 3, (3, 2, 2), padding=(1, 0, 0))))
    flat = flatconv.fold(model, (sample(1, 2, 1, 4, 5),))
    for batch in (1, 2, 4):
        agree(flat(sample(batch, 2, 1, 4, 5)), model(sample(batch, 2, 1, 4, 5)))
    with pytest.raises(flatconv.GuardError, match=r"x\.shape\[0\] == 1 or"):
        flat(sample(3, 2, 1, 4, 5))


def test_two_free_sizes_flattened_and_taken_apart():
    def forward(self, x):
        y = self.conv(x)
        return y.flatten(3).unflatten(3, (y.shape[3] * 2, y.shape[4] // 2))

    model = filled(Net(forward, conv=nn.Conv3d(2, 3, (3, 1, 1), padding=(1, 0, 0))))
    flat = flatconv.fold(model, (sample(2, 2, 1, 6, 8),))
    agree(flat(sample(3, 2, 1, 5, 4)), model(sample(3, 2, 1, 5, 4)))
