"""Counting the taps that meet data, and telling fresh weights from others."""

from fractions import Fraction

import pytest
import torch
from torch import nn

import flatconv
from flatconv.analyse import analyse
from flatconv.capture import capture
from flatconv.fanin import bound, live_part, start, why_not_fresh
from tests.expected import Before, Padded, sample


def only(model, *tensors, **options):
    captured = capture(model.double().eval(), tensors, dynamic=False, **options)
    (site,) = analyse(captured.program, captured.given).sites.values()
    return start(site)


def clip(depth, *plane):
    return sample(1, 2, depth, *(plane or (5, 6)))


# The counts are made by hand: which of the taps meets a slice at each position.
@pytest.mark.parametrize(
    ("model", "depth", "short", "live"),
    [
        pytest.param(nn.Conv3d(2, 3, 3, padding=1), 1, Fraction(3), (1,), id="one slice, centre tap"),
        pytest.param(nn.Conv3d(2, 3, 3, padding=1), 2, Fraction(3, 2), (0, 1, 2), id="two slices, two taps each"),
        pytest.param(nn.Conv3d(2, 3, 3, padding=1), 3, Fraction(1), (0, 1, 2), id="three slices, a border"),
        pytest.param(nn.Conv3d(2, 3, (5, 3, 3), padding=(2, 1, 1)), 3, Fraction(5, 3), (0, 1, 2, 3, 4), id="five taps"),
        pytest.param(nn.Conv3d(2, 3, (5, 3, 3), padding=(2, 1, 1)), 4, Fraction(20, 14), (0, 1, 2, 3, 4), id="3443"),
        pytest.param(nn.Conv3d(2, 3, 3, padding=(2, 1, 1)), 1, Fraction(3), (0, 1, 2), id="each tap once"),
        pytest.param(nn.Conv3d(2, 3, 3, padding=(3, 1, 1)), 1, Fraction(3), (0, 1, 2), id="empty positions"),
        pytest.param(nn.Conv3d(2, 3, (1, 3, 3), padding=1), 1, Fraction(1), (0,), id="unit depth"),
        pytest.param(nn.Conv3d(2, 3, 3, padding=(1, 1, 1), stride=(2, 1, 1)), 2, Fraction(3, 2), (1, 2), id="stride"),
        pytest.param(Padded(nn.Conv3d(2, 3, 3), (1, 1, 1, 1, 2, 0)), 1, Fraction(3), (2,), id="causal"),
        pytest.param(Padded(nn.Conv3d(2, 3, 3), (1, 1, 1, 1, 2, 0)), 2, Fraction(2), (1, 2), id="causal, two slices"),
        pytest.param(Padded(nn.Conv3d(2, 3, 3), (1, 1, 1, 1, 2, 0)), 4, Fraction(1), (0, 1, 2), id="causal, a clip"),
        pytest.param(nn.Conv3d(2, 3, 3, padding=1, padding_mode="replicate"), 1, Fraction(1), (0, 1, 2), id="merged"),
        pytest.param(Before(lambda x: x.expand(-1, -1, 3, -1, -1), nn.Conv3d(2, 3, 3)), 1, Fraction(1), (0, 1, 2), id="copies"),
        pytest.param(nn.ConvTranspose3d(2, 3, 3, padding=1), 1, Fraction(3), (1,), id="transposed"),
    ],
)  # fmt: skip
def test_taps_are_counted(model, depth, short, live):
    found = only(model, clip(depth))
    assert (found.short, found.live[0], found.unclear) == (short, live, "")
    assert found.factor == pytest.approx(float(short) ** 0.5)


def test_the_other_axes_count_too():
    found = only(nn.Conv3d(2, 3, 3, padding=1), clip(1, 1, 6))
    assert found.short == 9
    assert found.live == ((1,), (1,), (0, 1, 2))
    flat = only(nn.Conv2d(2, 3, 3, padding=1), sample(1, 2, 1, 7))
    assert flat.short == 3


def test_what_cannot_be_said_is_said():
    dead = only(nn.Conv3d(2, 3, (2, 1, 1), padding=(1, 0, 0), dilation=(2, 1, 1)), clip(1))
    assert dead.short == 1
    assert "no tap meets data" in dead.unclear
    strided = only(nn.ConvTranspose3d(2, 3, 3, padding=1, stride=2), clip(1))
    assert "transposed convolution with a stride" in strided.unclear


