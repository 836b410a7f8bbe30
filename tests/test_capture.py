"""What can be captured, and what is refused in words that help."""

import warnings
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatconv
from flatconv.capture import capture
from flatconv.exporting import same_graph
from tests.expected import Net, agree, filled, operators, sample

pytestmark = pytest.mark.filterwarnings("ignore")


def conv(inputs=2):
    return nn.Conv3d(inputs, 2, 3, padding=1)


def clip(*shape):
    return sample(*(shape or (1, 2, 1, 5, 6)))


def refusal(model, *args, kind=flatconv.RefusedError, **options):
    with pytest.raises(kind) as caught:
        flatconv.fold(model, args or (clip(),), **options)
    return str(caught.value)


def single(forward, **parts):
    return filled(Net(forward, conv=conv(), **parts))


# --- refused models


def test_torchscript():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(filled(conv()), clip())
    assert refusal(script) == (
        f"{type(script).__name__} is a TorchScript module, whose code torch.export cannot read: "
        "build the model from its Python source and load the weights into it"
    )


def test_not_a_module():
    assert refusal(lambda x: x, kind=flatconv.InputError) == "a torch.nn.Module is needed, not function"


def test_no_such_method():
    class Codec(nn.Module):
        def encode(self, x):
            return x

    said = refusal(Codec(), kind=flatconv.InputError, method="decode")
    assert said.startswith("Codec has no method 'decode'; it has ")
    assert "encode" in said


def test_batch_norm_in_train_mode():
    net = nn.Sequential(conv(), nn.BatchNorm3d(2)).double()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    said = refusal(net)
    assert "a call changes 1.running_mean" in said or "a call changes 1.num_batches_tracked" in said
    assert "call model.eval() first" in said
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.training


def test_batch_norm_without_running_statistics():
    net = nn.Sequential(conv(), nn.BatchNorm3d(2, track_running_stats=False)).double()
    x = clip()
    with torch.no_grad():
        agree(flatconv.fold(net, (x,), dynamic=False)(x), net(x))


@pytest.mark.parametrize("dropout", [nn.Dropout(1.0), nn.RReLU()])
def test_draws_that_are_no_mask(dropout):
    """A mask may be drawn (see test_training); of one that leaves nothing, torch draws numbers in one of its two forms."""
    said = refusal(nn.Sequential(conv(), dropout).double())
    assert "draws random numbers" in said
    assert said.startswith("1 draws")
    assert "call model.eval() first, or pass the noise in as an input" in said


def test_random_numbers():
    said = refusal(single(lambda self, x: self.conv(x) + torch.randn_like(x)))
    assert "draws random numbers" in said


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: self.conv(x)[x.mean((1, 2, 3, 4)) > 0],
        lambda self, x: self.conv(x) if x.sum() > 0 else -self.conv(x),
        lambda self, x: self.conv(x) * float(x.mean()),
        lambda self, x: torch.nonzero(self.conv(x)),
    ],
    ids=["a mask", "a branch", "a number read back", "nonzero"],
)
def test_shapes_and_branches_that_depend_on_data(forward):
    try:
        flat = flatconv.fold(single(forward), (clip(),))
    except flatconv.RefusedError as e:
        assert "Net.forward cannot be captured by torch.export" in str(e)  # noqa: PT017
        assert "fold the submodule that holds the convolutions instead" in str(e)  # noqa: PT017
    else:
        x = clip()
        with torch.no_grad():
            agree(flat(x), single(forward)(x))


def test_control_flow():
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda v: v * 2, lambda v: v - 1, (self.conv(x),))

    said = refusal(single(forward))
    assert "cond" in said
    assert "fold a submodule" in said or "fold the submodule" in said


def test_quantised_weights():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.ao.nn.quantized.Linear(6, 3)
    net = nn.Sequential(nn.Identity(), module)
    assert "'1' is a quantised Linear: fold the model before quantising it" in refusal(net)


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.zeros(1, 2, 1, 5, 6, dtype=torch.complex64), "complex"),
        (torch.zeros(5, 6).to_sparse(), "torch.sparse_coo"),
        (torch.quantize_per_tensor(torch.zeros(5, 6), 0.1, 0, torch.quint8), "quantised"),
    ],
    ids=["complex", "sparse", "quantised"],
)
def test_inputs_that_are_not_dense_and_real(tensor, kind):
    said = refusal(conv(), tensor)
    assert said == f"input 'input' is {kind}; only dense real tensors can be folded: convert it first"


