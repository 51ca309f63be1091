"""Pictures with boxes: one file per image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from dfine_cli.errors import DfineError, Interrupted, UsageError
from dfine_cli.evaluation.error_types import Errors, explain_errors
from dfine_cli.visualize.draw import Picture, draw_boxes, draw_captioned
from dfine_cli.visualize.outcomes import mark_outcomes, to_corners
from dfine_cli.visualize.source import Shown, require_readable
from dfine_cli.whole_file import write_whole

WRITTEN = (".jpg", ".jpeg", ".png")
"""Suffixes that pictures keep; others become ``.jpg``."""


def write_pictures(
    shown: Shown,
    out: Path,
    threshold: float | NDArray[np.float64],
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Path], int]:
    """Draw every image with its detections; where there is ground truth, with what is right, wrong and missed.

    Args:
        shown: Images with detections.
        out: Folder of the pictures, whose names and subfolders are those of the images; or the file of a single one.
        threshold: Lowest score that is drawn, one for all or one for each class.
        on_progress: Told how many of how many images are done.

    Returns:
        The files, and how many images could not be read.

    Raises:
        UsageError: ``out`` is one file for several images.
        DfineError: A file cannot be written, or no image can be read.
        Interrupted: Ctrl-C, once there are pictures.
    """
    truth = shown.matching.truth
    errors = explain_errors(shown.matching) if shown.judged else None
    written: list[Path] = []
    single = out.suffix.lower() in WRITTEN and not out.is_dir()
    if (single and len(shown.names) > 1) or (out.is_file() and not single):
        raise UsageError(f"--out {out}: is one file, for {len(shown.names)} images", "give a folder")
    with keeping(written):
        for image in range(len(shown.names)):
            target = out if single else out / picture_name(shown.names[image] or f"{truth.image_ids[image]}")
            picture = shown.images.read(image)
            if picture is not None:
                write_picture(target, _draw(picture, shown, errors, image, threshold))
                written.append(target)
            if on_progress:
                on_progress(image + 1, len(shown.names))
    require_readable(len(written), len(shown.names))
    return written, len(shown.names) - len(written)


@contextmanager
def keeping(written: Sequence[Path]) -> Iterator[None]:
    """Say how many files are finished when Ctrl-C ends the writing of several: they stay.

    Raises:
        Interrupted: Ctrl-C, once there are some.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        if not written:
            raise
        raise Interrupted(
            f"interrupted; finished pictures stay: {len(written)}, up to {written[-1]}",
            "run the same command again with --force",
        ) from error


def _draw(
    picture: Picture,
    shown: Shown,
    errors: Errors | None,
    image: int,
    threshold: float | NDArray[np.float64],
) -> Picture:
    """An image with its detections: by what they are right and wrong in, or without ground truth by their classes."""
    if errors is not None:
        marks = mark_outcomes(shown.matching, errors, image, threshold, full=True)
        return draw_captioned(picture, marks.boxes, marks.colours, marks.captions, dashed=marks.dashed)
    found, (labels, names) = shown.matching.detections, shown.drawn_as()
    least = np.broadcast_to(threshold, len(shown.matching.truth.names))
    rows = shown.of_image(image)
    rows = rows[found.scores[rows] >= least[found.classes[rows]]]
    boxes = to_corners(found.boxes_xywh[rows])
    return draw_boxes(picture, boxes, labels[found.classes[rows]], names, found.scores[rows])


def check_pictures(targets: Sequence[Path], images: Iterable[Path], overwrite: bool) -> None:
    """Refuse to write pictures over other files before anything is computed.

    Args:
        targets: Where they are to go.
        images: What is drawn, which no picture may replace.
        overwrite: Whether other files that are there may be replaced.

    Raises:
        UsageError: Some are there already, or are images.
    """
    there = [target for target in targets if target.exists()]
    if not there:
        return
    originals = {image.resolve() for image in images}
    for target in there:
        if target.resolve() in originals:
            raise UsageError(f"{target}: is the image itself", "choose another place with --out")
    if not overwrite:
        more = f", as are {len(there) - 1} more of these pictures" if len(there) > 1 else ""
        raise UsageError(
            f"--out: {there[0]} is there already{more}", "choose another place, or replace them with --force"
        )


def picture_name(name: str) -> str:
    """A relative path for the picture of an image; what leads out of the folder is left out."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("..", "/")]
    path = PurePosixPath(*parts)
    return str(path if path.suffix.lower() in WRITTEN else path.with_name(f"{path.name}.jpg"))


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture in the format of its suffix; the file appears whole or not at all.

    Raises:
        DfineError: It cannot be encoded or written.
    """
    done, data = cv2.imencode(path.suffix, picture[..., ::-1])
    if not done:
        raise DfineError(f"{path}: the picture could not be encoded")
    write_whole(path, data.tobytes(), "--out")
