"""The folded model when it is called: modes, devices, types, names, and weights that change."""

import copy
import gc
import linecache

import pytest
import torch
from torch import nn

import flatconv
from tests.expected import agree, filled, sample

X = sample(2, 2, 1, 5, 6)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 3, 3, padding=1)
        self.norm = nn.BatchNorm3d(3)

    def forward(self, x):
        return self.norm(self.conv(x))


class Branching(nn.Module):
    """Code of the user's own that looks at the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x) if self.training else self.conv(x) * 2


class Zeros(nn.Module):
    """A graph that makes a tensor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 3, (3, 1, 1))

    def forward(self, x):
        front = torch.zeros(*x.shape[:2], 2, *x.shape[3:], device=x.device, dtype=x.dtype)
        return self.conv(torch.cat([front, x], 2)), torch.ones(2, device=x.device)


# --- modes


def test_the_other_mode_is_refused_where_the_code_looks_at_it():
    flat = flatconv.fold(filled(Normed()), (X,))
    flat.train()
    with pytest.raises(
        flatconv.GuardError, match=r"folded in eval mode and is called in train mode, in which 'norm'.*call .eval"
    ):
        flat(X)
    flat.eval()
    assert flat(X).shape == (2, 3, 1, 5, 6)


def test_a_module_that_looks_itself_is_named():
    flat = flatconv.fold(filled(Branching()), (X,)).train()
    with pytest.raises(flatconv.GuardError, match="the model itself"):
        flat(X)


def test_a_branch_folded_in_train_mode_is_the_train_branch():
    model = filled(Branching()).train()
    flat = flatconv.fold(model, (X,))
    agree(flat(X), model(X))
    with pytest.raises(flatconv.GuardError, match="folded in train mode and is called in eval mode"):
        flat.eval()(X)


def test_the_mode_is_free_where_nothing_looks_at_it():
    model = filled(nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.ReLU()))
    flat = flatconv.fold(model, (X,))
    agree(flat.train()(X), model.train()(X))
    agree(flat.eval()(X), model.eval()(X))


def test_a_part_frozen_in_eval_mode_stays_so():
    model = filled(Normed()).train()
    model.norm.eval()
    flat = flatconv.fold(model, (X,))
    agree(flat(X), model(X))
    # .eval() would change nothing that was read; .train() on the original would.
    agree(flat.eval()(X), model(X))


def test_torch_is_left_as_it_was():
    assert "training" not in nn.Module.__dict__
    flatconv.fold(filled(Normed()), (X,))
    assert "training" not in nn.Module.__dict__
    with pytest.raises(flatconv.FlatconvError):
        flatconv.fold(filled(Normed()), (sample(2, 7, 1, 5, 6),))
    assert "training" not in nn.Module.__dict__


# --- devices and types


def test_an_input_on_another_device_is_refused():
    flat = flatconv.fold(filled(Normed()), (X,))
    with pytest.raises(flatconv.GuardError, match="'x' is on meta, and the folded model takes it on cpu"):
        flat(X.to("meta"))


@pytest.mark.parametrize("weights", ["folded", "shared"])
def test_it_moves_with_the_tensors_that_its_graph_makes(weights):
    flat = flatconv.fold(filled(Zeros()), (X,), weights=weights).to("meta")
    made, ones = flat(X.to("meta"))
    assert (made.shape, made.device.type, ones.device.type) == ((2, 3, 1, 5, 6), "meta", "meta")
    with pytest.raises(flatconv.GuardError, match="'x' is on cpu, and the folded model takes it on meta"):
        flat(X)


def test_moving_one_leaves_its_copy():
    flat = flatconv.fold(filled(Zeros()), (X,))
    other = copy.deepcopy(flat).to("meta")
    assert other(X.to("meta"))[0].device.type == "meta"
    assert flat(X)[0].device.type == "cpu"


def test_shared_weights_that_the_original_moves():
    model = filled(nn.Conv3d(2, 3, 3, padding=1))
    flat = flatconv.fold(model, (X,), weights="shared")
    model.to("meta")
    assert flat(X.to("meta")).device.type == "meta"
    with pytest.raises(flatconv.GuardError, match="takes it on meta"):
        flat(X)


def test_a_part_that_was_moved_alone():
    flat = flatconv.fold(filled(nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.Conv3d(3, 2, 1))), (X,))
    flat.get_submodule("0").to("meta")
    flat.double()
    with pytest.raises(flatconv.GuardError, match=r"several devices: '0\.weight' on meta, '1\.weight' on cpu"):
        flat(X)