def test_parameters_that_are_not_dense_and_real():
    net = conv()
    net.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    assert refusal(net) == "'phase' is complex; only dense real tensors can be folded: convert it first"
    net = conv()
    net.register_buffer("mask", torch.zeros(2, 2).to_sparse())
    assert refusal(net) == "'mask' is torch.sparse_coo; only dense real tensors can be folded: convert it first"


def test_lazy_parameters():
    net = nn.Sequential(nn.LazyConv3d(2, 3))
    assert refusal(net) == "'0.weight' is lazy and has no shape yet: call the model once before folding"


@pytest.mark.parametrize("dynamic", ["auto", False])
def test_an_example_that_the_model_refuses(dynamic):
    said = refusal(filled(conv()), clip(1, 3, 1, 5, 6), kind=flatconv.InputError, dynamic=dynamic)
    assert said.startswith(
        "the model itself fails on the example call (input (1, 3, 1, 5, 6) torch.float64): RuntimeError:"
    )
    assert said.endswith("Pass an example that the model accepts")


def test_an_example_of_another_type():
    said = refusal(filled(conv()), clip().float(), kind=flatconv.InputError)
    assert "the model itself fails on the example call (input (1, 2, 1, 5, 6) torch.float32)" in said


def test_too_many_arguments():
    said = refusal(filled(conv()), clip(), clip(), kind=flatconv.InputError)
    assert "the arguments do not fit the model's signature (input" in said


