"""A video with the detections on it: decoding, inference, and drawing with encoding, each beside the others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.backends.detector import Detector
from dfine_cli.data.preprocess import resize
from dfine_cli.types import Detections, Size
from dfine_cli.visualize.draw import Picture, draw_boxes
from dfine_cli.visualize.film import Film
from dfine_cli.visualize.frames import Frame, Frames
from dfine_cli.visualize.lane import Lane

AHEAD = 8
"""Frames that may wait between two stages, beside those of one batch."""


class Limit(NamedTuple):
    """Where to stop before the source ends; None: nowhere."""

    frames: int | None = None
    seconds: float | None = None
    """Of the video, and of the clock where frames come live."""


NO_LIMIT = Limit()


class VideoResult(NamedTuple):
    """What was written."""

    frames: int
    detected: int
    """Frames that were looked at; fewer where a live source was faster, whose lost frames repeat the next one."""
    missing: int
    """Frames that the source promised and did not give."""
    seconds: float
    codec: str
    interrupted: bool
    """Whether Ctrl-C ended it; all frames until then are written."""


class _Prepared(NamedTuple):
    frame: Frame
    pixels: NDArray[np.uint8]
    """[3, H, W] input of the network."""


class _Found(NamedTuple):
    frame: Frame
    detections: Detections


def draw_video(
    detector: Detector,
    frames: Frames,
    out: Path,
    threshold: float | NDArray[np.float64],
    *,
    batch: int = 1,
    limit: Limit = NO_LIMIT,
    on_progress: Callable[[int, int], None] | None = None,
) -> VideoResult:
    """Write ``frames`` with detections to a file of the same size and rate.

    Ctrl-C ends the video early and keeps it; after an error nothing is left.

    Args:
        detector: What finds objects.
        frames: Where the video comes from; it is closed at the end.
        out: The file; its suffix is in ``film.CODECS``.
        threshold: Lowest score that is drawn, one for all or one for each class.
        batch: Most frames in one pass.
        limit: Where to stop.
        on_progress: Told how many of how many frames (0: unknown) are looked at.

    Raises:
        DfineError: The file cannot be written.
    """
    started = time.perf_counter()
    film = Film(out, frames.fps, frames.size)
    prepared: Lane[_Prepared] = Lane(AHEAD + batch, newest=frames.live)
    found: Lane[_Found] = Lane(AHEAD + batch)
    most = _most(frames, limit)
    total = min(filter(None, (most, frames.total)), default=0)
    seen, interrupted = 0, False
    try:
        with ThreadPoolExecutor(2) as pool:
            reading = pool.submit(_prepare, frames, detector.input_size, prepared, most, limit)
            writing = pool.submit(_write, film, detector.classes.names, found, threshold)
            try:
                for items in iter(lambda: prepared.take(batch), []):
                    if not _detect(detector, items, found):
                        break
                    seen += len(items)
                    if on_progress:
                        on_progress(seen, total if seen <= total else 0)
                found.close()
                writing.result()
            except KeyboardInterrupt:
                interrupted = True
            finally:  # whatever happened, nobody waits for anybody
                prepared.close(drop=True)
                found.close(drop=not interrupted)
            writing.result()
            read = reading.result()
        film.finish()
    except BaseException:
        film.discard()
        raise
    finally:
        frames.close()
    missing = 0 if interrupted or not frames.total else max(0, total - read)
    return VideoResult(film.frames, seen, missing, time.perf_counter() - started, film.codec, interrupted)


def _most(frames: Frames, limit: Limit) -> int:
    """Frames after which the limit is reached, 0 without one; files may hold more than they say."""
    ends = [limit.frames] if limit.frames is not None else []
    ends += [max(1, round(limit.seconds * frames.fps))] if limit.seconds is not None else []
    return min(ends, default=0)


def _prepare(frames: Frames, size: Size, prepared: Lane[_Prepared], most: int, limit: Limit) -> int:
    """Decode and resize until the source, the limit or the receiver ends; gives the number of frames."""
    until = time.monotonic() + limit.seconds if frames.live and limit.seconds is not None else math.inf
    count = 0
    try:
        for frame in frames:
            if not prepared.put(_Prepared(frame, resize(frame.picture, size))):
                break
            count += 1
            if count == most or time.monotonic() >= until:
                break
    finally:
        prepared.close()
    return count


def _detect(detector: Detector, items: list[_Prepared], found: Lane[_Found]) -> bool:
    """Look at frames and hand them on; False if nobody takes them any more."""
    sizes = [(item.frame.picture.shape[0], item.frame.picture.shape[1]) for item in items]
    detections = detector.detect(np.stack([item.pixels for item in items]), sizes)
    return all(found.put(_Found(item.frame, d)) for item, d in zip(items, detections, strict=True))


def _write(
    film: Film, names: Sequence[str], found: Lane[_Found], threshold: float | NDArray[np.float64]
) -> None:
    """Draw and encode what was found; a frame also stands for those that were lost before it."""
    written = 0
    try:
        for item in (item for items in iter(found.take, []) for item in items):
            picture = draw_detections(item.frame.picture, item.detections, names, threshold)
            for _ in range(written, item.frame.number + 1):
                film.write(picture)
            written = item.frame.number + 1
    finally:
        found.close(drop=True)


def draw_detections(
    picture: Picture, detections: Detections, names: Sequence[str], threshold: float | NDArray[np.float64]
) -> Picture:
    """A copy of ``picture`` with the detections of at least ``threshold`` (one, or one for each class) on it."""
    kept = detections.scores >= np.broadcast_to(threshold, len(names))[detections.labels]
    return draw_boxes(
        picture, detections.boxes[kept], detections.labels[kept], names, detections.scores[kept]
    )
