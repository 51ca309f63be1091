"""A contact sheet: images with their ground truth beside the predictions, and a legend of the classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dfine_cli.data.coco import CocoDataset
from dfine_cli.errors import DfineError
from dfine_cli.types import Detections, Sample
from dfine_cli.visualize.draw import Colour, Picture, class_colour, draw_boxes, put_text, text_mask
from dfine_cli.whole_file import write_whole

USUAL = 0.5
"""Lowest score that is drawn where no evaluation says which is best."""
TILE = 320
"""Largest side of a drawn image in pixels."""
GAP = 16
TEXT = 14
INK: Colour = (38, 42, 51)
FAINT: Colour = (120, 126, 138)
PAPER: Colour = (255, 255, 255)
MOUNT: Colour = (238, 240, 244)
"""Behind images that do not fill their tile."""


def sheet_of(
    dataset: CocoDataset,
    detections: Mapping[int, Detections],
    names: Sequence[str],
    path: Path,
    count: int = 8,
    threshold: float = USUAL,
) -> None:
    """Write the sheet of ``count`` images of a dataset, evenly spread over it.

    Args:
        dataset: The images.
        detections: Predictions of each image by its id.
        names: Name of each class.
        path: File to write.
        count: Most images on the sheet.
        threshold: Lowest score that is drawn.

    Raises:
        DfineError: The dataset is empty, or the file cannot be written.
    """
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int))
    samples = [dataset[i] for i in chosen.tolist()]
    make_sheet(samples, [detections[s.image_id] for s in samples], names, path, threshold)


def make_sheet(
    samples: Sequence[Sample],
    detections: Sequence[Detections],
    names: Sequence[str],
    path: Path,
    threshold: float = USUAL,
) -> None:
    """Write a PNG with one pair of tiles per image: ground truth left, predictions right.

    Args:
        samples: Images with their objects.
        detections: Predictions of each image.
        names: Name of each class.
        path: File to write.
        threshold: Lowest score that is drawn.

    Raises:
        DfineError: There is no image to draw, or the file cannot be written.
    """
    if not samples:
        raise DfineError("there is no image to draw", "give at least one sample")
    kept = [_above(d, threshold) for d in detections]
    tile = _tile_size(samples)
    columns = 1 if len(samples) == 1 else 2
    pairs = [_pair(s, d, names, tile, threshold) for s, d in zip(samples, kept, strict=True)]
    blank = np.full_like(pairs[0], PAPER)
    pairs += [blank] * (-len(pairs) % columns)
    rows = [_side_by_side(pairs[i : i + columns], 2 * GAP) for i in range(0, len(pairs), columns)]
    used = np.unique(np.concatenate([s.labels for s in samples] + [d.labels for d in kept])).tolist()
    _write_png(path, _framed([*rows, _legend(used, names, rows[0].shape[1])]))


def _above(detections: Detections, threshold: float) -> Detections:
    keep = detections.scores >= threshold
    return Detections(detections.boxes[keep], detections.scores[keep], detections.labels[keep])


def _tile_size(samples: Sequence[Sample]) -> tuple[int, int]:
    """(height, width) that every image fits into when its longer side is ``TILE``."""
    shapes = [np.array(s.image.shape[:2]) / max(s.image.shape[:2]) for s in samples]
    height, width = np.ceil(np.max(shapes, axis=0) * TILE).astype(int)
    return int(height), int(width)


def _pair(
    sample: Sample, detections: Detections, names: Sequence[str], tile: tuple[int, int], threshold: float
) -> Picture:
    scale = TILE / max(sample.image.shape[:2])
    image = _scaled(sample.image, scale)
    truth = draw_boxes(image, sample.boxes * scale, sample.labels, names)
    found = draw_boxes(image, detections.boxes * scale, detections.labels, names, detections.scores)
    left = _mounted(truth, tile, f"image {sample.image_id}: truth", _count(len(sample.labels), "object"))
    right = _mounted(found, tile, "predictions", f"{len(detections.labels)} with score ≥ {threshold:.3g}")
    return _side_by_side([left, right], GAP // 4)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _scaled(image: Picture, scale: float) -> Picture:
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def _mounted(image: Picture, tile: tuple[int, int], title: str, note: str) -> Picture:
    """``image`` in the middle of a tile, under its title and a fainter note."""
    head = TEXT * 2
    canvas = np.full((head + tile[0], tile[1], 3), MOUNT, np.uint8)
    canvas[:head] = PAPER
    width = put_text(canvas, (0, TEXT // 4), title, TEXT, INK, bold=True)
    put_text(canvas, (width + TEXT, TEXT // 4), note, TEXT, FAINT)
    y, x = head + (tile[0] - image.shape[0]) // 2, (tile[1] - image.shape[1]) // 2
    canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
    return canvas


def _legend(labels: Sequence[int], names: Sequence[str], width: int) -> Picture:
    """Swatch and name of each class in ``labels``, in as many rows as it takes."""
    if not labels:
        return np.full((1, width, 3), PAPER, np.uint8)
    cell = 2 * TEXT + GAP + max(text_mask(names[label], TEXT).shape[1] for label in labels)
    columns = max(1, width // cell)
    canvas = np.full((math.ceil(len(labels) / columns) * 2 * TEXT, width, 3), PAPER, np.uint8)
    for place, label in enumerate(labels):
        y, x = (place // columns) * 2 * TEXT, (place % columns) * cell
        cv2.rectangle(canvas, (x, y + 3), (x + TEXT, y + 3 + TEXT), class_colour(label), -1)
        put_text(canvas, (x + 2 * TEXT - 6, y), names[label], TEXT, INK)
    return canvas


def _side_by_side(parts: Sequence[Picture], gap: int) -> Picture:
    space = np.full((parts[0].shape[0], gap, 3), PAPER, np.uint8)
    spaced: list[NDArray[np.uint8]] = [parts[0]]
    for part in parts[1:]:
        spaced += [space, part]
    return np.concatenate(spaced, 1)


def _framed(rows: Sequence[Picture]) -> Picture:
    """Rows under each other with a margin all around."""
    space = np.full((GAP, rows[0].shape[1], 3), PAPER, np.uint8)
    column = np.concatenate([part for row in rows for part in (row, space)][:-1])
    return np.pad(column, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=PAPER[0])


def _write_png(path: Path, picture: Picture) -> None:
    done, data = cv2.imencode(".png", picture[..., ::-1])
    if not done:
        raise DfineError(f"{path}: the picture could not be encoded")
    write_whole(path, data.tobytes(), "--sheet")
