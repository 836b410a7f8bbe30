"""What is declared of the inputs: used, reported, and checked."""

import pytest
import torch
from torch import nn

import flatconv
from flatconv.assume import Assumed, first_difference
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
        ({"x": flatconv.repeated(3, within=(2, 3), axis=0)}, r"size 5 along dimension 3, and within=\(2, 3\) makes 6"),
        (
            {"x": flatconv.repeated(-1, within=(3, 2), axis=1)},
            "along axis 1 of dimension 4 seen as 3×2 .* slice 1 differs",
        ),
    ],
)
def test_declarations_that_cannot_be_meant(assume, words):
    with pytest.raises(flatconv.InputError, match=words):
        flatconv.fold(filled(Net()), (TWO,), assume=assume)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dim": "2"}, "dim='2'.*number of a dimension"),
        ({"dim": True}, "dim=True"),
        ({"dim": 2.0}, "dim=2.0"),
        ({"check": "sometimes"}, "check='sometimes'.*'always', 'first' or 'never'"),
        ({"otherwise": "sometimes"}, "otherwise='sometimes'.*'refuse' or 'full'"),
        ({"otherwise": "full", "check": "first"}, "check='first', otherwise='full'.*leave check out"),
        ({"otherwise": "full", "check": "never"}, "check='never', otherwise='full'.*leave check out"),
        ({"within": (3, 2)}, "axis=None.*go together"),
        ({"axis": 1}, "within=None.*go together"),
        ({"within": (), "axis": 0}, r"within=\(\).*a tuple of the sizes"),
        ({"within": 6, "axis": 0}, "within=6"),
        ({"within": "32", "axis": 0}, "within='32'"),
        ({"within": (3, -1), "axis": 0}, r"within=\(3, -1\)"),
        ({"within": (3, 2.0), "axis": 0}, r"within=\(3, 2.0\)"),
        ({"within": (3, True), "axis": 0}, r"within=\(3, True\)"),
        ({"within": (3, 2), "axis": 2}, r"axis=2.*one of the 2 sizes in within=\(3, 2\)"),
        ({"within": (3, 2), "axis": -3}, "axis=-3.*one of the 2 sizes"),
        ({"within": (3, 2), "axis": "1"}, "axis='1'"),
        ({"within": (3, 2), "axis": False}, "axis=False"),
    ],
)
def test_repeated_says_what_it_takes(given, words):
    with pytest.raises(flatconv.InputError, match=r"^repeated\(.*" + words):
        flatconv.repeated(**({"dim": 2} | given))


def test_first_difference():
    x = torch.tensor([[1.0, float("nan"), 0.0], [1.0, float("nan"), -0.0], [1.0, 2.0, 0.0]])
    assert first_difference(x[:2], 0) is None
    assert first_difference(x, 0) == 2
    assert first_difference(x[:0], 0) is None
    assert first_difference(x[:, :0], 1) is None


# --- a range inside a dimension that was laid out flat

SIZES = (3, 2, 4, 4)
FLAT = flatconv.repeated(1, within=SIZES, axis=1)


def patches(count, seed=0, dtype=torch.float64):
    """Patches of a still image, two equal frames each, laid out flat: (count, 96)."""
    return sample(count, 3, 1, 4, 4, seed=seed, dtype=dtype).expand(-1, *SIZES).reshape(count, -1)


class Embed(nn.Module):
    """As vision-language models have it: every patch is unfolded and meets one kernel of its own size."""

    def __init__(self, bias=False):
        super().__init__()
        self.proj = nn.Conv3d(3, 5, SIZES[1:], stride=SIZES[1:], bias=bias)

    def forward(self, x):
        return self.proj(x.view(-1, *SIZES)).view(-1, 5)


@pytest.mark.parametrize("weights", ["folded", "shared"])
@pytest.mark.parametrize("bias", [False, True])
def test_patches_laid_out_flat(weights, bias):
    model = filled(Embed(bias))
    flat = flatconv.fold(model, (patches(6),), assume={"x": FLAT}, weights=weights)
    agree(flat(patches(6)), model(patches(6)))
    agree(flat(patches(9, seed=3)), model(patches(9, seed=3)))  # as many patches as there are
    (site,) = flat.report.sites
    assert (site.merged_taps, site.macs) == ((0, 1), 2 * site.useful_macs)
    assert site.becomes == "linear"
    assert "declared equal" in site.reason


