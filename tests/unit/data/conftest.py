"""A small COCO data set on disk, to be broken by tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dfine_cli.types import Sample

MakeCoco = Callable[..., Path]
COLOURS = np.array(
    ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)), np.uint8
)
"""Colour of an object by its label; the background is dark grey."""


@pytest.fixture
def make_coco(tmp_path: Path) -> MakeCoco:
    """Write images and an annotation file; every argument replaces a part of a valid one.

    The images are 40 wide and 30 high, named ``0.png``, ``1.png``, …, with one box each.
    """

    def make(folder: str = "train", *, json_path: str | None = None, count: int = 3, **parts: Any) -> Path:
        images = [{"id": i + 1, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(count)]
        boxes = [
            {
                "id": i + 1,
                "image_id": i + 1,
                "category_id": 1 + i % 2,
                "bbox": [5, 6, 10 + i, 8],
                "iscrowd": 0,
            }
            for i in range(count)
        ]
        content: dict[str, Any] = {
            "images": images,
            "annotations": boxes,
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        content.update(parts)
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.full((30, 40, 3), (i * 20) % 256, np.uint8)
            pixels[: len(folder)] = 255  # files of different splits differ
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
        path = tmp_path / (json_path or f"{folder}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
        return path

    return make


@pytest.fixture
def draw() -> Callable[..., Sample]:
    """Draw a sample whose objects are filled rectangles in the colours of their labels."""

    def make(size: tuple[int, int], boxes_xyxy: Any = (), labels: Any = (), image_id: int = 7) -> Sample:
        image = np.full((*size, 3), 40, np.uint8)
        for (x1, y1, x2, y2), label in zip(boxes_xyxy, labels, strict=True):
            image[y1:y2, x1:x2] = COLOURS[label]
        boxes = np.array(boxes_xyxy, np.float32).reshape(-1, 4)
        return Sample(image, boxes, np.array(labels, np.int64), image_id)

    return make


@pytest.fixture
def find() -> Callable[[np.ndarray, int], np.ndarray]:
    """Find the box [4] xyxy in pixels around the colour of a label in an image [H, W, 3]; NaN if it is absent."""

    def locate(image: np.ndarray, label: int) -> np.ndarray:
        on = COLOURS[label] > 0
        pixels = image.astype(int)
        mask = (
            pixels[..., on].min(-1) - pixels[..., ~on].max(-1) > 107
        )  # half of 255 - 40: between both edges
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return np.full(4, np.nan)
        return np.array((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), float)

    return locate
