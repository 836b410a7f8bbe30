"""Video files, by PyAV."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from flatconv.archives import open_regular
from flatconv.errors import InputError, first_line
from flatconv.stack.limits import check_frames, check_pixels
from flatconv.stack.sources.base import Source, package, reading

SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ogv",
    ".ts",
    ".wmv",
    ".flv",
    ".y4m",
    ".gif",
)
# Playlists and concatenations make the reader open what a file names, so they are not among these.
FORMATS = ("mov", "mp4", "matroska", "webm", "avi", "mpeg", "mpegts", "ogg", "asf", "flv", "yuv4mpegpipe", "gif")
TRUNCATED = ("error", "keep")
SHORT = 0.5
"""Seconds that may be missing at the end: lengths are rounded, and the last sound is often cut."""


class Video(Source):
    """The first video stream of a file, in the order in which it is shown: (3, H, W) uint8.

    Frames are counted by reading the packets, which is quick, and decoded when they are asked for. Where the file knows the
    time of each frame, decoding starts at the key frame before the one that is asked for.

    Args:
        path: of the file.
        truncated: ``error`` refuses a file in which less can be decoded than it announces; ``keep`` stacks what there is,
            and decodes the file once to count it.
    """

    KIND: ClassVar[str] = "video"
    SEQUENTIAL: ClassVar[bool] = True
    UNITS: ClassVar[str] = "0 to 255"
    SCALE: ClassVar[str] = "signed"
    CHANNELS: ClassVar[str | None] = "rgb"

    def __init__(self, path: Path, truncated: str = "error") -> None:
        if truncated not in TRUNCATED:
            raise InputError(f"truncated={truncated} is unknown: it may be {', '.join(TRUNCATED)}")
        self.path, self.name, self.full = path, str(path), 255.0
        self.notes, self._times, self._rate = [], None, None
        with self._opened() as (container, stream):
            self._rate = stream.average_rate
            announced = int(stream.frames)
            times, damage = self._packets(container, stream)
            packets = len(times)
        if None not in times and len(set(times)) == packets:
            self._times = sorted(times)
        self.length = packets
        check_frames(self.name, packets)
        if truncated == "keep":
            self.length, stopped = self._decodable()
            check_frames(self.name, self.length)
            if damage or stopped or self.length < max(announced, packets):
                self.notes.append(
                    f"{self.length} frames could be decoded of {max(announced, packets)}, the rest is missing"
                    + (f": {damage or stopped}" if damage or stopped else "")
                )
        elif damage or packets < announced:
            what = f": {damage}" if damage else ""
            raise InputError(
                f"'{self.name}' is truncated or damaged: it announces {max(announced, packets)} frames and holds "
                f"{packets}{what}. Get the whole file, or say truncated=keep (--truncated keep) to use what there is"
            )
        first = next(self.scan(0))
        self.shape = (3, int(first.shape[1]), int(first.shape[2]))
        self.sizes = {self.shape[1:]: self.name}

    def read(self, index: int) -> Tensor:
        return next(self.scan(index))

    def scan(self, start: int) -> Iterator[Tensor]:
        """Frames from ``start`` on; one is in memory at a time.

        Raises:
            InputError: a frame that was counted cannot be decoded, or has another size than the first.
        """
        at = start
        try:
            for frame in self._decoded(start):
                yield self._pixels(frame)
                at += 1
                if at == self.length:
                    return
        except InputError:
            raise
        except Exception as e:
            raise self._short(at, first_line(e)) from e
        raise self._short(at, "it ends there")

    def label(self, index: int) -> str:
        return f"{float(index / self._rate):.3f} s" if self._rate else f"frame {index}"

    def _short(self, at: int, why: str) -> InputError:
        return InputError(
            f"'{self.name}' is truncated or damaged: frame {at} of {self.length} cannot be decoded ({why}). Get the whole "
            "file, or say truncated=keep (--truncated keep) to use what comes before"
        )

    def _decoded(self, start: int) -> Iterator[Any]:
        """Decoded frames from ``start`` on."""
        with self._opened() as (container, stream):
            skip, since = start, None
            if start and self._times is not None:
                # A reader may land behind the key frame that is needed, where times and order differ: then from the front.
                with contextlib.suppress(Exception):
                    container.seek(self._times[start], stream=stream, backward=True)
                    skip, since = 0, self._times[start]
            landed = False
            for frame in container.decode(stream):
                if since is not None and (frame.pts is None or (not landed and frame.pts > since)):
                    break
                if since is not None and not landed and frame.pts < since:
                    continue
                landed = since is not None
                if skip:
                    skip -= 1
                    continue
                yield frame
            if since is None or landed:
                return
        yield from self._from_front(start)

    def _from_front(self, start: int) -> Iterator[Any]:
        with self._opened() as (container, stream):
            for at, frame in enumerate(container.decode(stream)):
                if at >= start:
                    yield frame

    def _decodable(self) -> tuple[int, str]:
        """How many frames can be decoded, and what stopped it."""
        found = 0
        try:
            for _ in self._from_front(0):
                found += 1
        except Exception as e:
            return found, first_line(e)
        return found, ""

    def _packets(self, container: Any, stream: Any) -> tuple[list[Any], str]:
        """The time of each packet of the video, and what stopped the reading."""
        times: list[Any] = []
        last = 0.0
        try:
            for packet in container.demux():
                if packet.pts is not None and packet.time_base:
                    last = max(last, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                # An edit list may tell the decoder to leave frames out.
                if packet.stream.index != stream.index or not packet.size or packet.is_discard:
                    continue
                times.append(packet.pts)
                check_frames(self.name, len(times))
                if packet.is_corrupt:
                    return times, f"packet {len(times)} is damaged"
        except InputError:
            raise
        except Exception as e:
            return times, first_line(e)
        # A file without a count of frames tells how long it lasts, of all that is in it, sound too.
        if container.format.name.startswith(("matroska", "mov")) and container.duration is not None:
            lasts = container.duration / 1e6
            if last < lasts - SHORT:
                return times, f"it should last {lasts:.1f} s and ends after {last:.1f} s"
        return times, ""

    def _pixels(self, frame: Any) -> Tensor:
        check_pixels(self.name, frame.width, frame.height, "a video")
        pixels = frame.to_ndarray(format="rgb24")
        turned = (int(getattr(frame, "rotation", 0) or 0) // 90) % 4
        pixels = np.ascontiguousarray(np.rot90(pixels, turned)) if turned else pixels
        found = torch.from_numpy(pixels).permute(2, 0, 1)
        known = getattr(self, "shape", None)
        if known is not None and tuple(found.shape) != known:
            raise InputError(
                f"'{self.name}' changes its size from {known[1]}×{known[2]} to {found.shape[1]}×{found.shape[2]}: cut it there"
            )
        return found

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        av = package("av", "av", "video", "reading video")
        with open_regular(self.path) as file:  # a file and nothing else: the reader would also take addresses
            with reading(self.name, "video"):
                # Looking for the form of the file itself would also find playlists, which open other files.
                container = av.open(
                    file, options={"protocol_whitelist": "file,pipe", "format_whitelist": ",".join(FORMATS)}
                )
            with container:
                if not container.streams.video:
                    raise InputError(f"'{self.name}' has no video stream: it cannot be stacked")
                stream = container.streams.video[0]
                check_pixels(self.name, stream.width or 1, stream.height or 1, "a video")
                stream.thread_type = "AUTO"
                yield container, stream
