"""The initial scale is corrected where it has to be, and nothing else is touched."""

import dataclasses
import json
import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

import flatconv
from flatconv.examples import image_vae, patch_embed, r3d18
from flatconv.reinit import Reinit
from flatconv.report.reinit import render_reinit
from tests.expected import Net, Padded, sample

ROOT3 = math.sqrt(3)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(7)
        yield


def clip(*shape):
    return sample(*(shape or (1, 4, 1, 6, 7)), dtype=torch.float32)


def state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def unchanged(model, before):
    return all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def skipped(model, *tensors):
    """The one reason why nothing was done; fails if anything was."""
    before = state(model)
    found = flatconv.reinit(model, tensors or (clip(),))
    assert unchanged(model, before)
    assert not found.of("scaled")
    (site, *rest) = found.of("skipped")
    assert all(s.reason == site.reason for s in rest)
    return site.reason


# --- what is done


def test_live_taps_and_bias_are_multiplied():
    conv = nn.Conv3d(4, 8, 3, padding=1)
    before = state(conv)
    (site,) = flatconv.reinit(conv, (clip(),)).sites
    assert (site.name, site.op, site.done, site.bias) == ("conv3d", "conv3d", "scaled", True)
    assert site.factor == pytest.approx(ROOT3)
    torch.testing.assert_close(conv.weight[:, :, 1], before["weight"][:, :, 1] * ROOT3)
    torch.testing.assert_close(conv.bias, before["bias"] * ROOT3)
    # Dead taps are left: nothing is known of the depth on which they may be used.
    assert torch.equal(conv.weight[:, :, [0, 2]], before["weight"][:, :, [0, 2]])


def test_causal_padding_keeps_the_last_tap():
    net = Padded(nn.Conv3d(4, 8, 3, bias=False), (1, 1, 1, 1, 2, 0))
    before = net.conv.weight.detach().clone()
    flatconv.reinit(net, (clip(),))
    torch.testing.assert_close(net.conv.weight[:, :, 2], before[:, :, 2] * ROOT3)
    assert torch.equal(net.conv.weight[:, :, :2], before[:, :, :2])


def test_two_slices_under_three_taps():
    conv = nn.Conv3d(4, 8, 3, padding=1)
    before = state(conv)
    (site,) = flatconv.reinit(conv, (clip(1, 4, 2, 6, 7),)).sites
    assert site.factor == pytest.approx(math.sqrt(3 / 2))
    torch.testing.assert_close(conv.weight, before["weight"] * math.sqrt(3 / 2))


def test_the_result_is_that_of_the_2d_network_to_the_bit_of_a_factor():
    """The live tap of the default, multiplied, is a draw of the 2-D default: same function, same bound."""
    conv, flat = nn.Conv3d(4, 8, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
    flatconv.reinit(conv, (clip(),))
    limit = 1 / math.sqrt(4 * 9)
    for tensor in (conv.weight[:, :, 1], conv.bias, flat.weight):
        assert float(tensor.abs().max()) <= limit * (1 + 1e-6)
    with torch.no_grad():
        flat.weight.copy_(conv.weight[:, :, 1])
        flat.bias.copy_(conv.bias)
    x = clip()
    torch.testing.assert_close(conv(x)[:, :, 0], flat(x[:, :, 0]))


def test_batch_norm_in_train_mode():
    net = nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.BatchNorm3d(8), nn.Dropout(), nn.Conv3d(8, 8, 3, padding=1))
    net[2].eval()
    statistics = net[1].running_mean.clone(), net[1].running_var.clone()
    found = flatconv.reinit(net, (clip(),))
    assert [s.done for s in found.sites] == ["scaled", "scaled"]
    assert found.notes == ()
    assert [m.training for m in net] == [True, True, False, True]
    assert torch.equal(net[1].running_mean, statistics[0])
    assert torch.equal(net[1].running_var, statistics[1])
    net(clip(2, 4, 1, 6, 7))


def test_statistics_from_before_are_pointed_out():
    net = nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.BatchNorm3d(8))
    net(clip())
    assert "reset_running_stats" in flatconv.reinit(net, (clip(),)).notes[0]


def test_another_method_and_keywords():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv3d(4, 8, 3, padding=1), nn.Conv3d(4, 8, 3, padding=1)

        def encode(self, x, scale=1.0):
            return self.a(x) * scale

    net = Two()
    before = net.b.weight.clone()
    found = flatconv.reinit(net, (clip(),), {"scale": 2.0}, method="encode")
    assert [s.name for s in found.of("scaled")] == ["a"]
    assert torch.equal(net.b.weight, before)


