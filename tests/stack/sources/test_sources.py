"""Finding the source that fits: order of files, hidden ones, links, and what is said where nothing fits."""

import os
import random

import numpy as np
import pytest

from flatconv.errors import InputError, MissingExtraError
from flatconv.stack import stack
from flatconv.stack.sources import natural, open_source
from flatconv.stack.sources.base import package
from tests.stack.making import picture, pictures, series, slice_, video


def test_natural_order():
    names = [
        "a.png",
        "img1.png",
        "img2.png",
        "img10.png",
        "Img11.png",
        "img011b.png",
        "img20.png",
        "img100000000000000000000.png",
    ]
    mixed = [*names]
    random.Random(0).shuffle(mixed)
    assert sorted(mixed, key=natural) == sorted(mixed, key=natural)
    found = sorted(mixed, key=natural)
    assert found.index("img2.png") < found.index("img10.png") < found.index("img20.png")
    assert sorted(["٣.png", "2.png", "²", "x"], key=natural)  # digits of other scripts are letters here


def test_a_folder(tmp_path):
    pictures(tmp_path / "p", 11)
    (tmp_path / "p" / ".hidden.png").write_bytes(b"nothing")
    (tmp_path / "p" / "notes.txt").write_text("mine")
    os.symlink(tmp_path / "p", tmp_path / "p" / "loop")
    os.symlink(tmp_path / "none.png", tmp_path / "p" / "dangling.png")
    source = open_source(tmp_path / "p")
    assert [f.name for f in source.files] == [f"img{i}.png" for i in range(1, 12)]
    assert source.notes == ["3 other entries of the folder are left out: 1 .png, 1 folder, 1 .txt"]


def test_a_list_keeps_its_order(tmp_path):
    pictures(tmp_path, 3)
    files = [tmp_path / f"img{i}.png" for i in (3, 1, 2)]
    assert open_source([str(f) for f in files]).files == files
    link = tmp_path / "link.png"
    os.symlink(files[0], link)
    assert open_source([link]).shape == (3, 12, 16)


@pytest.mark.parametrize("name", ["ünïcödé.png", "写真.png", "a b'c.png", "[bold]x.png"])
def test_names(tmp_path, name):
    picture(tmp_path / name, 0)
    assert stack(tmp_path, "single").source.label(0) == name


def test_a_name_with_escapes_is_shown_and_not_sent(tmp_path):
    (tmp_path / "\x1b[2Jx.png").write_bytes(b"nothing")
    with pytest.raises(InputError) as told:
        stack(tmp_path, "single")
    assert "\x1b" not in str(told.value)
    assert "\\x1b[2Jx.png" in str(told.value)


def fifo(folder):
    os.mkfifo(folder / "a.png")


def mixed(folder):
    pictures(folder, 2)
    series(folder, [0.0, 1.0])


def two_kinds(folder):
    slice_(folder / "a", 0.0)
    picture(folder / "b.png", 0)
    return [folder / "a", folder / "b.png"]


WRONG = {
    "not there": (lambda f: f / "none.png", "there is no file '.*none.png'"),
    "not there, no suffix": (lambda f: f / "none", "there is no file '.*none'"),
    "video not there": (lambda f: f / "none.mp4", "there is no file '.*none.mp4'"),
    "empty folder": (lambda f: None, "holds nothing to stack: it is empty"),
    "other files": (
        lambda f: (f / "a.txt").write_text("x"),
        r"it holds 1 files \(1 .txt\). Name one of the folders, or the files",
    ),
    "folders": (lambda f: (f / "train").mkdir(), r"it holds 1 folders \(train\)"),
    "hidden files": (lambda f: (f / ".a.png").write_text("x"), "it holds 1 hidden entries"),
    "a folder with a video": (lambda f: video(f / "v.mp4", 2), r"given one at a time, such as '.*v.mp4'"),
    "a link to nothing": (lambda f: os.symlink(f / "no", f / "a.png"), "links to nothing"),
    "a link to itself": (lambda f: os.symlink(f / "a.png", f / "a.png"), "links to nothing"),
    "a pipe": (fifo, "holds nothing to stack"),
    "pictures and DICOM": (mixed, "holds 2 pictures and 2 DICOM files: keep them apart"),
    "a list of two kinds": (two_kinds, "is a picture and others in .* are DICOM"),
    "an empty list": (lambda f: [], "name at least one file"),
    "a list of numbers": (lambda f: [1, 2], "holds names of files, not int"),
    "a number": (lambda f: 3, "is needed to stack, not int"),
    "a text file": (lambda f: (f / "a.txt").write_text("x") and f / "a.txt", "is of no kind that can be stacked here"),
    "a name with a zero": (lambda f: "a\0.png", "cannot be read"),
}


@pytest.mark.parametrize(("make", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_is_refused(tmp_path, make, words):
    made = make(tmp_path)
    given = tmp_path if made is None or (isinstance(made, int) and made != 3) else made
    with pytest.raises(InputError, match=words):
        stack(given, "single")


def test_options_that_are_not_for_the_source(tmp_path):
    pictures(tmp_path, 1)
    with pytest.raises(InputError, match="layout= is not for pictures: leave it out"):
        stack(tmp_path, "single", layout="TCHW")
    with pytest.raises(InputError, match="modality= is not for array"):
        stack(np.zeros((2, 3, 3)), "single", layout="DHW", modality="CT")


def test_a_missing_package_is_told_with_its_extra():
    with pytest.raises(MissingExtraError, match=r"pip install 'flatconv\[dicom\]'"):
        package("no_such_module", "pydicom", "dicom", "reading DICOM")
