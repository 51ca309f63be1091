"""Pictures with boxes: one file per image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from dfine_cli.errors import DfineError, UsageError
from dfine_cli.evaluation.error_types import explain_errors
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
        UsageError: A picture would take the place of its image, or ``out`` is one file for several images.
        DfineError: A file cannot be written, or no image can be read.
    """
    truth = shown.matching.truth
    errors = explain_errors(shown.matching) if shown.judged else None
    written: list[Path] = []
    single = out.suffix.lower() in WRITTEN and not out.is_dir()
    if (single and len(shown.names) > 1) or (out.is_file() and not single):
        raise UsageError(f"--out {out}: is one file, for {len(shown.names)} images", "give a folder")
    for image in range(len(shown.names)):
        target = out if single else out / picture_name(shown.names[image] or f"{truth.image_ids[image]}")
        if target.exists() and shown.images.is_image(image, target):
            raise UsageError(f"{target}: is the image itself", "choose another folder with --out")
        picture = shown.images.read(image)
        if picture is not None:
            if errors is None:
                drawn = _draw_found(picture, shown, image, threshold)
            else:
                marks = mark_outcomes(shown.matching, errors, image, threshold, full=True)
                drawn = draw_captioned(
                    picture, marks.boxes, marks.colours, marks.captions, dashed=marks.dashed
                )
            write_picture(target, drawn)
            written.append(target)
        if on_progress:
            on_progress(image + 1, len(shown.names))
    require_readable(len(written), len(shown.names))
    return written, len(shown.names) - len(written)


def _draw_found(
    picture: Picture, shown: Shown, image: int, threshold: float | NDArray[np.float64]
) -> Picture:
    """An image with its detections in the colours of their classes."""
    found, (labels, names) = shown.matching.detections, shown.drawn_as()
    least = np.broadcast_to(threshold, len(shown.matching.truth.names))
    rows = shown.of_image(image)
    rows = rows[found.scores[rows] >= least[found.classes[rows]]]
    boxes = to_corners(found.boxes_xywh[rows])
    return draw_boxes(picture, boxes, labels[found.classes[rows]], names, found.scores[rows])


def check_picture(path: Path, source: str, overwrite: bool) -> None:
    """Refuse a file for the picture of a single image before anything is computed.

    Args:
        path: Where it is to go.
        source: The image.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        UsageError: It is there already, or is the image.
    """
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise UsageError(f"{path}: is the image itself", "choose another file with --out")
    if path.exists() and not overwrite:
        raise UsageError(f"--out {path}: is there already", "choose another file, or replace it with --force")


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