def test_a_layer_called_twice_is_multiplied_once():
    net = Net(lambda self, x: self.conv(self.conv(x)), conv=nn.Conv3d(4, 4, 3, padding=1))
    before = net.conv.weight[:, :, 1].clone()
    found = flatconv.reinit(net, (clip(),))
    assert [s.done for s in found.sites] == ["scaled", "scaled"]
    torch.testing.assert_close(net.conv.weight[:, :, 1], before * ROOT3)


def test_tied_layers_are_multiplied_once():
    first, second = nn.Conv3d(4, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
    second.weight, second.bias = first.weight, first.bias
    before = first.weight[:, :, 1].clone()
    flatconv.reinit(nn.Sequential(first, second), (clip(),))
    torch.testing.assert_close(first.weight[:, :, 1], before * ROOT3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_types(dtype):
    conv = nn.Conv3d(4, 8, 3, padding=1).to(dtype)
    before = conv.weight[:, :, 1].detach().double().clone()
    flatconv.reinit(conv, (clip().to(dtype),))
    assert conv.weight.dtype is dtype
    torch.testing.assert_close(conv.weight[:, :, 1].double(), before * ROOT3, rtol=torch.finfo(dtype).eps, atol=0)


def test_transposed_and_grouped():
    net = nn.Sequential(nn.Conv3d(4, 8, 3, padding=1, groups=4), nn.ConvTranspose3d(8, 6, 3, padding=1, groups=2))
    flatconv.reinit(net, (clip(),))
    # Both end where the default of the same layer without depth ends.
    for conv, twin in ((net[0], nn.Conv2d(4, 8, 3, groups=4)), (net[1], nn.ConvTranspose2d(8, 6, 3, groups=2))):
        limit = 1 / math.sqrt(twin.weight.shape[1] * 9)
        assert 0.8 * limit < float(conv.weight[:, :, 1].detach().abs().max()) <= limit * (1 + 1e-6)


# --- what is left alone


def test_a_second_call_finds_nothing_to_do():
    net = nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 8, 3, padding=1))
    assert len(flatconv.reinit(net, (clip(),)).of("scaled")) == 2
    assert "corrected before" in skipped_reasons(net)


def skipped_reasons(net):
    before = state(net)
    found = flatconv.reinit(net, (clip(),))
    assert unchanged(net, before)
    return "; ".join(s.reason for s in found.of("skipped"))


def test_a_model_in_training():
    conv = nn.Conv3d(4, 32, 3, padding=1)
    conv(clip()).square().sum().backward()
    assert "training has begun" in skipped(conv)


def test_a_model_trained_for_a_while():
    """Dead taps stay where they started; the live ones give it away."""
    net = nn.Sequential(nn.Conv3d(4, 32, 3, padding=1), nn.ReLU(), nn.Conv3d(32, 4, 3, padding=1))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    x, dead = clip(8, 4, 1, 6, 7), net[0].weight[:, :, 0].clone()
    for _ in range(40):
        optimizer.zero_grad()
        (net(x) - x).square().mean().backward()
        optimizer.step()
    optimizer.zero_grad()
    assert torch.equal(net[0].weight[:, :, 0], dead)
    assert "default" in skipped_reasons(net)


def test_trained_weights():
    for method in ("encode", "forward"):
        model = image_vae()
        before = state(model)
        found = flatconv.reinit(model, (clip(1, 3, 1, 32, 32),), method=method)
        assert not found.of("scaled")
        assert unchanged(model, before)


def test_other_initialisations():
    conv = nn.Conv3d(4, 8, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight)
    assert "bound of the default" in skipped(conv)


def test_small_kernels():
    assert "only 9 of its weights" in skipped(nn.Conv3d(1, 1, 3, padding=1), clip(1, 1, 1, 6, 7))


def test_a_factor_too_small_to_be_seen_again():
    """What a second call could not tell from the default is not touched by the first."""
    conv = nn.Conv2d(4, 1, (31, 1), padding=(1, 0))
    reason = skipped(conv, sample(1, 4, 30, 3, dtype=torch.float32))
    assert "too few" in reason


