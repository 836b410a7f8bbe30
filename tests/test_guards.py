"""What a folded model says to inputs that it was not folded for."""

import pickle
import re

import pytest
import torch
from torch import nn

import flatconv
from flatconv.guards import Guards, InputGuard, holds, safe, translate
from tests.expected import Net, agree, filled, sample


def conv(inputs=2):
    return nn.Conv3d(inputs, 2, 3, padding=1)


@pytest.fixture(scope="module")
def flat():
    def forward(self, clip, scale=2.0):
        return self.conv(clip) * scale

    return flatconv.fold(filled(Net(forward, conv=conv())), (sample(1, 2, 1, 6, 8),), verify=False)


def refusal(call, *args, **kwargs):
    with pytest.raises(flatconv.GuardError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_another_depth(flat):
    assert refusal(flat, sample(1, 2, 3, 6, 8)) == (
        "'clip' has shape (1, 2, 3, 6, 8); the model was folded for (any, 2, 1, any, any) "
        "and axis 2 must be 1, not 3: fold again for this shape"
    )


def test_other_channels(flat):
    said = refusal(flat, sample(1, 3, 1, 6, 8))
    assert "'clip' has shape (1, 3, 1, 6, 8)" in said
    assert "axis 1 must be 2, not 3" in said


def test_another_rank(flat):
    assert refusal(flat, sample(2, 1, 6, 8)) == (
        "'clip' has 4 axes, shape (2, 1, 6, 8); "
        "the model was folded for 5, shape (any, 2, 1, any, any): fold again for this shape"
    )


def test_another_dtype(flat):
    assert refusal(flat, sample(1, 2, 1, 6, 8, dtype=torch.float32)) == (
        "'clip' is torch.float32, the model was folded for torch.float64: "
        "convert the input, or fold the model in that dtype"
    )


def test_another_constant(flat):
    said = refusal(flat, sample(1, 2, 1, 6, 8), 3.0)
    assert "folded with the argument 2.0, called with 3.0" in said
    assert "argument 2.0, called with 2:" in refusal(flat, sample(1, 2, 1, 6, 8), scale=2)


def test_another_form(flat):
    assert "folded for a call of the form" in refusal(flat, [sample(1, 2, 1, 6, 8)])
    assert "folded with the argument 2.0" in refusal(flat, sample(1, 2, 1, 6, 8), sample(1))


def test_something_else_than_a_tensor(flat):
    assert refusal(flat, "clip") == "folded with a tensor as 'clip', called with str"


def test_arguments_that_do_not_fit(flat):
    said = refusal(flat, sample(1, 2, 1, 6, 8), sclae=2.0)
    assert "the arguments do not fit the model's signature" in said
    assert "sclae" in said
    assert "missing a required argument: 'clip'" in refusal(flat)


def test_every_fixed_size_names_its_axis():
    flat = flatconv.fold(filled(conv()), (sample(1, 2, 1, 6, 8),), dynamic=False, verify=False)
    for shape, axis in (((2, 2, 1, 6, 8), 0), ((1, 2, 1, 5, 8), 3), ((1, 2, 1, 6, 9), 4)):
        said = refusal(flat, sample(*shape))
        assert "folded for (1, 2, 1, 6, 8)" in said
        assert f"axis {axis} must be" in said


def test_conditions_of_the_code_are_checked():
    def forward(self, clip):
        y = self.conv(clip)
        return y * 2 if clip.shape[-1] > 4 else y

    net = filled(Net(forward, conv=conv()))
    flat = flatconv.fold(net, (sample(1, 2, 1, 6, 8),), verify=False)
    x = sample(1, 2, 1, 4, 5)
    with torch.no_grad():
        agree(flat(x), net(x))
    assert refusal(flat, sample(1, 2, 1, 6, 3)) == (
        "'clip' has shape (1, 2, 1, 6, 3); axis 4 must be at least 5, not 3: fold again for this shape"
    )


def test_a_size_that_has_to_divide():
    def forward(self, clip):
        n, c, d, h, w = clip.shape
        return self.conv(clip).reshape(n, c, d, h // 2, 2, w).mean(4)

    net = filled(Net(forward, conv=conv()))
    flat = flatconv.fold(net, (sample(1, 2, 1, 6, 8),), verify=False)
    x = sample(2, 2, 1, 4, 5)
    with torch.no_grad():
        agree(flat(x), net(x))
    assert "fold again for this shape" in refusal(flat, sample(1, 2, 1, 5, 8))


def test_two_inputs_of_one_size():
    def forward(self, a, b):
        return self.conv(a) + b

    net = filled(Net(forward, conv=conv()))
    flat = flatconv.fold(net, (sample(2, 2, 1, 6, 8), sample(2, 2, 1, 6, 8)), verify=False)
    a, b = sample(3, 2, 1, 4, 5), sample(3, 2, 1, 4, 5, seed=2)
    with torch.no_grad():
        agree(flat(a, b), net(a, b))
    for other in ((3, 2, 1, 4, 6), (1, 2, 1, 4, 5)):
        with pytest.raises(flatconv.FlatconvError, match=r"a\.shape|b\.shape|'b'"):
            flat(a, sample(*other))


# --- the guards themselves

GUARD = InputGuard("x", (None, 3, 1), torch.float32, ((1, 8), (3, 3), (1, 1)))


def test_ranges():
    guards = Guards((GUARD,), ())
    guards.check([torch.zeros(8, 3, 1)])
    with pytest.raises(flatconv.GuardError, match=r"axis 0 must be from 1 to 8, not 9"):
        guards.check([torch.zeros(9, 3, 1)])


def test_conditions_in_words():
    guards = Guards((GUARD,), ("s[0][0] % 2 == 0", "max(1, s[0][0]) > 2"))
    guards.check([torch.zeros(4, 3, 1)])
    with pytest.raises(flatconv.GuardError, match=re.escape("x.shape[0] % 2 == 0")):
        guards.check([torch.zeros(3, 3, 1)])
    with pytest.raises(flatconv.GuardError, match=re.escape("max(1, x.shape[0]) > 2")):
        guards.check([torch.zeros(2, 3, 1)])


def test_translated():
    assert translate("L['tensors'][1].size()[2] <= L['tensors'][0].size()[4]") == "s[1][2] <= s[0][4]"


@pytest.mark.parametrize("condition", ["s[0][2] > 1 and not (s[1][0] == 2)", "math.floor(s[0][1] / 2) >= 1e3", "True"])
def test_safe(condition):
    assert safe(condition)


@pytest.mark.parametrize(
    "condition", ["__import__('os').getcwd()", "s[0][0].real == 1", "L['tensors'][0].ndim == 4", "[].append(s)"]
)
def test_not_safe(condition):
    assert not safe(condition)


def test_holds():
    assert holds("s[0][1] == 3 * s[1][0]", [(2, 6), (2,)])
    assert not holds("s[0][1] == 3 * s[1][0]", [(2, 6), (1,)])


def test_pickled():
    guards = Guards((GUARD,), ("s[0][0] % 2 == 0",))
    again = pickle.loads(pickle.dumps(guards))
    assert again == guards
    with pytest.raises(flatconv.GuardError):
        again.check([torch.zeros(3, 3, 1)])
