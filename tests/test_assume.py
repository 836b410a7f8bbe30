"""What is declared of the inputs: used, reported, and checked."""

import pytest
import torch
from torch import nn

import flatconv
from flatconv.assume import first_difference
from tests.expected import agree, filled, form, sample

ONE = sample(2, 2, 1, 5, 6)
TWO = ONE.repeat(1, 1, 2, 1, 1)
OTHER = sample(2, 2, 2, 5, 6, seed=7)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 3, (2, 3, 3))

    def forward(self, x):
        return self.conv(x)


def folded(**options):
    model = filled(Net())
    check = options.pop("check", "always")
    return model, flatconv.fold(model, (TWO,), assume={"x": flatconv.repeated(dim=2, check=check)}, **options)


def test_a_doubled_image_is_summed():
    model, flat = folded(dynamic=False)
    agree(flat(TWO), model(TWO))
    assert form(flat) == [
        ("select.int", "x", 2, 0),
        ("conv2d.default", "#0", "conv.weight", "conv.bias", [1, 1], [0, 0], [1, 1], 1),
        ("unsqueeze.default", "#1", 2),
        ("return", "#2"),
    ]
    agree(flat.state_dict()["conv.weight"], model.conv.weight.detach().sum(2))
    assert flat.report.sites[0].merged_taps == (0, 1)


def test_without_the_declaration_nothing_is_assumed():
    model = filled(Net())
    flat = flatconv.fold(model, (TWO,))
    assert flat.report.assumptions == ()
    agree(flat(OTHER), model(OTHER))


def test_the_report_says_what_was_assumed():
    _, flat = folded()
    assert flat.report.assumptions == (
        "all 2 slices of 'x' along dimension 2 are equal (declared; checked on every call)",
    )
    assert "Assumed: all 2 slices" in str(flat.report)
    audit = flatconv.audit(filled(Net()), (TWO,), assume={"x": flatconv.repeated(dim=-3)})
    assert audit.assumptions == flat.report.assumptions
    assert "declared equal" in audit.sites[0].reason


def test_always_checks_every_call():
    model, flat = folded()
    for _ in range(2):
        agree(flat(TWO), model(TWO))
        with pytest.raises(flatconv.GuardError, match=r"'x' has other values in slice 1 along dimension 2"):
            flat(OTHER)


def test_first_checks_the_first_call():
    _, flat = folded(check="first", verify=False)
    with pytest.raises(flatconv.GuardError, match="slice 1"):
        flat(OTHER)
    with pytest.raises(flatconv.GuardError, match="slice 1"):  # a call that failed was no first call
        flat(OTHER)
    flat(TWO)
    assert flat(OTHER).shape == (2, 3, 1, 3, 4)


def test_verification_does_not_use_up_the_first_call():
    _, flat = folded(check="first")
    with pytest.raises(flatconv.GuardError, match="slice 1"):
        flat(OTHER)


def test_never_checks_nothing_and_says_so():
    _, flat = folded(check="never")
    assert flat(OTHER).shape == (2, 3, 1, 3, 4)
    assert "for other inputs the result is wrong" in flat.report.assumptions[0]


def test_a_saved_program_checks_too(tmp_path):
    model, flat = folded()
    flat.save(tmp_path / "net.pt2")
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    agree(loaded(TWO), (model(TWO),))
    with pytest.raises(RuntimeError, match="'x' has other values"):
        loaded(OTHER)


def test_batch_height_and_width_stay_free():
    model, flat = folded()
    wide = sample(3, 2, 1, 9, 4).repeat(1, 1, 2, 1, 1)
    agree(flat(wide), model(wide))


@pytest.mark.parametrize("dim", [0, 3, 4])
def test_a_declared_axis_is_not_left_free(dim):
    x = sample(2, 2, 1, 4, 4).narrow(dim, 0, 1)
    x = x.repeat(*(3 if a == dim else 1 for a in range(5))).contiguous()
    model = filled(nn.Conv3d(2, 3, (1, 3, 3), padding=(0, 1, 1)))
    flat = flatconv.fold(model, (x,), assume={"input": flatconv.repeated(dim)})
    assert f"input.shape[{dim}]" not in flat.report.free
    agree(flat(x), model(x))
    with pytest.raises(flatconv.GuardError, match="other values in slice"):
        flat(sample(*x.shape, seed=3))


@pytest.mark.parametrize(
    ("assume", "words"),
    [
        ({"y": flatconv.repeated(2)}, "names an input 'y', and the call has x"),
        ({"x": flatconv.repeated(5)}, "no dimension 5"),
        ({"x": flatconv.repeated(-6)}, "no dimension -6"),
        ({"x": 2}, "write flatconv.repeated"),
        ({"x": flatconv.repeated(4)}, "in the example slice 1 differs from slice 0"),
    ],
)
def test_declarations_that_cannot_be_meant(assume, words):
    with pytest.raises(flatconv.InputError, match=words):
        flatconv.fold(filled(Net()), (TWO,), assume=assume)


@pytest.mark.parametrize("given", [{"dim": "2"}, {"dim": True}, {"dim": 2.0}, {"dim": 2, "check": "sometimes"}])
def test_repeated_says_what_it_takes(given):
    with pytest.raises(flatconv.InputError, match="repeated"):
        flatconv.repeated(**given)


def test_first_difference():
    x = torch.tensor([[1.0, float("nan"), 0.0], [1.0, float("nan"), -0.0], [1.0, 2.0, 0.0]])
    assert first_difference(x[:2], 0) is None
    assert first_difference(x, 0) == 2
    assert first_difference(x[:0], 0) is None
    assert first_difference(x[:, :0], 1) is None
