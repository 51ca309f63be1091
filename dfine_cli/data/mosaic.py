"""Mosaic: four images on one canvas of the input size, each scaled as evaluation scales it, give or take.

A tile is stretched to the input size times a drawn factor, as evaluation stretches an image to the input
size, so objects keep their proportions and about their scale; the part that does not fit is cut off.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dfine_cli.data.window import View, Window
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
    x, y = (rng.uniform(*CENTRE, 2) * (width, height)).astype(int).tolist()
    canvas, boxes, labels = np.empty((height, width, 3), np.uint8), [], []
    corners = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    for sample, (x1, y1, x2, y2) in zip(samples, corners, strict=True):
        image_size = sample.image.shape[0], sample.image.shape[1]
        view = View(image_size, _draw(image_size, size, (y2 - y1, x2 - x1), rng), (y2 - y1, x2 - x1))
        canvas[y1:y2, x1:x2] = view.render(sample.image, GREY)
        moved, clipped = view.move(sample.boxes)
        left = _areas(clipped)
        kept = (left > 0) & (left >= KEPT * _areas(moved))
        boxes.append((clipped[kept] + (x1, y1, x1, y1)).astype(np.float32))
        labels.append(sample.labels[kept])
    return Sample(canvas, np.concatenate(boxes), np.concatenate(labels), samples[0].image_id)


def _draw(image: Size, canvas: Size, tile: Size, rng: np.random.Generator) -> Window:
    """What of an image a tile shows; more than the image where that is smaller than the tile."""
    factor = np.exp(rng.uniform(*np.log(SCALE)))
    place = rng.random(2)
    (height, width), shown = image, np.array(tile) / (np.array(canvas) * factor)
    top, left = (1 - shown) * place
    return Window(
        round(left * width),
        round(top * height),
        max(1, round(shown[1] * width)),
        max(1, round(shown[0] * height)),
    )


def _areas(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(1)
    return areas