def test_a_cache_kept_from_call_to_call():
    class Cached(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv()
            self.register_buffer("last", torch.zeros(1, 2, 1, 5, 6))

        def forward(self, x):
            y = self.conv(x) + self.last
            self.last.copy_(x)
            return y

    net = filled(Cached())
    said = refusal(net)
    assert "a call changes last in place" in said
    assert not net.last.any(), "the refused fold has run the model and left its mark"


def test_an_input_that_is_written():
    said = refusal(single(lambda self, x: self.conv(x.add_(1))))
    assert "in place" in said
    assert "'x'" in said or " x " in said


def test_a_model_that_returns_no_tensor():
    assert "returns no tensor" in refusal(single(lambda self, x: 3))


# --- what is captured


def test_in_place_operators():
    def forward(self, x):
        y = self.conv(x)
        y[:, :, 0] *= 2
        y.relu_()
        z = y[:, :1]
        z.add_(1)
        return self.last(y)

    x = clip()
    net = single(forward, last=conv())
    with torch.no_grad():
        flat = flatconv.fold(net, (x,), dynamic=False)
        agree(flat(x), net(x))


def test_a_slice_that_is_filled_is_not_zero():
    def forward(self, x):
        padded = torch.zeros(1, 2, 3, 5, 6, dtype=x.dtype)
        padded[:, :, 1:2] = x
        padded[:, :, :1] = x * 2
        return self.conv(padded)[:, :, 1:2]

    x = clip()
    net = single(forward)
    flat = flatconv.fold(net, (x,), dynamic=False)
    with torch.no_grad():
        agree(flat(x), net(x))


def test_train_mode_without_anything_that_minds():
    net = nn.Sequential(conv(), nn.SiLU()).double().train()
    flat = flatconv.fold(net, (clip(),), dynamic=False)
    assert net.training
    assert flat.training


def test_checkpointing_and_no_grad_inside():
    def forward(self, x):
        with torch.no_grad():
            shift = x.mean((2, 3, 4), keepdim=True)
        return self.conv(x) + shift

    x = clip()
    net = single(forward)
    try:
        flat = flatconv.fold(net, (x,), dynamic=False)
    except flatconv.RefusedError as e:
        assert "fold a submodule without it" in str(e)  # noqa: PT017
    else:
        with torch.no_grad():
            agree(flat(x), net(x))


def test_the_example_is_not_written_and_random_numbers_go_on_as_before():
    x, net = clip(), filled(conv())
    kept, state = x.clone(), torch.get_rng_state()
    flatconv.fold(net, (x,))
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_may_be_off_or_on():
    net = filled(conv())
    with torch.inference_mode():
        flat = flatconv.fold(net, (clip(),), dynamic=False)
    x = clip().requires_grad_()
    flat(x).sum().backward()
    assert x.grad is not None


def test_modules_in_lists_keep_their_paths():
    net = filled(nn.ModuleDict({"blocks": nn.ModuleList([conv(), conv()])}))
    net.forward = lambda x: net["blocks"][1](net["blocks"][0](x))
    x = clip()
    report = flatconv.fold(net, (x,), dynamic=False).report
    assert [s.name for s in report.sites] == ["blocks.0", "blocks.1"]


def test_notes_say_what_did_not_stay_free():
    def forward(self, x):
        n, c, d, h, w = x.shape
        return self.conv(x).reshape(n, c * d * h, w) @ self.weight

    net = single(forward, weight=nn.Parameter(torch.empty(6, 3)))
    captured = capture(net, (clip(),))
    assert captured.guards.inputs[0].shape[4] == 6
    flat = flatconv.fold(net, (clip(),))
    assert "x.shape[4]" not in flat.report.free
    assert captured.notes or "x.shape[3]" in flat.report.free


def test_channels_on_a_free_axis_are_fixed():
    net = single(lambda self, x: self.conv(x.permute(0, 4, 1, 2, 3)))
    x = clip(1, 1, 4, 5, 2)
    flat = flatconv.fold(net, (x,))
    with torch.no_grad():
        agree(flat(x), net(x))
    with pytest.raises(flatconv.GuardError):
        flat(clip(1, 1, 4, 5, 3))


def test_a_resize_whose_factor_is_worked_out_again():
    def forward(self, x):
        y = F.interpolate(x[:, :, 0], scale_factor=1.5, mode="bilinear", recompute_scale_factor=True)
        return self.conv(y[:, :, None]) + torch.diff(x, dim=1).mean()

    net = single(forward)
    x = clip()
    flat = flatconv.fold(net, (x,))
    with torch.no_grad():
        agree(flat(x), net(x))


def test_captured_no_more_often_than_needed():
    # A batch of one is captured beside the batch of two; with all sizes fixed there is one capture.
    for dynamic, count in (("auto", 2), (False, 1)):
        with mock.patch("torch.export.export", wraps=torch.export.export) as export:
            flatconv.fold(filled(conv()), (clip(2, 2, 1, 5, 6),), verify=False, dynamic=dynamic)
        assert export.call_count == count


def test_weights_go_by_the_models_names():
    net = filled(nn.Sequential(conv(), nn.BatchNorm3d(2), conv()))
    captured = capture(net, (clip(),), dynamic=False)
    named = {captured.program.names[n]: t for n, t in captured.program.weights.items()}
    assert set(named) <= set(net.state_dict())
    assert named["0.weight"] is net[0].weight
    assert named["1.running_var"] is net[1].running_var


def test_same_graph():
    def program(function, *shape, dims=None):
        class Call(nn.Module):
            def forward(self, *tensors):
                return function(*tensors)

        free = None if dims is None else {"tensors": (dict.fromkeys(dims, torch.export.Dim.AUTO),)}
        return torch.export.export(Call(), (torch.zeros(shape),), dynamic_shapes=free, strict=False).graph

    example = [torch.zeros(1, 3, 4)]
    free = program(lambda x: x.relu().reshape(-1, 4), 2, 3, 4, dims=(0,))
    assert same_graph(free, program(lambda x: x.relu().reshape(-1, 4), 1, 3, 4), example)
    assert not same_graph(free, program(lambda x: x.tanh().reshape(-1, 4), 1, 3, 4), example)
    assert not same_graph(free, program(lambda x: x.relu().reshape(-1, 2), 1, 3, 4), example)
    # The same call, but an axis of size 1 goes where one of size 2 stays.
    free = program(lambda x: x.squeeze(), 2, 3, 4, dims=(0,))
    assert not same_graph(free, program(lambda x: x.squeeze(), 1, 3, 4), example)


def test_operators_behind_in_place_ones_are_still_known():
    net = filled(
        nn.Sequential(conv(), nn.BatchNorm3d(2), nn.ReLU(inplace=True), nn.GroupNorm(1, 2), conv(), nn.Hardswish(True))
    )
    flat = flatconv.fold(net, (clip(),), dynamic=False)
    assert not flat.report.audit.unknown
    assert operators(flat)[0] == "squeeze"
    assert operators(flat)[-1] == "unsqueeze"
    assert {"squeeze", "unsqueeze"}.isdisjoint(operators(flat)[1:-1])


def test_one_tensor_passed_twice_is_two_inputs():
    model = filled(Net(lambda s, x, y: s.conv(x) - y, conv=nn.Conv3d(2, 2, 3, padding=1)))
    x, y = sample(2, 2, 1, 5, 6), sample(2, 2, 1, 5, 6, seed=1)
    flat = flatconv.fold(model, (x, x))
    agree(flat(x, y), model(x, y))
    agree(flat(x, x), model(x, x))
