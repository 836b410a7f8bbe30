"""NIfTI: slices as they are stored."""

import nibabel
import numpy as np
import pytest

from flatconv.errors import InputError
from flatconv.stack import stack

VOLUME = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def save(path, array, affine=None, slope=None):
    image = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_slices(tmp_path, name):
    save(tmp_path / name, VOLUME)
    s = stack(tmp_path / name, "slices:3")
    assert s.shape == (1, 1, 3, 5, 4)
    for w in s:
        assert np.array_equal(w.data[0, 0, 1].numpy(), VOLUME[:, :, w.index].T)
    assert np.array_equal(s[2].data[0, 0, 1].numpy(), VOLUME[:, :, 2].T)  # back again, also in a compressed file


def test_scaled_and_not_turned(tmp_path):
    save(tmp_path / "a.nii", VOLUME.astype(np.float32), np.diag([-1.0, 1, 1, 1]))
    s = stack(tmp_path / "a.nii", "single")
    assert s[0].data[0, 0, 0, 0, 1] == VOLUME[1, 0, 0]
    assert s.notes == ("the axes i, j, k run to L A S; they are kept as stored (width, height, depth)",)
    image = nibabel.Nifti1Image(VOLUME.astype(np.float64) * 0.5 + 7, np.eye(4))
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "b.nii")
    assert abs(stack(tmp_path / "b.nii", "single")[3].data[0, 0, 0, 2, 1] - (VOLUME[1, 2, 3] * 0.5 + 7)) < 0.01


def test_several_volumes(tmp_path):
    save(tmp_path / "a.nii", np.stack([VOLUME, VOLUME * 2], axis=3))
    with pytest.raises(InputError, match=r"holds 2 volumes: say which, from 0, by volume= \(--volume\)"):
        stack(tmp_path / "a.nii", "single")
    assert stack(tmp_path / "a.nii", "single", volume=1)[1].data[0, 0, 0, 2, 3] == VOLUME[3, 2, 1] * 2
    with pytest.raises(InputError, match="has no volume 2"):
        stack(tmp_path / "a.nii", "single", volume=2)


def cut(path):
    save(path, VOLUME)
    path.write_bytes(path.read_bytes()[:400])


def huge(path):
    save(path, VOLUME)
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    path.write_bytes(data)


WRONG = {
    "wrong magic": ("a.nii", lambda p: p.write_bytes(b"GARBAGE" * 99), "a.nii' cannot be read as NIfTI"),
    "empty": ("a.nii", lambda p: p.write_bytes(b""), "a.nii' cannot be read as NIfTI"),
    "no gzip": ("a.nii.gz", lambda p: p.write_bytes(b"GARBAGE" * 99), "a.nii.gz' cannot be read as NIfTI"),
    "cut off": ("a.nii", cut, "a.nii' is truncated: its header asks for 592 bytes, and it has 400"),
    "huge": ("a.nii", huge, "30,000×30,000; at most"),
    "complex": ("a.nii", lambda p: save(p, VOLUME.astype(np.complex64)), "values of type complex64"),
    "flat": ("a.nii", lambda p: save(p, VOLUME[:, :, 0]), r"has the shape \(4, 5\), and three axes are needed"),
    "not there": ("a.nii", lambda p: None, "there is no file"),
}


@pytest.mark.parametrize(("name", "make", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_files(tmp_path, name, make, words):
    make(tmp_path / name)
    with pytest.raises(InputError, match=words):
        list(stack(tmp_path / name, "single"))


def test_a_compressed_file_that_is_cut_off(tmp_path):
    save(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 999, (40, 50, 6), dtype=np.int16))
    (tmp_path / "b.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes()[:-6000])
    s = stack(tmp_path / "b.nii.gz", "single")
    with pytest.raises(InputError, match=r"b.nii.gz' cannot be read as NIfTI .slice [1-5]."):
        list(s)
