"""Pictures that show what went right and wrong: detections and missed objects in the colour of their outcome."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dfine_cli.data.coco import find_image
from dfine_cli.data.images import ImageError, read_image
from dfine_cli.evaluation.analysis import Analysis
from dfine_cli.evaluation.error_types import KINDS, Errors
from dfine_cli.evaluation.label_errors import Suspect
from dfine_cli.evaluation.matching import Matching
from dfine_cli.visualize.draw import Colour, Picture, Style, draw_captioned

RIGHT: Colour = (34, 160, 84)
WRONG: Colour = (226, 54, 66)
MISSED: Colour = (245, 150, 20)
NEITHER: Colour = (140, 146, 158)
CONTEXT = 0.6
"""Share of a box's size that is shown around it."""
_LEAST = 96
"""Smallest side of a detail in pixels of the image."""
_QUALITY = 82
_LABELS = 40


class ImageFolder:
    """Images of an annotation file, by their position in ``Truth.image_ids``.

    Args:
        names: File name of each image.
        folder: Where they are.
        beside: Where else they may be: the folder of the annotation file.
    """

    def __init__(self, names: Sequence[str], folder: Path, beside: Path) -> None:
        self._names, self._folder, self._beside = names, folder, beside

    def path(self, image: int) -> Path | None:
        """Where the file of an image is; None if it is not there."""
        if not self._names[image]:
            return None
        path = find_image(self._names[image], self._folder, self._beside)
        return path if path.is_file() else None

    def read(self, image: int) -> Picture | None:
        """The image, or None if it cannot be read."""
        if not self._names[image]:
            return None
        try:
            return read_image(find_image(self._names[image], self._folder, self._beside))
        except ImageError:
            return None


def draw_outcomes(picture: Picture, analysis: Analysis, image: int, side: int) -> Picture:
    """An image scaled to ``side`` pixels, with what was found, what is wrong and what was missed.

    Right detections are green without a label, wrong ones red with the kind of their error, missed objects orange and
    dashed.

    Args:
        picture: [H, W, 3] the image as in the annotations.
        analysis: What was found.
        image: Its position in ``Truth.image_ids``.
        side: Longer side of the result in pixels.
    """
    marks = mark_outcomes(analysis.matching, analysis.errors, image, analysis.threshold)
    scaled, scale = scale_to(picture, side)
    style = Style(line=2, text=12, max_labels=_LABELS)
    return draw_captioned(scaled, marks.boxes * scale, marks.colours, marks.captions, style, marks.dashed)


class Marks(NamedTuple):
    """Boxes that say what went right and wrong, as ``draw_captioned`` takes them."""

    boxes: NDArray[np.float64]
    """[M, 4] xyxy in pixels of the image."""
    colours: list[Colour]
    captions: list[str]
    dashed: list[bool]


def mark_outcomes(
    matching: Matching, errors: Errors, image: int, least: float | NDArray[np.float64], *, full: bool = False
) -> Marks:
    """What is right, wrong and missed on an image.

    Args:
        matching: Detections and their objects.
        errors: Of which kind the wrong ones are.
        image: Its position in ``Truth.image_ids``.
        least: Lowest score that counts, one for all or one for each class.
        full: Right ones have a label, too, and detections on crowds, which are neither, are there in grey.
    """
    truth, found = matching.truth, matching.detections
    rows = matching.by_image[image]
    rows = rows[found.scores[rows] >= np.broadcast_to(least, len(truth.names))[found.classes[rows]]]
    if not full:
        rows = rows[matching.counted[rows]]
    right, counted = matching.correct, matching.counted
    objects = np.flatnonzero((truth.images == image) & ~truth.crowd)
    objects = objects[~np.isin(objects, matching.found[rows[right[rows]]])]
    rows = rows[np.argsort(right[rows], kind="stable")]  # wrong ones on top
    kinds = list(KINDS)
    colours: list[Colour] = []
    captions: list[str] = []
    for n in rows.tolist():
        caption = f"{truth.names[found.classes[n]]} {found.scores[n]:.2f}"
        if counted[n] and not right[n]:
            caption += f": {kinds[errors.kinds[n]]}"
        captions.append(caption if full or not right[n] else "")
        colours.append(NEITHER if not counted[n] else RIGHT if right[n] else WRONG)
    return Marks(
        to_corners(np.concatenate((found.boxes_xywh[rows], truth.boxes_xywh[objects]))),
        [*colours, *[MISSED] * len(objects)],
        [*captions, *(f"missed: {truth.names[truth.classes[g]]}" for g in objects.tolist())],
        [*[False] * len(rows), *[True] * len(objects)],
    )


def draw_suspect(picture: Picture, suspect: Suspect, side: int) -> Picture:
    """The surroundings of a likely label error, scaled to ``side`` pixels, with its box."""
    x1, y1, x2, y2 = to_corners(np.array([suspect.box_xywh]))[0].tolist()
    reach = max((x2 - x1) * (1 + 2 * CONTEXT), (y2 - y1) * (1 + 2 * CONTEXT), _LEAST) / 2
    height, width = picture.shape[:2]
    left, right = (int(np.clip(v, 0, width)) for v in ((x1 + x2) / 2 - reach, (x1 + x2) / 2 + reach))
    top, bottom = (int(np.clip(v, 0, height)) for v in ((y1 + y2) / 2 - reach, (y1 + y2) / 2 + reach))
    detail = picture[top : max(bottom, top + 1), left : max(right, left + 1)]
    if not detail.size:  # the box lies outside the image
        detail, left, top = picture, 0, 0
    scaled, scale = scale_to(detail, side)
    box = (np.array([[x1, y1, x2, y2]]) - (left, top, left, top)) * scale
    return draw_captioned(scaled, box, [MISSED if suspect.label else WRONG], [""], Style(line=2))


def to_data_uri(picture: Picture) -> str:
    """The picture as a JPEG inside a ``data:`` address."""
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def scale_to(picture: Picture, side: int) -> tuple[Picture, float]:
    """The picture with ``side`` pixels on its longer side, and the factor."""
    scale = side / max(picture.shape[:2])
    size = [max(1, round(length * scale)) for length in picture.shape[1::-1]]
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=way), np.uint8), scale


def to_corners(boxes_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes [N, 4] as xyxy."""
    return np.concatenate((boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]), 1)
