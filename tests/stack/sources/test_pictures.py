"""Picture files: what each mode becomes, and what is refused."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from flatconv.errors import InputError
from flatconv.stack import stack
from flatconv.stack.sources.pictures import read_picture
from tests.stack.making import picture, pictures


def test_pixels_come_as_they_are(tmp_path):
    known = pictures(tmp_path / "p", 3)
    s = stack(tmp_path / "p", "bracket", scale="stored")
    assert np.array_equal(s[0].data[0].permute(1, 2, 3, 0).numpy(), np.stack(known))
    assert s.source.label(1) == "img2.png"


def test_modes(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    for mode in ("L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr"):
        if mode == "YCbCr":
            continue
        name = tmp_path / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}"
        Image.fromarray(grey).convert(mode).save(name)
        found = read_picture(name)
        assert found.shape == (3, 3, 4)
        assert found.dtype == torch.uint8
        if mode in ("L", "LA", "RGBA"):
            assert np.array_equal(found[1].numpy(), grey)


def test_sixteen_bits_are_kept(tmp_path):
    deep = (np.arange(12, dtype=np.uint16) * 5000).reshape(3, 4)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(read_picture(tmp_path / "deep.png")[2].numpy(), deep)
    unit = stack(tmp_path, "single", scale="unit")[0].data
    assert torch.allclose(unit[0, 0, 0], torch.from_numpy(deep.astype(np.float32)) / 65535)
    picture(tmp_path / "flat.png", 0, (3, 4))
    with pytest.raises(InputError, match=r"flat.png' has 8 bits and '.*deep.png' 16"):
        stack(tmp_path, "single")


def test_pictures_are_turned_as_the_camera_says(tmp_path):
    image = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    assert stack(tmp_path, "single").shape == (1, 3, 1, 3, 2)
    assert np.array_equal(
        read_picture(tmp_path / "turned.png").permute(1, 2, 0).numpy(), np.rot90(np.asarray(image), -1)
    )


def test_a_changed_file_is_noticed(tmp_path):
    pictures(tmp_path, 2)
    s = stack(tmp_path, "single")
    picture(tmp_path / "img2.png", 9, (5, 5))
    with pytest.raises(InputError, match=r"is \(3, 5, 5\), and \(3, 12, 16\) was announced"):
        list(s)


def bomb(path):
    head = struct.pack(">IIBBBBB", 12000, 12000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def animated(path):
    frames = [Image.new("L", (4, 4), i * 50) for i in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def cut(path):
    picture(path, 0, (200, 200))
    path.write_bytes(path.read_bytes()[:3000])


WRONG = {
    "cut off": ("a.png", cut, "a.png' cannot be read as a picture"),
    "wrong magic": ("a.png", lambda p: p.write_bytes(b"GARBAGE" * 9), "a.png' cannot be read as a picture"),
    "empty": ("a.png", lambda p: p.write_bytes(b""), "a.png' cannot be read as a picture"),
    "huge": ("a.png", bomb, "a picture of 12,000×12,000; at most 67,108,864 pixels"),
    "animated": ("a.webp", animated, "a.webp' holds 3 pictures, and one is needed"),
    "floats": (
        "a.tif",
        lambda p: Image.new("F", (4, 4)).save(p),
        "pixels of 32 bits .mode F., whose range is not known",
    ),
}


@pytest.mark.parametrize(("name", "make", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_files(tmp_path, name, make, words):
    make(tmp_path / name)
    with pytest.raises(InputError, match=words):
        list(stack(tmp_path, "single"))
