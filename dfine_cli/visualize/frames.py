"""Where frames come from: a video file, a stream by its address, or a camera."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from dfine_cli.errors import CheckError, DfineError, MissingError, UsageError
from dfine_cli.types import Size
from dfine_cli.visualize.draw import Picture
from dfine_cli.visualize.source import PICTURES

USUAL_FPS = 25.0
"""Where a source does not say its rate, as streams often do not."""
MOST_FPS = 1000.0
"""Streams give the ticks of their clock, 90000 a second, in place of a rate they do not know."""
PATIENCE_S = 10
"""Seconds after which a silent stream counts as gone."""

_STREAM = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_CAMERA = re.compile(r"(?:camera:)?(\d+)", re.IGNORECASE)


class Frame(NamedTuple):
    """One picture of a video."""

    number: int
    """From 0, counted at the source."""
    picture: Picture


class Frames:
    """An open source of frames. Close it when done.

    Args:
        name: What it is called in messages.
        capture: OpenCV's, open.
        stream: A stream, which is live unless it has a frame count. A file is not, even without one.
        camera: A camera, which is live and has no frame count to be asked for.

    Attributes:
        size: (height, width) of the frames in pixels, upright.
        fps: Frames a second, finite and above 0.
        says_fps: Whether the source said so, or ``fps`` is the usual rate.
        total: Frames that the source promises, rightly or not; 0 where it does not say.
        live: Whether frames come when they come, and are lost if nobody takes them in time.

    Raises:
        CheckError: Not one frame of a file can be decoded.
        DfineError: None comes from a stream or camera.
    """

    def __init__(
        self, name: str, capture: cv2.VideoCapture, *, stream: bool = False, camera: bool = False
    ) -> None:
        self.name = name
        self._capture = capture
        self._first = self._next()
        if self._first is None:
            self.close()
            kind = DfineError if stream or camera else CheckError
            raise kind(f"{name}: not one frame of it can be decoded", "play it with another program")
        height, width = self._first.shape[:2]
        self.size: Size = (height, width)
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.says_fps = math.isfinite(fps) and 0 < fps <= MOST_FPS
        self.fps = float(fps) if self.says_fps else USUAL_FPS
        count = 0 if camera else capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.total = int(count) if math.isfinite(count) and count > 0 else 0
        self.live = (stream or camera) and not self.total

    def __iter__(self) -> Iterator[Frame]:
        """The frames in order, until there are no more."""
        picture, number = self._first, 0
        self._first = None
        while picture is not None:
            yield Frame(number, picture)
            picture, number = self._next(), number + 1

    def close(self) -> None:
        """Let go of the file, stream or camera."""
        self._capture.release()

    def _next(self) -> Picture | None:
        there, bgr = self._capture.read()
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), np.uint8) if there else None


def open_frames(address: str) -> Frames:
    """Open a video file, a stream (``rtsp://…``, ``http://…``) or a camera (``camera:0``, or ``0``).

    Raises:
        UsageError: There is no such file, or it is an image or a folder.
        MissingError: There is no such camera.
        CheckError: The file is no video or cut off.
        DfineError: The stream does not answer.
    """
    camera = _CAMERA.fullmatch(address)
    with quiet_opencv():
        if _STREAM.match(address):
            return _open_stream(address)
        if camera and not Path(address).exists():
            return _open_camera(int(camera[1]))
        return _open_file(Path(address))


def is_moving(address: str) -> bool:
    """Whether an address is a stream or a camera: nothing that could be a path."""
    return bool(_STREAM.match(address)) or (bool(_CAMERA.fullmatch(address)) and not Path(address).exists())


def _open_stream(address: str) -> Frames:
    patience = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        PATIENCE_S * 1000,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        PATIENCE_S * 1000,
    ]
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, patience)
    if not capture.isOpened():
        raise DfineError(
            f"{address}: no video comes from this address",
            "check address, user and password, and the network",
        )
    return Frames(address, capture, stream=True)


def _open_camera(number: int) -> Frames:
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise MissingError(
            f"camera:{number}: there is no such camera, or another program has it",
            "the first camera is camera:0; /dev/video* must be readable",
        )
    return Frames(f"camera:{number}", capture, camera=True)


def _open_file(path: Path) -> Frames:
    if not path.exists():
        raise UsageError(f"{path}: no such file", "give a video file, a stream such as rtsp://… or camera:0")
    if path.is_dir() or path.suffix.lower() in PICTURES:
        kind = "a folder" if path.is_dir() else "an image"
        raise UsageError(f"{path}: is {kind}, not a video", "use --to images for images and folders of them")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if capture.isOpened():
        return Frames(str(path), capture)
    with path.open("rb") as file:
        is_mp4 = file.read(12)[4:8] == b"ftyp"
    if is_mp4:  # the index of such files usually stands at their end
        raise CheckError(
            f"{path}: the video is cut off: its index is missing, without which no frame can be found",
            "copy or record it again; an .mkv or a fragmented .mp4 survives a cut",
        )
    raise CheckError(f"{path}: not a video, or of a kind that OpenCV cannot read", "convert it to .mp4 first")


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """No talk of OpenCV and FFmpeg on stderr: what they fail at is told by errors of our own."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read once, before the first video
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)
