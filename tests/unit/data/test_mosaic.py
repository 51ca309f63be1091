"""Mosaics of four samples."""

from collections.abc import Callable

import numpy as np
import pytest

from dfine_cli.data import mosaic as mosaic_module
from dfine_cli.data.mosaic import GREY, KEPT, make_mosaic
from dfine_cli.types import Sample, Size

Draw = Callable[..., Sample]
Find = Callable[..., np.ndarray]


@pytest.mark.parametrize("size", [(128, 128), (96, 192), (192, 96)])
def test_boxes_stay_on_their_objects_and_labels_with_their_images(size: Size, draw: Draw, find: Find) -> None:
    shapes = ((100, 140), (300, 200), (64, 64), (90, 400))
    samples = [
        draw((h, w), [(w // 4, h // 4, 3 * w // 4, 3 * h // 4)], [label], image_id=10 + label)
        for label, (h, w) in enumerate(shapes)
    ]
    seen, corners = 0, ((0, 0), (1, 0), (0, 1), (1, 1))
    for seed in range(60):
        mosaic = make_mosaic(samples, size, np.random.default_rng(seed))
        assert mosaic.image.shape == (*size, 3) and mosaic.image_id == 10
        assert len(set(mosaic.labels.tolist())) == len(mosaic.labels), "one object per image"
        limits = np.array((size[1], size[0]))
        for box, label in zip(mosaic.boxes, mosaic.labels.tolist(), strict=True):
            right, down = corners[label]
            centre = (box[:2] + box[2:]) / 2 / limits
            assert centre[0] > 0.3 if right else centre[0] < 0.7
            assert centre[1] > 0.3 if down else centre[1] < 0.7
            if min(box[2:] - box[:2]) >= 3:
                assert np.abs(find(mosaic.image, label) - box).max() <= 1.2, (seed, label)
                seen += 1
    assert seen > 120


def test_all_objects_are_inside_the_canvas(draw: Draw) -> None:
    samples = [draw((50, 60), [(0, 0, 60, 50), (0, 0, 3, 3), (57, 47, 60, 50)], [0, 1, 2])] * 4
    for seed in range(60):
        boxes = make_mosaic(samples, (64, 96), np.random.default_rng(seed)).boxes
        assert boxes.dtype == np.float32
        assert (boxes >= 0).all() and (boxes <= (96, 64, 96, 64)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_objects_of_which_too_little_is_left_are_dropped(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosaic_module, "SCALE", (1.0, 1.0))
    sample, dropped, cut = draw((100, 100), [(60, 60, 90, 90)], [0]), 0, 0
    for seed in range(100):
        kept = areas(make_mosaic([sample] * 4, (100, 100), rng(seed)).boxes)
        with monkeypatch.context() as patch:
            patch.setattr(mosaic_module, "KEPT", 0.0)
            seen = areas(make_mosaic([sample] * 4, (100, 100), rng(seed)).boxes)
        assert np.allclose(kept, seen[seen >= KEPT * 30 * 30])
        dropped += len(seen) - len(kept)
        cut += int((kept < 890).sum())
    assert dropped > 10 and cut > 10


def test_images_smaller_than_their_tile_lie_on_grey() -> None:
    black = Sample(np.zeros((8, 8, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), 0)
    values = {v for seed in range(20) for v in np.unique(make_mosaic([black] * 4, (64, 64), rng(seed)).image)}
    assert values == {0, GREY}


def test_scale_of_objects_is_half_to_one_and_a_quarter(draw: Draw) -> None:
    sample, ratios = draw((200, 100), [(45, 95, 55, 105)], [0]), []
    for seed in range(100):
        boxes = make_mosaic([sample] * 4, (128, 128), rng(seed)).boxes
        inner = boxes[(boxes[:, :2] > 1).all(1)]
        ratios += ((inner[:, 2] - inner[:, 0]) / (10 * 128 / 100)).tolist()
    # cut objects are smaller, hence the median
    assert max(ratios) < 1.3 and 0.7 < np.median(ratios) < 0.9


def test_one_seed_is_one_mosaic(draw: Draw) -> None:
    samples = [draw((40, 50), [(5, 5, 30, 30)], [i]) for i in range(4)]
    one, two, other = (make_mosaic(samples, (64, 64), rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(one.image, two.image) and np.array_equal(one.boxes, two.boxes)
    assert not np.array_equal(one.image, other.image)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)