def test_depth_enough():
    before = state(conv := nn.Conv3d(4, 8, 3, padding=1))
    (site,) = flatconv.reinit(conv, (clip(1, 4, 5, 6, 7),)).sites
    assert (site.done, site.factor) == ("right", 1)
    assert unchanged(conv, before)


def test_merged_taps_are_right():
    conv = nn.Conv3d(4, 8, 3, padding=1, padding_mode="replicate")
    before = state(conv)
    (site,) = flatconv.reinit(conv, (clip(),)).sites
    assert site.done == "right"
    assert "K times the variance" in site.reason
    assert unchanged(conv, before)


def test_an_image_in_two_frames_is_right():
    found = flatconv.reinit(patch_embed(width=64), (clip(5, 1176),), assume=None)
    assert {s.done for s in found.sites} == {"right"}


def test_weights_that_are_computed():
    assert "computed from others" in skipped(weight_norm(nn.Conv3d(4, 8, 3, padding=1)))
    assert "computed from others" in skipped(parametrizations.weight_norm(nn.Conv3d(4, 8, 3, padding=1)))


def test_frozen_weights():
    conv = nn.Conv3d(4, 8, 3, padding=1)
    conv.weight.requires_grad_(False)
    assert "frozen" in skipped(conv)


def test_buffers():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", nn.Conv3d(4, 8, 3).weight.detach().clone())

        def forward(self, x):
            return torch.nn.functional.conv3d(x, self.weight, padding=1)

    assert "no parameter" in skipped(Fixed())


def test_a_weight_with_two_factors():
    def forward(self, x):
        return self.conv(x), self.conv(x.repeat(1, 1, 5, 1, 1) * torch.arange(5.0)[:, None, None])

    reason = skipped(Net(forward, conv=nn.Conv3d(4, 8, 3, padding=1)))
    assert "different factors: 1, 1.73" in reason


def test_a_weight_that_is_read_elsewhere():
    def forward(self, x):
        return self.conv(x) + self.conv.weight.mean()

    assert "read by something else" in skipped(Net(forward, conv=nn.Conv3d(4, 8, 3, padding=1)))


def test_memory_shared_with_another_tensor():
    net = nn.ModuleDict({"conv": nn.Conv3d(4, 8, 3, padding=1)})
    held = Net(lambda self, x: self.conv(x), conv=net["conv"])
    held.register_buffer("view", held.conv.weight.detach()[:1])
    assert "shares its memory" in skipped(held)


def test_no_tap_meets_data():
    conv = nn.Conv3d(4, 8, (2, 1, 1), padding=(1, 0, 0), dilation=(2, 1, 1))
    assert "bias alone" in skipped(conv)


@pytest.mark.parametrize("bias", [nn.init.zeros_, lambda b: nn.init.constant_(b, 0.05), nn.init.ones_])
def test_a_bias_that_was_set_is_left_alone(bias):
    conv = nn.Conv3d(4, 32, 3, padding=1)
    bias(conv.bias)
    before = conv.bias.detach().clone()
    (site,) = flatconv.reinit(conv, (clip(),)).sites
    assert (site.done, site.bias) == ("scaled", False)
    assert "the bias is left alone" in site.reason
    assert torch.equal(conv.bias, before)


# --- all or nothing


def test_an_error_changes_nothing(monkeypatch):
    net = nn.Sequential(*(nn.Conv3d(4, 4, 3, padding=1) for _ in range(3)))
    before, left = state(net), [4]
    real = torch.Tensor.copy_

    def failing(self, *args, **kwargs):
        if isinstance(self, nn.Parameter):
            left[0] -= 1
            if left[0] == 0:
                raise RuntimeError("no more memory")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "copy_", failing)
    with pytest.raises(flatconv.RefusedError, match=r"no more memory.*nothing was changed"):
        flatconv.reinit(net, (clip(),))
    monkeypatch.undo()
    assert left[0] < 0  # some were written, and put back
    assert unchanged(net, before)


def test_what_cannot_be_captured_changes_nothing():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(4, 8, 3, padding=1)

        def forward(self, x):
            y = self.conv(x)
            return y if float(y.sum()) > 0 else -y

    net = Odd()
    before = state(net)
    with pytest.raises(flatconv.FlatconvError):
        flatconv.reinit(net, (clip(),))
    assert unchanged(net, before)
    assert net.training
    with pytest.raises(flatconv.InputError):
        flatconv.reinit(net, ("no tensor",))
    with pytest.raises(flatconv.InputError):
        flatconv.reinit("no module", (clip(),))


