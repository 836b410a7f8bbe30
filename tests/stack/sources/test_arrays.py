"""Arrays in memory and in files."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from flatconv.errors import InputError
from flatconv.stack import stack


@pytest.mark.parametrize(
    "kind", [np.uint8, np.uint16, np.int32, np.int64, np.float16, np.float32, np.float64, np.bool_, ">f4"]
)
def test_types_of_numpy(kind):
    x = np.arange(24).reshape(2, 3, 4).astype(kind)
    assert np.array_equal(stack(x, "single", layout="DHW")[1].data[0, 0, 0].numpy(), x[1].astype(np.float32))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.bool])
def test_types_of_torch(kind):
    x = torch.arange(24).view(2, 3, 4).to(kind)
    assert torch.equal(stack(x, "single", layout="DHW")[1].data[0, 0, 0], x[1].float())


@pytest.mark.parametrize("layout", ["DHW", "CDHW", "THWC", "NCDHW", "NDHWC", "HWC", "HW"])
def test_layouts(layout):
    sizes = {"N": 1, "C": 2, "D": 3, "T": 3, "H": 4, "W": 5}
    s = stack(torch.randn([sizes[a] for a in layout]), "single", layout=layout)
    assert s.shape == (1, 2 if "C" in layout else 1, 1, 4, 5)
    assert s.frames == (3 if set("DT") & set(layout) else 1)


def test_scale_of_whole_numbers():
    x = np.array([[[0, 65535]]], dtype=np.uint16)
    assert stack(x, "single", layout="DHW", scale="signed")[0].data.flatten().tolist() == [-1, 1]


def test_files(tmp_path):
    x = np.random.default_rng(0).random((5, 3, 4), dtype=np.float32)
    np.save(tmp_path / "a.npy", x)
    save_file({"x": torch.from_numpy(x)}, tmp_path / "a.safetensors")
    for name in ("a.npy", "a.safetensors"):
        s = stack(tmp_path / name, "slices:3", layout="DHW")
        assert np.array_equal(s.restore(w.data for w in s)[0, 0].numpy(), x)


def test_a_requirement_of_gradients_is_not_kept():
    x = torch.randn(2, 3, 4, requires_grad=True)
    assert not stack(x, "single", layout="DHW")[0].data.requires_grad


def pickled(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def two(path):
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, path)


WRONG = {
    "a pickle": ("a.npy", pickled, "a.npy' cannot be read as an array: Array can't be memory-mapped: Python objects|pickle"),
    "wrong magic": ("a.npy", lambda p: p.write_bytes(b"GARBAGE" * 9), "a.npy' cannot be read as an array"),
    "an archive": ("a.npy", lambda p: np.savez(p.open("wb"), np.zeros(3)), "a.npy' is an archive of arrays: save one as .npy"),
    "several tensors": ("a.safetensors", two, r"holds 2 tensors \(a, b\), and one is stacked"),
    "a damaged file": ("a.safetensors", lambda p: p.write_bytes(b"\1"), "is no .safetensors file"),
    "text": ("a.npy", lambda p: np.save(p, np.array([[["a"]]])), "values of type <U1 are no real numbers"),
    "complex": ("a.npy", lambda p: np.save(p, np.zeros((1, 2, 2), "c8")), "values of type complex64"),
    "nothing in it": ("a.npy", lambda p: np.save(p, np.zeros((0, 2, 2))), "has no frames"),
    "no pixels": ("a.npy", lambda p: np.save(p, np.zeros((2, 0, 2))), "has no pixels"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "make", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_files(tmp_path, name, make, words):
    make(tmp_path / name)
    with pytest.raises(InputError, match=words):
        stack(tmp_path / name, "single", layout="DHW")


def test_complex_tensors():
    with pytest.raises(InputError, match="complex64, and real numbers are needed"):
        stack(torch.zeros(1, 2, 2, dtype=torch.complex64), "single", layout="DHW")
