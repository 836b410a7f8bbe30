"""A case: its sides are one function, on the device and in the type that was asked for."""

import pytest
import torch
from torch import nn

from flatconv.bench import Case
from flatconv.bench.sides import tensors_of
from flatconv.errors import InputError, RefusedError
from tests.bench import made


def test_sides_compute_the_same():
    case = made.case()
    assert case.names == ("original", "folded", "reference")
    with torch.no_grad():
        original, folded, reference = (case.side(name)() for name in case.names)
    torch.testing.assert_close(folded, original)
    torch.testing.assert_close(reference.unsqueeze(2), original)


def test_without_a_reference_there_are_two():
    case = Case(made.Taps().eval(), (made.image(),))
    assert case.names == ("original", "folded")
    with pytest.raises(InputError, match="--reference"):
        case.side("reference")


@pytest.mark.parametrize("name", ["original", "folded"])
def test_exporters_get_tensors(name):
    x = made.image()
    case = Case(made.Taps().eval(), (x,), {"y": x}, "pair", verify=False)
    side = case.side(name)
    module, tensors = side.flat()
    with torch.no_grad():
        found, expected = module(*tensors), side()
    assert len(tensors) == 2
    assert torch.equal(found[0], expected["sum"])
    assert torch.equal(found[1], expected["where"])
    assert [n for n, _ in case.tensors()] == ["x", "y"]


def test_types_and_devices():
    case = made.case().placed("cpu", torch.bfloat16)
    assert case.args[0].dtype == torch.bfloat16
    for name in case.names:
        side = case.side(name)
        assert {p.dtype for p in side.module.parameters()} == {torch.bfloat16}
        with torch.no_grad():
            assert side().dtype == torch.bfloat16


def test_whole_numbers_keep_their_type():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(4, 3)

        def forward(self, words):
            return self.table(words)

    case = Case(Words(), (torch.zeros(2, dtype=torch.int64),)).placed("cpu", torch.float16)
    assert case.args[0].dtype == torch.int64
    assert case.model.table.weight.dtype == torch.float16


def test_float64_is_a_copy():
    side = made.case().side("original")
    wide = side.wide()
    with torch.no_grad():
        assert wide().dtype == torch.float64
    assert side.module.first.weight.dtype == torch.float32
    assert side.args[0].dtype == torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there():
    with pytest.raises(InputError, match="no CUDA device"):
        made.case().placed("cuda")


def test_a_model_that_cannot_be_moved():
    class Stays(nn.Module):
        def to(self, *args, **kwargs):
            raise RuntimeError("not me")

    with pytest.raises(InputError, match=r"cannot be moved to cpu.*not me"):
        Case(Stays(), ()).placed("cpu")


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [({"method": "decode"}, InputError, "decode"), ({"args": ()}, InputError, "signature")],
)
def test_a_call_that_does_not_fit(more, error, words):
    given = {"model": made.Taps(), "args": (made.image(),)} | more
    with pytest.raises(error, match=words):
        Case(**given).tensors()


def test_torchscript_is_refused():
    with pytest.raises(RefusedError, match="TorchScript"):
        Case(torch.jit.script(nn.Conv3d(3, 4, 3)), (made.image(),)).tensors()


def test_tensors_of_anything_that_holds_some():
    x = torch.ones(2)
    assert tensors_of({"a": x, "b": (x, 3)}) == (x, x)
