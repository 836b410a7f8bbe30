"""Video: every frame by its number, wherever decoding starts, and files that end too early."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flatconv.errors import InputError
from flatconv.stack import stack
from flatconv.stack.sources.video import Video
from tests.stack.making import picture, video


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    made = {}
    for name, codec in {"a.mp4": "libx264", "a.mkv": "libx264", "a.avi": "mpeg4", "a.webm": "libvpx"}.items():
        video(folder / name, 30, codec=codec)
        made[name] = folder / name
    return made


def number(frame):
    """Which frame it is, by its grey."""
    return round(frame.float().mean().item() / 8)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.webm"])
def test_frames_by_number(clips, name):
    source = Video(clips[name])
    assert source.length == 30
    assert source.shape == (3, 32, 48)
    assert [number(f) for f in source.scan(0)] == list(range(30))
    for start in (0, 1, 3, 4, 5, 17, 29):
        assert [number(f) for f in source.scan(start)] == list(range(start, 30))
        assert number(source.read(start)) == start


@given(
    st.integers(1, 8), st.integers(1, 3), st.integers(1, 9), st.sampled_from(["pad", "drop", "replicate", "reflect"])
)
@settings(deadline=None, max_examples=6)
def test_windows_of_a_video(clips, length, stride, step, edge):
    s = stack(clips["a.mp4"], f"time:{length},stride={stride},step={step},edge={edge}", scale="stored")
    for window in s:
        shown = [number(window.data[0, :, d]) for d in range(length)]
        assert shown == [0 if f is None else f for f in window.frames]
    assert torch.equal(s[len(s) - 1].data, window.data)


def test_range_and_labels(clips):
    s = stack(clips["a.mp4"], "time:4")
    assert s.range == "[-1, 1]"
    assert s[0].data.min() < -0.98
    assert s.source.label(10) == "1.000 s"


def test_a_gif_is_a_video(tmp_path):
    from PIL import Image

    frames = [Image.new("L", (8, 6), i * 60) for i in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    s = stack(tmp_path / "a.gif", "time:4", scale="stored")
    assert s[0].data[0, 0, :, 0, 0].tolist() == [0, 60, 120, 180]


def test_a_truncated_video(clips, tmp_path):
    cut = tmp_path / "cut.mp4"
    whole = clips["a.mp4"].read_bytes()
    cut.write_bytes(whole[: len(whole) - 200])
    with pytest.raises(InputError, match=r"cut.mp4' is truncated or damaged: .*truncated=keep"):
        list(stack(cut, "time:4"))
    s = stack(cut, "time:4,edge=pad", truncated="keep")
    assert 4 <= s.frames < 30
    assert "the rest is missing" in s.notes[0]
    assert [number(f) for f in s.source.scan(0)] == list(range(s.frames))
    assert len(list(s)) == len(s)


def test_damage_in_the_middle_is_not_passed_over(clips, tmp_path):
    broken = tmp_path / "broken.avi"
    data = bytearray(clips["a.avi"].read_bytes())
    at = data.index(b"00dc", len(data) // 2)
    del data[at : at + 900]
    broken.write_bytes(data)
    with pytest.raises(InputError, match=r"broken.avi' is truncated or damaged: it announces 30 frames and holds"):
        Video(broken)


WRONG = {
    "wrong magic": (lambda p: p.write_bytes(b"GARBAGE" * 99), "a.mp4' cannot be read as video"),
    "empty": (lambda p: p.write_bytes(b""), "a.mp4' cannot be read as video"),
    "a picture": (
        lambda p: picture(p.with_suffix(".png"), 0) is None or p.with_suffix(".png").rename(p),
        "a.mp4' cannot be read",
    ),
    "a playlist": (
        lambda p: p.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/hostname\n"),
        "cannot be read as video",
    ),
    "a concatenation": (
        lambda p: p.write_text("ffconcat version 1.0\nfile /etc/hostname\n"),
        "cannot be read as video",
    ),
    "sound only": ("sound", "has no video stream"),
}


def sound(path):
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(("make", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_files(tmp_path, make, words):
    (sound if make == "sound" else make)(tmp_path / "a.mp4")
    with pytest.raises(InputError, match=words):
        stack(tmp_path / "a.mp4", "time:4")


def test_the_end_is_needed(clips, tmp_path):
    """Half of a Matroska file can be opened, and is not taken for the whole."""
    half = tmp_path / "half.mkv"
    whole = clips["a.mkv"].read_bytes()
    half.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(InputError, match=r"half.mkv' is truncated or damaged: .*it should last 3.0 s and ends after"):
        list(stack(half, "time:4"))


def test_policies(clips):
    with pytest.raises(InputError, match="truncated=maybe is unknown: it may be error, keep"):
        stack(clips["a.mp4"], "time:4", truncated="maybe")
    with pytest.raises(InputError, match="needs 31 frames, and there are 30"):
        stack(clips["a.mp4"], "time:31")
    assert stack(clips["a.mp4"], "time:31,edge=pad")[0].frames[29:] == (29, None)