@pytest.mark.parametrize("convert", [lambda f: f.half(), lambda f: f.get_submodule("conv").half()])
def test_converted_weights_are_refused(convert):
    flat = flatconv.fold(filled(Normed()), (X,))
    convert(flat)
    with pytest.raises(flatconv.GuardError, match=r"'conv.weight' is torch.float16 and was torch.float64.*fold again"):
        flat(X)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (sample(2, 2, 3, 5, 6), r"axis 2 must be 1, not 3: fold again"),
        (sample(2, 2, 5, 6), r"has 4 axes.*folded for 5"),
        (X.float(), r"torch.float32.*folded for torch.float64"),
        (X.to_sparse(), r"torch.sparse_coo.*dense"),
        (sample(2, 4, 1, 5, 6), r"axis 1 must be 2, not 4"),
        ([X], "called with"),
    ],
)
def test_calls_it_was_not_folded_for(given, words):
    flat = flatconv.fold(filled(Normed()), (X,))
    with pytest.raises(flatconv.GuardError, match=words):
        flat(given)


def test_under_autocast_it_computes_as_the_original():
    model = filled(nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv3d(3, 2, 1)), dtype=torch.float32)
    flat = flatconv.fold(model, (X.float(),))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted, given = model(X.float()), flat(X.float())
    assert given.dtype == wanted.dtype == torch.bfloat16
    assert (given - wanted).abs().max() <= 0.02 * wanted.abs().max()


# --- weights that change


def test_shared_follows_the_original_and_folded_does_not():
    model = filled(Normed())
    shared, folded = flatconv.fold(model, (X,), weights="shared"), flatconv.fold(model, (X,), weights="folded")
    before = model(X)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
        model.norm.running_mean.add_(1.0)
    after = model(X)
    assert not torch.allclose(before, after)
    agree(shared(X), after)
    agree(folded(X), before)
    assert "do not reach them" in flatconv.Folded.__doc__


def test_shared_follows_replaced_parameters_and_buffers():
    model = filled(Normed())
    flat = flatconv.fold(model, (X,), weights="shared")
    model.conv.weight = nn.Parameter(model.conv.weight.detach() * 3)
    model.norm.running_var = model.norm.running_var * 2
    agree(flat(X), model(X))
    model.load_state_dict({k: v * 2 for k, v in model.state_dict().items()}, assign=True)
    agree(flat(X), model(X))
    assert flat.state_dict().keys() == model.state_dict().keys()
    assert dict(flat.named_parameters())["conv.weight"] is model.conv.weight


def test_literals_are_no_part_of_a_shared_state():
    class Literal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(x) * torch.tensor([2.0, 3.0, 4.0], dtype=x.dtype).reshape(3, 1, 1, 1)

    model = filled(Literal())
    flat = flatconv.fold(model, (X,), weights="shared")
    agree(flat(X), model(X))
    agree(copy.deepcopy(flat)(X), model(X))
    assert flat.state_dict().keys() == model.state_dict().keys()
    assert list(model._modules) == ["conv"]


# --- names


NAMES = [
    "class",
    "None",
    "a b",
    "it's",
    "ａ",
    "graph",
    "guards",
    "report",
    "_run",
    "save",
    "_compile",
    "code",
    "self",
    "1",
    "[red]",
]


class Named(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._modules[name] = nn.Conv3d(2, 3, 3, padding=1)

    def forward(self, x):
        return self._modules[self.name](x)


@pytest.mark.parametrize("name", NAMES)
def test_any_printable_name_is_a_name(name):
    model = filled(Named(name))
    flat = flatconv.fold(model, (X,))
    agree(flat(X), model(X))
    agree(copy.deepcopy(flat)(X), model(X))
    assert flat.state_dict().keys() == model.state_dict().keys()
    assert flat.report.sites[0].name == name


@pytest.mark.parametrize(
    "name", ['x", 0) if open("canary", "w") else getattr(self, "z', "a\\", "two\nlines", "\ud800", "\x1b[31m", "\u202e"]
)
def test_names_that_would_be_code_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = filled(Named(name))
    model.z = nn.Conv3d(3, 2, 1)
    with pytest.raises(flatconv.RefusedError, match="rename it"):
        flatconv.fold(model, (X,))
    with pytest.raises(flatconv.RefusedError, match="rename it"):
        flatconv.audit(model, (X,))
    assert not list(tmp_path.iterdir())


def test_source_lines_are_forgotten_with_the_model():
    flat = flatconv.fold(filled(Normed()), (X,), verify=False)
    name = f"<flatconv {id(flat):x}>"
    assert linecache.getline(name, 4)
    del flat
    gc.collect()
    assert name not in linecache.cache