def test_a_transposed_kernel_as_long_as_its_stride_is_right():
    found = only(nn.ConvTranspose3d(2, 3, 2, stride=2), clip(1))
    assert (found.short, found.unclear) == (1, "")


def test_a_declared_repeat_counts_as_merged():
    found = only(nn.Conv3d(2, 3, (2, 3, 3)), clip(1).expand(-1, -1, 2, -1, -1), assume={"input": flatconv.repeated(2)})
    assert found.short == 1


@pytest.mark.parametrize(("kernel", "padding", "dilation", "stride"), [
    (3, 1, 1, 1), (5, 2, 1, 1), (4, 1, 1, 2), (3, 2, 2, 1), (2, 1, 3, 1), (3, 0, 1, 1),
])  # fmt: skip
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_counts_agree_with_impulses(kernel, padding, dilation, stride, depth):
    """Convolve ones with ones: the result is the number of taps that meet data at each position."""
    if depth + 2 * padding < (kernel - 1) * dilation + 1:
        pytest.skip("the kernel is longer than the padded input")
    conv = nn.Conv1d(1, 1, kernel, stride, padding, dilation, bias=False)
    found = only(conv, sample(1, 1, depth))
    with torch.no_grad():
        conv.weight.fill_(1)
        counts = [int(c) for c in conv(torch.ones(1, 1, depth, dtype=torch.float64)).reshape(-1) if c]
    if not counts:
        assert found.unclear
    elif max(counts) == kernel:
        assert found.short == 1
    else:
        assert found.short == Fraction(kernel * len(counts), sum(counts))


# --- fresh or not


LAYERS = [
    nn.Conv1d(7, 16, 3), nn.Conv2d(4, 8, 5, groups=2), nn.Conv3d(3, 16, 3), nn.Conv3d(16, 16, (3, 1, 1)),
    nn.ConvTranspose2d(8, 4, 3), nn.ConvTranspose3d(4, 6, 3, groups=2),
]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: str(layer).replace(" ", ""))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_the_default_is_known_again(layer, dtype):
    for seed in range(20):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layer.reset_parameters()
        weight = layer.weight.detach().to(dtype)
        assert why_not_fresh(weight, bound(weight)) == ""


SAMPLE = nn.Conv3d(8, 16, 3)


def drawn(function):
    weight = torch.empty(16, 8, 3, 3, 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        function(weight)
    return weight


@pytest.mark.parametrize(
    ("function", "word"),
    [
        pytest.param(nn.init.kaiming_normal_, "bound", id="He, normal"),
        pytest.param(nn.init.kaiming_uniform_, "bound", id="He, uniform"),
        pytest.param(nn.init.xavier_uniform_, "bound", id="Glorot"),
        pytest.param(lambda w: nn.init.trunc_normal_(w, std=0.02), "spread|bound", id="truncated normal"),
        pytest.param(lambda w: nn.init.uniform_(w, -0.06, 0.06), "spread", id="narrower"),
        pytest.param(lambda w: nn.init.uniform_(w, 0, bound(w)), "spread", id="one side"),
        pytest.param(nn.init.zeros_, "spread", id="zeros"),
        pytest.param(lambda w: w.bernoulli_(0.5).sub_(0.5).mul_(2 * bound(w) / 3**0.5), "spread", id="two values"),
        pytest.param(nn.init.dirac_, "bound", id="identity"),
        pytest.param(lambda w: w.fill_(float("nan")), "nan", id="nan"),
    ],
)
def test_others_are_told_apart(function, word):
    weight = drawn(function)
    why = why_not_fresh(weight, bound(weight))
    assert any(w in why for w in word.split("|")), why


def test_few_weights_say_too_little():
    weight = nn.Conv3d(1, 2, 3).weight
    assert "only 18" in why_not_fresh(live_part(weight, ((1,), (0, 1, 2), (0, 1, 2))), bound(weight))


def test_types_that_cannot_be_judged():
    assert "complex64" in why_not_fresh(torch.zeros(100, dtype=torch.complex64), 1.0)


def test_live_part():
    weight = sample(2, 3, 4, 2, 3)
    assert torch.equal(live_part(weight, ((1, 2), (0,), (0, 2))), weight[:, :, 1:3, :1, [0, 2]])
    assert live_part(weight, ((), (0, 1), (0, 1, 2))).numel() == 0
