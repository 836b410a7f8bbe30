"""TIFF: pages of any type."""

import numpy as np
import pytest
import tifffile

from flatconv.errors import InputError
from flatconv.stack import stack


@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_values_are_kept(tmp_path, kind, compression):
    pages = (np.arange(3 * 4 * 5).reshape(3, 4, 5) * 4).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", pages, compression=compression, photometric="minisblack")
    s = stack(tmp_path / "a.tif", "bracket")
    assert s.shape == (1, 1, 3, 4, 5)
    assert np.array_equal(s[0].data[0, 0].numpy(), pages.astype(np.float32))
    assert s.source.label(2) == "page 2"


def test_samples(tmp_path):
    pages = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb")
    tifffile.imwrite(tmp_path / "b.tif", pages.transpose(0, 3, 1, 2), photometric="rgb", planarconfig="separate")
    for name in ("a.tif", "b.tif"):
        found = stack(tmp_path / name, "bands")
        assert found.shape == (1, 1, 3, 4, 5)
        assert np.array_equal(found[1].data[0, 0].numpy(), pages[1].transpose(2, 0, 1))
    assert stack(tmp_path / "a.tif", "single", scale="unit")[0].data.max() <= 1


def test_pages_as_bands(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 4, 5), np.uint16), photometric="minisblack")
    assert stack(tmp_path / "a.tif", "bands:3").shape == (1, 1, 3, 4, 5)
    assert len(stack(tmp_path / "a.tif", "bands:3")) == 2


def pages(*arrays):
    def make(path):
        with tifffile.TiffWriter(path) as tiff:
            for a in arrays:
                tiff.write(a, photometric="rgb" if a.ndim == 3 else "minisblack")

    return make


def cut(path):
    tifffile.imwrite(path, np.zeros((3, 40, 50), np.uint16), photometric="minisblack")
    path.write_bytes(path.read_bytes()[:-4500])


WRONG = {
    "wrong magic": (lambda p: p.write_bytes(b"GARBAGE" * 99), "a.tif' cannot be read as TIFF"),
    "empty": (lambda p: p.write_bytes(b""), "a.tif' cannot be read as TIFF"),
    "cut off": (cut, "a.tif' is damaged: .*invalid page offset"),
    "mixed sizes": (
        pages(np.zeros((4, 5), "u1"), np.zeros((6, 5), "u1")),
        "page 0 of .*a.tif' has 4×5 pixels and 'page 1 of .* 6×5",
    ),
    "mixed types": (
        pages(np.zeros((4, 5), "u1"), np.zeros((4, 5), "f4")),
        r"different kinds \(1 samples, float32, uint8\)",
    ),
    "mixed samples": (
        pages(np.zeros((4, 5), "u1"), np.zeros((4, 5, 3), "u1")),
        r"different kinds \(1 samples, 3 samples",
    ),
    "complex": (pages(np.zeros((4, 5), "c8")), "values of type complex64"),
    "not there": (lambda p: None, "there is no file"),
}


@pytest.mark.parametrize(("make", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_files(tmp_path, make, words):
    make(tmp_path / "a.tif")
    with pytest.raises(InputError, match=words):
        list(stack(tmp_path / "a.tif", "single"))


def test_mixed_sizes_by_policy(tmp_path):
    pages(np.zeros((4, 5), "u1"), np.ones((6, 5), "u1"))(tmp_path / "a.tif")
    assert stack(tmp_path / "a.tif", "bracket", sizes="crop").shape == (1, 1, 2, 4, 5)
