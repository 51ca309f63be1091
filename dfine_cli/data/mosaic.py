"""Mosaic: four images on one canvas of the input size, each scaled as evaluation scales it, give or take.

A tile is stretched to the input size times a drawn factor, as evaluation stretches an image to the input
size, so objects keep their proportions and about their scale; the part that does not fit is cut off.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dfine_cli.types import Sample, Size

CENTRE = (0.3, 0.7)
"""Where the four tiles meet, fractions of the canvas: every tile keeps a fair share."""
SCALE = (0.5, 1.25)
"""Size of a tile relative to the input size; objects half to one and a quarter times as large as in evaluation."""
KEPT = 0.3
"""Least share of a box that must be left for its object to stay: less is often unrecognisable."""
GREY = 114
"""Value of what no tile covers."""


def make_mosaic(samples: Sequence[Sample], size: Size, rng: np.random.Generator) -> Sample:
    """Four samples as one.

    Args:
        samples: Four; the first gives its id.
        size: (height, width) of the canvas in pixels.
        rng: Source of every draw.
    """
    height, width = size
    canvas = np.full((height, width, 3), GREY, np.uint8)
    middle = (rng.uniform(*CENTRE, 2) * (width, height)).astype(int)
    (x, y), boxes, labels = middle.tolist(), [], []
    for sample, (x1, y1, x2, y2) in zip(
        samples, ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)), strict=True
    ):
        tile, tile_boxes, kept = _tile(sample, size, (y2 - y1, x2 - x1), rng)
        canvas[y1:y2, x1:x2] = tile
        boxes.append(tile_boxes + np.array((x1, y1, x1, y1), np.float32))
        labels.append(sample.labels[kept])
    return Sample(canvas, np.concatenate(boxes), np.concatenate(labels), samples[0].image_id)


def _tile(
    sample: Sample, canvas: Size, tile: Size, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
    """A tile [h, w, 3], its boxes in pixels of the tile, and which of the sample's objects they are."""
    factor = np.exp(rng.uniform(*np.log(SCALE)))
    place = rng.random(2)
    height, width = (max(1, round(side * factor)) for side in canvas)
    image = stretch(sample.image, (height, width))
    # Negative where the image is smaller than the tile: it then lies inside, at the same random place.
    top, left = int((height - tile[0]) * place[0]), int((width - tile[1]) * place[1])
    result = np.full((*tile, 3), GREY, np.uint8)
    y1, x1, y2, x2 = max(0, -top), max(0, -left), min(tile[0], height - top), min(tile[1], width - left)
    result[y1:y2, x1:x2] = image[y1 + top : y2 + top, x1 + left : x2 + left]
    ratios = np.array((width / sample.image.shape[1], height / sample.image.shape[0]) * 2)
    boxes = sample.boxes * ratios - (left, top, left, top)
    clipped = boxes.clip((x1, y1, x1, y1), (x2, y2, x2, y2))
    before, after = _areas(boxes), _areas(clipped)
    kept = (after > 0) & (after >= KEPT * before)
    return result, clipped[kept].astype(np.float32), kept


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return areas


def stretch(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """An image resized to (height, width): averaged over areas where it shrinks, else interpolated."""
    if image.shape[:2] == size:
        return image
    shrinks = size[0] < image.shape[0] and size[1] < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size[1], size[0]), interpolation=method).astype(np.uint8, copy=False)
