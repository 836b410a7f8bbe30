"""DICOM: sorted by place, rescaled, and whatever makes a series no volume."""

import math

import pytest

from flatconv.errors import InputError
from flatconv.stack import stack
from flatconv.stack.sources.dicom import is_dicom
from tests.stack.making import picture, series, slice_

PLACES = [0.0, 5.0, 10.0, 15.0, 20.0]
TILTED = (1.0, 0, 0, 0, math.cos(0.5), math.sin(0.5))


def values(s):
    return [float(s[i].data[0, 0, 0, 0, 0]) for i in range(len(s))]


@pytest.mark.parametrize(
    "directions", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), TILTED], ids=["axial", "sagittal", "tilted"]
)
def test_sorted_along_the_normal_and_rescaled(tmp_path, directions):
    series(tmp_path, PLACES, directions=directions)
    s = stack(tmp_path, "single")
    assert s.shape == (1, 1, 1, 6, 8)
    assert values(s) == [2.0 * i - 1000 for i in range(5)]
    assert "20.00 mm" in s.source.label(4)
    assert s.notes == ()
    assert s.range == "rescaled to the modality's units"


def test_neighbourhoods_and_their_inverse(tmp_path):
    series(tmp_path, PLACES)
    s = stack(tmp_path, "slices:3", modality="ct")
    assert s[0].frames == (0, 0, 1)
    assert s.restore(w.data for w in s)[0, 0, :, 0, 0].tolist() == [2.0 * i - 1000 for i in range(5)]


def test_several_series(tmp_path):
    series(tmp_path / "a", PLACES[:3], series="1.2.3")
    series(tmp_path / "b", PLACES, series="1.2.4", modality="MR")
    for f in (tmp_path / "b").iterdir():
        f.rename(tmp_path / "a" / f"b{f.name}")
    with pytest.raises(InputError, match=r"holds 2 series: 1: 3 CT series 1.2.3 \(1.2.3\); 2: 5 MR .*\(--series\)"):
        stack(tmp_path / "a", "single")
    assert stack(tmp_path / "a", "single", series="1.2.4").frames == 5
    assert stack(tmp_path / "a", "single", series="1").frames == 3
    with pytest.raises(InputError, match="has no series '3'"):
        stack(tmp_path / "a", "single", series="3")
    with pytest.raises(InputError, match="is MR, and CT was asked for"):
        stack(tmp_path / "a", "single", series="2", modality="CT")


def test_missing_slices(tmp_path):
    series(tmp_path, [0.0, 5.0, 10.0, 25.0, 30.0])
    with pytest.raises(
        InputError, match=r"between '.*' at 10.00 mm and '.*' at 25.00 mm, where the usual distance is 5.00 mm; about 2"
    ):
        stack(tmp_path, "single")
    s = stack(tmp_path, "single", gaps="keep")
    assert s.frames == 5
    assert "slices are missing" in s.notes[0]
    with pytest.raises(InputError, match="gaps=fill is unknown: it may be error, keep"):
        stack(tmp_path, "single", gaps="fill")


def test_uneven_distances_are_told(tmp_path):
    series(tmp_path, [0.0, 5.0, 10.0, 16.0])
    assert stack(tmp_path, "single").notes == ("distances of slices vary from 5.00 to 6.00 mm",)


def test_without_places(tmp_path):
    for i, n in enumerate([3, 1, 2]):
        slice_(tmp_path / f"{i}.dcm", None, n, number=n, modality="CR")
    s = stack(tmp_path, "single")
    assert values(s) == [-998, -996, -994]
    assert "sorted by InstanceNumber" in s.notes[0]


def test_several_frames_in_one_file(tmp_path):
    slice_(tmp_path / "a.dcm", None, 4, modality="US", NumberOfFrames=3)
    s = stack(tmp_path / "a.dcm", "time:3")
    assert s[0].data[0, 0, :, 0, 0].tolist() == [-992, -990, -988]
    assert "in the order in which they are stored" in s.notes[0]
    slice_(tmp_path / "b.dcm", None, 4, modality="US", NumberOfFrames=3)
    with pytest.raises(InputError, match="holds 3 frames, and there are 2 files"):
        stack(tmp_path, "single")