# --- that it does what it is for


def spread(model, x):
    """Standard deviation of the result over images, at every position and channel: the signal, without the constant."""
    with torch.no_grad():
        return model(x).std(0)


def test_a_layer_starts_as_wide_as_a_2d_one():
    """Var y of the corrected 3-D layer and of the 2-D default agree within the error of their draws."""
    channels, x = 256, sample(16, 8, 1, 9, 9, dtype=torch.float32)

    def power(layer, inputs):
        with torch.no_grad():
            # One value an output channel: they are independent draws with one expected value.
            return layer(inputs).square().flatten(2).mean((0, 2)).double()

    conv = nn.Conv3d(8, channels, 3, padding=1)
    default = power(conv, x)
    flatconv.reinit(conv, (x[:1],))
    corrected, flat = power(conv, x), power(nn.Conv2d(8, channels, 3, padding=1), x[:, :, 0])
    error = math.sqrt(float(corrected.var() + flat.var()) / channels)
    assert abs(float(corrected.mean() - flat.mean())) < 4 * error
    assert abs(float(default.mean() - flat.mean())) > 8 * error
    assert float(corrected.mean() / default.mean()) == pytest.approx(3, rel=1e-4)


def test_ten_layers_keep_the_signal_of_the_2d_network():
    def tower(conv, **options):
        channels = [3] + [32] * 10
        return nn.Sequential(*(
            m for a, b in pairwise(channels) for m in (conv(a, b, 3, padding=1, **options), nn.ReLU())
        ))[:-1]  # fmt: skip

    x = sample(8, 3, 1, 8, 8, dtype=torch.float32)
    logs = {"2-D": [], "direct": [], "corrected": []}
    for _ in range(6):
        logs["2-D"].append(float(spread(tower(nn.Conv2d), x[:, :, 0]).mean().log()))
        net = tower(nn.Conv3d)
        logs["direct"].append(float(spread(net, x).mean().log()))
        flatconv.reinit(net, (x[:1],))
        logs["corrected"].append(float(spread(net, x).mean().log()))
    mean = {k: torch.tensor(v).mean().item() for k, v in logs.items()}
    error = math.sqrt(sum(torch.tensor(logs[k]).var().item() for k in ("2-D", "corrected")) / 6)
    assert abs(mean["corrected"] - mean["2-D"]) < 4 * max(error, 0.05)
    # Ten layers, each too small by about √3; biases, which are too small once and not ten times, change it a little.
    assert mean["corrected"] - mean["direct"] == pytest.approx(10 * math.log(ROOT3), rel=0.1)


def test_a_network_trains_as_its_2d_twin():
    net = nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 8, 3, padding=1)).double()
    flatconv.reinit(net, (clip().double(),))
    flat = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).double()
    with torch.no_grad():
        for a, b in ((0, 0), (2, 2)):
            flat[a].weight.copy_(net[b].weight[:, :, 1])
            flat[a].bias.copy_(net[b].bias)
    x = sample(4, 4, 1, 6, 7)
    losses = []
    for model, given in ((net, x), (flat, x[:, :, 0])):
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        losses.append([])
        for _ in range(5):
            optimizer.zero_grad()
            loss = model(given).square().mean()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


# --- the report


def test_the_report():
    net = nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.Conv3d(8, 8, (1, 3, 3), padding=(0, 1, 1)))
    found = flatconv.reinit(net, (clip(),))
    assert [s.done for s in found.sites] == ["scaled", "right"]
    text = str(found)
    assert text == render_reinit(found)
    assert "0 (conv3d): multiplied by 1.732, bias too: 1 in 3 of its taps meet data" in text
    assert "1 (conv3d): right as it is" in text
    assert json.loads(json.dumps(found.to_dict()))["sites"][0]["done"] == "scaled"


def test_names_are_escaped():
    site = flatconv.reinit(nn.Conv3d(4, 8, 3, padding=1), (clip(),)).sites[0]
    hostile = Reinit("Model\x1b[2J", "forward", (dataclasses.replace(site, name="a\x1b[31m\nb"),))
    lines = str(hostile).splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_an_example_network():
    found = flatconv.reinit(r3d18(), (clip(1, 3, 1, 64, 64),))
    assert len(found.of("scaled")) == 17
    assert all(s.factor == pytest.approx(ROOT3) for s in found.of("scaled"))
