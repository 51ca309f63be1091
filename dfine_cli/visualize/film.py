"""Writing a video file that appears whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from dfine_cli.errors import DfineError, UsageError
from dfine_cli.types import Size
from dfine_cli.visualize.draw import Picture
from dfine_cli.visualize.frames import quiet_opencv

CODECS: dict[str, tuple[str, ...]] = {
    ".mp4": ("avc1", "mp4v"),
    ".mov": ("avc1", "mp4v"),
    ".mkv": ("avc1", "mp4v"),
    ".avi": ("MJPG",),
}
"""Suffix to codecs by their four letters, the best first; wheels of OpenCV have no encoder for H.264 (avc1)."""
CODEC_NAMES = {"avc1": "H.264", "mp4v": "MPEG-4 Part 2", "MJPG": "Motion JPEG"}


class Film:
    """A video file being written; ``finish`` or ``discard`` it.

    Frames go to a hidden file beside the target until then.

    Args:
        path: The file; its suffix is in ``CODECS``.
        fps: Frames a second.
        size: (height, width) of the frames; an odd last row or column is cut off, as codecs want even sides.

    Raises:
        DfineError: It cannot be written.
    """

    def __init__(self, path: Path, fps: float, size: Size) -> None:
        self.path = path
        self.frames = 0
        self._part = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
        height, width = size
        self._size = (width, height)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._part.touch()  # OpenCV would not say why it cannot
        except OSError as error:
            raise DfineError(
                f"{path}: {error.strerror or error}", "choose another place with --out"
            ) from error
        with quiet_opencv():
            for codec in CODECS[path.suffix.lower()]:
                letters = cv2.VideoWriter.fourcc(*codec)
                self._writer = cv2.VideoWriter(str(self._part), cv2.CAP_FFMPEG, letters, fps, (width, height))
                if self._writer.isOpened():
                    self.codec = CODEC_NAMES[codec]
                    return
        self.discard()
        raise DfineError(
            f"{path}: OpenCV cannot encode {width}x{height} at {fps:g} frames a second",
            "choose another suffix with --out, such as .avi",
        )

    def write(self, picture: Picture) -> None:
        """Append a frame, [H, W, 3] RGB; one of another size, as streams may send, is stretched."""
        if picture.shape[1::-1] != self._size:  # OpenCV would leave it out without a word
            picture = np.asarray(cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def finish(self) -> None:
        """Close the file and put it in its place; without a frame there is none.

        Raises:
            DfineError: Not all frames are in it, as on a full disk: OpenCV does not say so when it writes.
        """
        if not self.frames:
            return self.discard()
        self._writer.release()
        with quiet_opencv():
            check = cv2.VideoCapture(str(self._part), cv2.CAP_FFMPEG)
            kept = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
            check.release()
        if kept != self.frames:
            self.discard()
            raise DfineError(
                f"{self.path}: only {max(kept, 0)} of {self.frames} frames could be written",
                "look for space on the disk, or choose another place with --out",
            )
        self._part.replace(self.path)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._writer.release()
        self._part.unlink(missing_ok=True)


def check_film(path: Path, source: str, overwrite: bool) -> None:
    """Refuse a place for a video before anything is computed.

    Args:
        path: Where it is to go.
        source: Address of the video that is read.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        UsageError: The suffix is unknown, or the file is there already, or is the source.
    """
    if path.suffix.lower() not in CODECS:
        raise UsageError(
            f"--out {path}: a video is not written to `{path.suffix or 'suffixless'}` files",
            f"end it in one of {', '.join(CODECS)}",
        )
    if path.is_dir():
        raise UsageError(f"--out {path}: is a folder", f"give a file, such as {path / 'video.mp4'}")
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise UsageError(f"--out {path}: is the video itself", "choose another file with --out")
    if path.exists() and not overwrite:
        raise UsageError(f"--out {path}: is there already", "choose another file, or replace it with --force")
