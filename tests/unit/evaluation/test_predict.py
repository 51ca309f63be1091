"""Detections over a dataset as COCO results."""

import json

import numpy as np
import pytest
from PIL import Image

from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import CocoDataset, load_coco
from dfine_cli.errors import DfineError
from dfine_cli.evaluation.coco_eval import evaluate
from dfine_cli.evaluation.predict import predict, to_results, write_results
from dfine_cli.types import Detections

CLASSES = ClassMap(("disc", "star"), (3, 20), "auto")


class Quadrant:
    """Finds the quadrant of each image that is brighter than the rest."""

    name, classes, input_size, exif, operating_point = "quadrant", CLASSES, (32, 64), "apply", None

    def detect(self, images, sizes):
        assert images.shape[1:] == (3, 32, 64) and images.dtype == np.uint8
        found = []
        for image, (height, width) in zip(images, sizes, strict=True):
            means = image.mean(0).reshape(2, 16, 2, 32).mean((1, 3))
            row, column = np.unravel_index(means.argmax(), (2, 2))
            x, y = column * width / 2, row * height / 2
            box = np.array([[x, y, x + width / 2, y + height / 2]], np.float32)
            found.append(Detections(box, np.array([0.75], np.float32), np.array([1])))
        return found


@pytest.fixture
def dataset_file(tmp_path):
    """Five images of different sizes, each with one bright quadrant that is an object of category 20."""
    images, annotations = [], []
    for i in range(5):
        width, height = 40 + 20 * i, 60
        pixels = np.full((height, width, 3), 40, np.uint8)
        x, y, w, h = (i % 2) * width // 2, (i // 2 % 2) * height // 2, width // 2, height // 2
        pixels[y : y + h, x : x + w] = 220
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        image_id = 100 - 7 * i
        images.append({"id": image_id, "file_name": f"{i}.png", "width": width, "height": height})
        box = {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
        annotations.append({"id": i, "image_id": image_id, "category_id": 20, **box})
    categories = [{"id": 20, "name": "star"}, {"id": 3, "name": "disc"}]
    file = tmp_path / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


@pytest.fixture
def dataset(dataset_file):
    return CocoDataset(load_coco(dataset_file), dataset_file.parent, CLASSES)


@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (2, 0), (8, 0), (2, 1)])
def test_results_have_original_ids_and_pixels(dataset, dataset_file, batch, workers):
    results = predict(Quadrant(), dataset, batch=batch, workers=workers)
    assert [r["image_id"] for r in results] == [100, 93, 86, 79, 72]
    assert {r["category_id"] for r in results} == {20}
    assert results[1]["bbox"] == [30, 0, 30, 30]
    assert evaluate(dataset_file, results).ap == pytest.approx(1)


def test_progress_counts_images(dataset):
    steps = []
    predict(Quadrant(), dataset, batch=2, workers=0, on_progress=lambda *step: steps.append(step))
    assert steps == [(2, 5), (4, 5), (5, 5)]


def test_an_image_is_scored_once_though_a_bad_neighbour_was_skipped(dataset_file):
    (dataset_file.parent / "1.png").write_bytes(b"not an image")
    lenient = CocoDataset(load_coco(dataset_file), dataset_file.parent, CLASSES, on_bad_image="skip")
    results = predict(Quadrant(), lenient, batch=2, workers=0)
    assert sorted(r["image_id"] for r in results) == [72, 79, 86, 100]


def test_results_are_plain_and_exact():
    found = Detections(
        np.array([[1.1, 2.2, 11.3, 22.7], [-3, 0, 5, 5]], np.float32),
        np.array([0.9, 0.1], np.float32),
        np.array([0, 1]),
    )
    first, second = to_results(7, found, CLASSES.category_ids)
    assert json.loads(json.dumps([first, second])) == [first, second]
    assert (first["image_id"], first["category_id"], second["category_id"]) == (7, 3, 20)
    assert np.float32(first["bbox"][2]) == np.float32(11.3) - np.float32(1.1)
    assert second["bbox"] == [-3, 0, 8, 5]  # parts outside the image stay
    assert found.boxes[0, 2] == np.float32(11.3)  # the detections are not changed


def test_results_are_written_whole(tmp_path):
    file = tmp_path / "predictions" / "val.json"
    write_results(file, [{"image_id": 1}])
    write_results(file, [{"image_id": 2}])
    assert json.loads(file.read_text()) == [{"image_id": 2}]
    assert [p.name for p in file.parent.iterdir()] == ["val.json"]


def test_results_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DfineError, match=r"val\.json"):
        write_results(tmp_path / "file" / "val.json", [])
