"""Files appear whole or not at all, and are never lost."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

import flatconv
import flatconv.examples
from flatconv import files, forms
from flatconv.errors import InputError


@pytest.fixture(scope="module")
def flat():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, (1, 3, 3)))
    return flatconv.fold(net, (torch.randn(1, 3, 1, 8, 9),), verify=False)


def test_program_file_runs_like_the_fold(flat, tmp_path):
    flat.save(tmp_path / "a.pt2")
    loaded = torch.export.load(tmp_path / "a.pt2").module()
    for shape in ((1, 3, 1, 8, 9), (2, 3, 1, 12, 10)):
        x = torch.randn(shape)
        (out,) = loaded(x)
        assert torch.equal(out, flat(x))


def test_weights_file_has_the_original_names_and_lower_rank(flat, tmp_path):
    flat.save_weights(tmp_path / "a.safetensors")
    state = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        "0.weight": (4, 3, 3, 3), "0.bias": (4,), "2.weight": (2, 4, 3, 3), "2.bias": (2,),
    }  # fmt: skip
    assert all(torch.equal(v, flat.state_dict()[k]) for k, v in state.items())


def test_an_existing_file_is_kept_unless_forced(flat, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match=r"a\.safetensors.*exists already"):
        flat.save_weights(path)
    assert path.read_bytes() == b"precious"
    flat.save_weights(path, force=True)
    assert path.read_bytes() != b"precious"
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_a_failing_writer_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half(target: Path) -> None:
        target.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left on device"):
        files.write(path, half, force=True)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_appears_only_when_all_of_it_is_there(tmp_path):
    with pytest.raises(RuntimeError, match="half way"), files.folder(tmp_path / "out") as folder:
        (folder / "one").write_text("1")
        raise RuntimeError("half way")
    assert os.listdir(tmp_path) == []
    with files.folder(tmp_path / "deep" / "out") as folder:
        (folder / "one").write_text("1")
    assert (tmp_path / "deep" / "out" / "one").read_text() == "1"


def test_a_folder_with_files_in_it_is_refused_unless_forced(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("precious")
    with pytest.raises(InputError, match="not empty"), files.folder(out):
        pass
    with files.folder(out, force=True) as folder:
        (folder / "new").write_text("n")
    assert sorted(os.listdir(out)) == ["mine", "new"]
    assert (out / "mine").read_text() == "precious"


def test_wrong_targets(flat, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a folder"):
        flat.save_weights(tmp_path)
    with pytest.raises(InputError, match="is a file"), files.folder(tmp_path / "file"):
        pass
    with pytest.raises(InputError, match="cannot be written"):
        flat.save_weights(tmp_path / "none" / "a.safetensors")
    with pytest.raises(InputError, match=r"must end in \.pt2"):
        flat.save(tmp_path / "a.bin")


@pytest.mark.parametrize("last", [False, True])
def test_a_saved_program_takes_one_image_and_several(tmp_path, monkeypatch, last):
    """Attention looks at the batch while it is traced; weights in channels-last order are saved as they are."""
    if last:
        monkeypatch.setattr(forms, "fixed", lambda here: forms.take(here, "as it is", last=True))
    model = flatconv.examples.image_vae()
    flat = flatconv.fold(model, (torch.randn(1, 3, 1, 32, 32),), verify=False)
    flat.save(tmp_path / "a.pt2")
    program = torch.export.load(tmp_path / "a.pt2").module()
    for batch in (1, 2, 3):
        x = torch.randn(batch, 3, 1, 32, 40)
        with torch.no_grad():
            (found,), expected = program(x), model(x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
