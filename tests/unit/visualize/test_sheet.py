"""Contact sheets."""

import numpy as np
import pytest
from PIL import Image

from dfine_cli.errors import DfineError
from dfine_cli.types import Detections, Sample
from dfine_cli.visualize.draw import class_colour
from dfine_cli.visualize.sheet import TILE, make_sheet

NAMES = ["disc", "square", "star"]


def sample(height, width, labels=(0,), image_id=1):
    boxes = np.array([[0.2 * width, 0.3 * height, 0.6 * width, 0.8 * height]] * len(labels), np.float32)
    image = np.full((height, width, 3), 90, np.uint8)
    return Sample(image, boxes.reshape(-1, 4), np.array(labels, np.int64), image_id)


def found(labels, scores):
    boxes = np.array([[10, 12, 40, 44]] * len(labels), np.float32).reshape(-1, 4)
    return Detections(boxes, np.array(scores, np.float32), np.array(labels, np.int64))


def pixels(path):
    return np.asarray(Image.open(path))


def has(picture, colour):
    return bool((picture == colour).all(-1).any())


def test_sheet_shows_truth_and_predictions_of_every_image(tmp_path):
    file = tmp_path / "new" / "sheet.png"
    make_sheet(
        [sample(192, 192), sample(192, 192), sample(192, 192)],
        [found([1], [0.9]), found([], []), found([2, 2], [0.8, 0.2])],
        NAMES,
        file,
        0.5,
    )
    picture = pixels(file)
    assert picture.shape[0] > 2 * TILE and picture.shape[1] > 4 * TILE  # two rows of two pairs
    assert all(has(picture, class_colour(label)) for label in range(3))


def test_predictions_below_the_threshold_are_left_out(tmp_path):
    file = tmp_path / "sheet.png"
    make_sheet([sample(100, 100)], [found([1], [0.4])], NAMES, file, 0.5)
    assert has(pixels(file), class_colour(0))
    assert not has(pixels(file), class_colour(1))  # neither a box nor an entry in the legend


@pytest.mark.parametrize(
    "sizes",
    [[(100, 400)], [(400, 100)], [(3, 5)], [(200, 300), (300, 200)], [(1500, 2000)]],
)
def test_images_of_any_shape_fit(tmp_path, sizes):
    file = tmp_path / "sheet.png"
    make_sheet([sample(*s) for s in sizes], [found([0], [0.9])] * len(sizes), NAMES, file)
    height, width = pixels(file).shape[:2]
    assert height <= TILE + 150
    assert width <= 4 * TILE + 150


def test_nothing_found_and_nothing_there(tmp_path):
    file = tmp_path / "sheet.png"
    make_sheet([sample(64, 64, labels=())], [found([], [])], NAMES, file)
    assert pixels(file).shape[0] > TILE


def test_no_images_is_an_error(tmp_path):
    with pytest.raises(DfineError, match="no image to draw"):
        make_sheet([], [], NAMES, tmp_path / "sheet.png")


def test_unwritable_place_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DfineError, match=r"sheet\.png"):
        make_sheet([sample(64, 64)], [found([], [])], NAMES, tmp_path / "file" / "sheet.png")
