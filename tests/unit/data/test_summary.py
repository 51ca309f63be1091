"""Figures of an annotation file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dfine_cli.data.coco import load_coco
from dfine_cli.data.summary import ClassCount, summarise

MakeCoco = Callable[..., Path]


def test_counts_and_sizes(make_coco: MakeCoco) -> None:
    images = [
        {"id": 1, "file_name": "a", "width": 100, "height": 50},
        {"id": 2, "file_name": "b", "width": 200, "height": 100},
        {"id": 3, "file_name": "c", "width": 640, "height": 640},
        {"id": 4, "file_name": "d"},  # size not stated
    ]
    shapes = [(1, 2, 10, 5), (1, 5, 50, 25), (2, 2, 200, 100), (4, 2, 10, 10), (1, 5, 0, 9), (9, 2, 5, 5)]
    boxes = [
        {"id": i, "image_id": image, "category_id": category, "bbox": [0, 0, w, h], "iscrowd": 0}
        for i, (image, category, w, h) in enumerate(shapes)
    ]
    boxes.append(boxes[0] | {"id": 99, "iscrowd": 1})
    categories = [{"id": 7, "name": "none"}, {"id": 5, "name": "b"}, {"id": 2, "name": "a"}]
    path = make_coco(images=images, annotations=boxes, categories=categories)
    summary = summarise(load_coco(path), (160, 160))
    assert (summary.images, summary.boxes, summary.most_boxes) == (4, 4, 2)
    assert (summary.boxes_per_image, summary.images_without_boxes) == (1.0, 1)
    assert summary.classes == (
        ClassCount("a", 2, 3, 3),
        ClassCount("b", 5, 1, 1),
        ClassCount("none", 7, 0, 0),
    )
    # at 160x160: 16x16 small, 80x80 medium, 160x160 large; the image of unknown size does not count
    assert (summary.small, summary.medium, summary.large) == pytest.approx((1 / 3,) * 3)
    assert summary.median_side_px == pytest.approx(80)
    sizes = (summary.smallest_image, summary.median_image, summary.largest_image)
    assert sizes == ((50, 100), (100, 200), (640, 640))
    assert json.loads(json.dumps(summary.to_dict()))["classes"][0]["name"] == "a"


def test_nothing_at_all(make_coco: MakeCoco) -> None:
    summary = summarise(load_coco(make_coco(images=[], annotations=[])), (320, 320))
    assert (summary.images, summary.boxes, summary.boxes_per_image, summary.most_boxes) == (0, 0, 0, 0)
    assert (summary.small, summary.median_side_px, summary.median_image) == (0, 0, (0, 0))


def test_real_data(shared: Path) -> None:
    file = load_coco(shared / "data/bccd/annotations/instances_train.json")
    summary = summarise(file, (320, 320))
    assert [(c.name, c.boxes) for c in summary.classes] == [("RBC", 2381), ("WBC", 214), ("Platelets", 209)]
    assert summary.most_boxes == 28
    assert summary.small + summary.medium + summary.large == pytest.approx(1)
    assert summary.median_side_px == pytest.approx(58.9, abs=0.1)