def test_dicom_is_known_by_its_mark(tmp_path):
    slice_(tmp_path / "noname", 0.0)
    (tmp_path / "b.txt").write_text("DICM")
    assert is_dicom(tmp_path / "noname")
    assert not is_dicom(tmp_path / "b.txt")
    assert not is_dicom(tmp_path / "none")
    assert stack(tmp_path / "noname", "single").frames == 1


def twice(folder):
    slice_(folder / "again.dcm", 5.0)


def other_direction(folder):
    slice_(folder / "scout.dcm", 50.0, directions=(0, 1, 0, 0, 0, -1))


def cut(folder):
    file = folder / "00"
    file.write_bytes(file.read_bytes()[:-40])


def no_picture(folder):
    import pydicom

    d = pydicom.dcmread(folder / "00")
    del d.Rows
    d.save_as(folder / "00")


WRONG = {
    "twice at one place": (twice, r"again.dcm.* lie at the same place, 5.00 mm"),
    "a localizer": (other_direction, r"scout.dcm' lies in another direction than .*localizer"),
    "no place": (lambda f: slice_(f / "x.dcm", None), "x.dcm' does not say where it lies, and others do"),
    "another modality": (lambda f: slice_(f / "x.dcm", 25.0, modality="MR"), "they are not of one stack"),
    "another size": (lambda f: slice_(f / "x.dcm", 25.0, size=(9, 9)), r"has 6×8 pixels and '.*x.dcm' 9×9"),
    "a damaged header": (lambda f: (f / "x.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 50), "x.dcm' "),
    "no DICOM": (lambda f: (f / "x.dcm").write_bytes(b"GARBAGE" * 99), "x.dcm' cannot be read as DICOM"),
    "empty": (lambda f: (f / "x.dcm").write_bytes(b""), "x.dcm' cannot be read as DICOM"),
    "cut off": (cut, "00' cannot be read as DICOM"),
    "without a picture": (no_picture, "00' is DICOM without a picture .CT."),
    "huge": (lambda f: slice_(f / "x.dcm", 25.0, Rows=60000, Columns=60000), "a slice of 60,000×60,000; at most"),
    "many frames": (lambda f: slice_(f / "x.dcm", 25.0, NumberOfFrames=3), "holds 3 frames"),
    "a place of two numbers": (lambda f: slice_(f / "x.dcm", 25.0, ImagePositionPatient=[1, 2]), "and 3 numbers are needed"),
    "no direction": (lambda f: slice_(f / "x.dcm", 25.0, directions=(0.0,) * 6), "lies in another direction"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_volume(tmp_path, make, words):
    series(tmp_path, PLACES)
    make(tmp_path)
    with pytest.raises(InputError, match=words):
        list(stack(tmp_path, "single"))


def test_neither_place_nor_number(tmp_path):
    slice_(tmp_path / "a.dcm", None)
    slice_(tmp_path / "b.dcm", None)
    with pytest.raises(InputError, match="they cannot be sorted"):
        stack(tmp_path, "single")


def test_a_file_that_is_compressed_as_a_whole(tmp_path):
    import pydicom

    slice_(tmp_path / "a.dcm", 0.0)
    d = pydicom.dcmread(tmp_path / "a.dcm")
    d.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    d.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="compressed as a whole"):
        stack(tmp_path / "a.dcm", "single")


def test_pictures_named_dicom(tmp_path):
    picture(tmp_path / "a.png", 0)
    (tmp_path / "a.png").rename(tmp_path / "a.dcm")
    with pytest.raises(InputError, match=r"a.dcm' cannot be read as DICOM"):
        stack(tmp_path, "single")


def test_bright_and_dark_are_told(tmp_path):
    slice_(tmp_path / "a.dcm", 0.0, 3, PhotometricInterpretation="MONOCHROME1")
    s = stack(tmp_path, "single")
    assert values(s) == [-994]
    assert "MONOCHROME1" in s.notes[0]
    with pytest.raises(InputError, match="scale=unit needs values with a natural range"):
        stack(tmp_path, "single", scale="unit")