def test_the_form_of_patches_laid_out_flat():
    model = filled(Embed())
    flat = flatconv.fold(model, (patches(6),), assume={"x": FLAT}, dynamic=False)
    assert form(flat)[:3] == [
        ("reshape.default", "x", [6, 3, 2, 4, 4]),
        ("select.int", "#0", 2, 0),
        ("flatten.using_ints", "#1", 1, -1),
    ]
    assert form(flat)[3][0] == "linear.default"
    agree(flat.state_dict()["proj.weight"], model.proj.weight.detach().sum(2).flatten(1))


def test_one_value_apart_is_noticed():
    flat = flatconv.fold(filled(Embed()), (patches(6),), assume={"x": FLAT})
    for place in (16, 31, 95):  # in the second frame of the first and of the last channel
        x = patches(6)
        x[4, place] += 1e-9
        with pytest.raises(
            flatconv.GuardError, match="slice 1 along axis 1 of dimension 1 seen as 3×2×4×4 than in slice 0"
        ):
            flat(x)


def test_words_of_a_range_inside_a_dimension():
    audit = flatconv.audit(filled(Embed()), (patches(2),), assume={"x": FLAT})
    assert audit.assumptions == (
        "all 2 slices of 'x' along axis 1 of dimension 1 seen as 3×2×4×4 are equal (declared; checked on every call)",
    )
    assert flatconv.repeated(1, within=[3, 2, 4, 4], axis=-3) == FLAT


def test_a_saved_program_checks_a_range_inside_a_dimension(tmp_path):
    model = filled(Embed())
    flat = flatconv.fold(model, (patches(6),), assume={"x": FLAT})
    flat.save(tmp_path / "net.pt2")
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    agree(loaded(patches(4)), (model(patches(4)),))
    with pytest.raises(RuntimeError, match="'x' has other values"):
        loaded(sample(4, 96))


@pytest.mark.parametrize(
    ("sizes", "inner", "kernel"),
    [
        ((2, 3, 4, 4), 0, (2, 4, 4)),
        ((3, 4, 2, 4), 2, (4, 2, 4)),
        ((3, 4, 4, 2), 3, (4, 4, 2)),
        ((2, 3, 1, 4), 2, (1, 1, 4)),
    ],
)
def test_any_of_the_axes_may_repeat(sizes, inner, kernel):
    class Any(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj = nn.Conv3d(sizes[0], 5, kernel)

        def forward(self, x):
            return self.proj(x.unflatten(1, sizes))

    seen = sample(3, *sizes)
    x = seen.narrow(1 + inner, 0, 1).expand_as(seen).flatten(1)
    model = filled(Any())
    flat = flatconv.fold(model, (x,), assume={"x": flatconv.repeated(1, within=sizes, axis=inner)})
    agree(flat(x), model(x))


def test_axes_taken_apart_otherwise_than_declared():
    """What was declared is a fact of the values, and not of the way in which the model cuts them."""

    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj = nn.Conv3d(6, 5, (2, 2, 4))

        def forward(self, x):
            return self.proj(x.view(-1, 6, 2, 2, 4))  # frames among the channels, rows of a frame in pairs

    model = filled(Other())
    flat = flatconv.fold(model, (patches(3),), assume={"x": FLAT})
    agree(flat(patches(3, seed=5)), model(patches(3, seed=5)))
    assert not flat.report.sites[0].merged_taps


def test_work_before_the_view():
    """The type is changed and numbers are shifted while all is still flat, as processors do."""

    class Shifted(Embed):
        def forward(self, x):
            return super().forward((x.to(torch.float64) - 0.5) / 0.25)

    model = filled(Shifted())
    flat = flatconv.fold(model, (patches(6, dtype=torch.float32),), assume={"x": FLAT})
    assert flat.report.sites[0].merged_taps == (0, 1)

    class PerPlace(Embed):
        def forward(self, x):
            return super().forward(x * torch.arange(96, dtype=x.dtype))

    model = filled(PerPlace())
    flat = flatconv.fold(model, (patches(6),), assume={"x": FLAT})
    agree(flat(patches(6)), model(patches(6)))
    assert not flat.report.sites[0].merged_taps  # what is multiplied is not the same in both frames


def test_places():
    one = Assumed("x", 0, 1, 2, "always", (2, 2, 3), 1)
    assert one.places(12) == (0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5)
    assert Assumed("x", 0, 1, 4, "always").places(4) == (0, 0, 0, 0)
    x = torch.arange(24.0).reshape(2, 12)
    seen = one.satisfy(x)
    assert seen.shape == (2, 12)
    assert one.difference(seen) is None
    assert seen[0].tolist() == [0, 1, 2, 0, 1, 2, 6, 7, 8, 6, 7, 8]
    assert one.difference(x) == 1
    assert one.satisfy(x[:0]).shape == (0, 12)
