"""A small COCO data set on disk, to be broken by tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

MakeCoco = Callable[..., Path]


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
