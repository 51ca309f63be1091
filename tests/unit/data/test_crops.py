"""Zoom-out, IoU crop and both in one."""

import random
from collections.abc import Callable, Sequence

import albumentations as A
import numpy as np
import pytest

from dfine_cli.data.crops import Cut, IouCrop, Reframe, WindowTransform, ZoomOut
from dfine_cli.data.window import Window, resize
from dfine_cli.types import Sample

BOXES = [(10, 20, 60, 70), (90, 15, 150, 60), (30, 80, 120, 110)]
LABELS = [0, 1, 2]


def run(
    transforms: Sequence[A.BasicTransform], sample: Sample, seed: int
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Image, boxes xyxy in pixels and labels after transforms that share one random state."""
    boxes = A.BboxParams(format="pascal_voc", label_fields=["labels"], min_width=0, min_height=0)
    pipeline = A.Compose(list(transforms), bbox_params=boxes)
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
    done = pipeline(image=sample.image, bboxes=sample.boxes, labels=sample.labels)
    return done["image"], np.array(done["bboxes"]).reshape(-1, 4), np.array(done["labels"], int).tolist()


@pytest.mark.parametrize(
    "transform", [ZoomOut(p=1), IouCrop(p=1), Reframe([ZoomOut(), IouCrop()], (96, 160))]
)
def test_boxes_stay_on_their_objects(
    transform: WindowTransform, draw: Callable[..., Sample], find: Callable[..., np.ndarray]
) -> None:
    sample, seen = draw((120, 160), BOXES, LABELS), 0
    for seed in range(60):
        image, boxes, labels = run([transform], sample, seed)
        for box, label in zip(boxes, labels, strict=True):
            if min(box[2:] - box[:2]) >= 3:  # an object of two pixels is a blur without an edge
                assert np.abs(find(image, label) - box).max() <= 1, (seed, label)
                seen += 1
    assert seen > 60


def test_zoom_out_copies_the_image_onto_black(draw: Callable[..., Sample]) -> None:
    sample = draw((120, 160), BOXES, LABELS)
    factors = []
    for seed in range(200):
        image, boxes, labels = run([ZoomOut(p=1)], sample, seed)
        factors.append(image.shape[0] / 120)
        left, top = np.round(boxes[0, :2] - BOXES[0][:2]).astype(int)
        assert np.array_equal(image[top : top + 120, left : left + 160], sample.image)
        assert image.sum() == sample.image.sum()
        assert labels == LABELS
    # uniform on [1, 4]: mean 2.5, standard error of 200 draws 0.06
    assert min(factors) >= 1 and max(factors) <= 4 and abs(np.mean(factors) - 2.5) < 0.25


def test_iou_crop_draws_legal_windows_and_keeps_objects_by_centre() -> None:
    boxes, crop, whole = np.array(BOXES, float), IouCrop(p=1), 0
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    for seed in range(400):
        crop.set_random_state(np.random.default_rng(seed), random.Random(seed))
        window, stays = crop.draw((120, 160), boxes)
        low = np.array((window.left, window.top))
        high = low + np.array((window.width, window.height))
        assert (low >= 0).all() and (high <= (160, 120)).all()
        if tuple(window) == (0, 0, 160, 120):
            whole += 1
            assert stays.all()
            continue
        assert stays.any(), "a crop shows at least one object"
        assert (stays == ((centres > low) & (centres < high)).all(1)).all()
        assert 0.5 <= window.width / window.height <= 2
        # floors of 0.3 of the sides
        assert window.width >= 48 and window.height >= 36
    # One draw in seven asks for the whole image, and more end there when the others cannot be satisfied.
    assert 400 / 7 - 25 < whole < 200


def test_the_pipeline_drops_objects_with_their_centre_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = (0, 0, 100, 60), (70, 10, 160, 50)  # centres at 50 and 115
    cut = Cut(Window(0, 0, 80, 60), np.array([True, False]))
    monkeypatch.setattr(IouCrop, "draw", lambda self, size, boxes_xyxy: cut)
    sample = Sample(
        np.zeros((60, 160, 3), np.uint8), np.array([inside, outside], np.float32), np.array([4, 5]), 0
    )
    for transform in (IouCrop(p=1), Reframe([IouCrop(p=1)], (60, 80))):
        image, boxes, labels = run([transform], sample, 0)
        assert image.shape == (60, 80, 3)
        assert labels == [4]
        assert np.allclose(boxes, [(0, 0, 80, 60)])


@pytest.mark.parametrize("least", [0.1, 0.5, 0.7])
def test_iou_crop_reaches_the_overlap_it_drew(monkeypatch: pytest.MonkeyPatch, least: float) -> None:
    monkeypatch.setattr(IouCrop, "OVERLAPS", (least,))
    crop, box = IouCrop(p=1), np.array((20.0, 20, 110, 100))
    for seed in range(40):
        crop.set_random_state(np.random.default_rng(seed), random.Random(seed))
        (left, top, width, height), stays = crop.draw((120, 160), box[None])
        assert stays.all()
        if (width, height) == (160, 120):
            continue  # gave up
        low, high = np.maximum(box[:2], (left, top)), np.minimum(box[2:], (left + width, top + height))
        both = (high - low).clip(0).prod()
        assert both / (width * height + 90 * 80 - both) >= least


def test_iou_crop_of_an_empty_image_is_the_image(draw: Callable[..., Sample]) -> None:
    sample = draw((50, 60))
    for seed in range(10):
        image, boxes, labels = run([IouCrop(p=1)], sample, seed)
        assert np.array_equal(image, sample.image)
        assert not len(boxes) and not labels


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 3), (7, 5)])
def test_tiny_and_thin_images_survive(size: tuple[int, int], draw: Callable[..., Sample]) -> None:
    sample = draw(size, [(0, 0, size[1], size[0])], [0])
    for seed in range(40):
        image, boxes, _ = run([Reframe([ZoomOut(), IouCrop()], (64, 32))], sample, seed)
        assert image.shape == (64, 32, 3)
        assert (boxes >= 0).all() and (boxes <= (32, 64, 32, 64)).all()


def test_reframe_is_its_parts_and_a_resize() -> None:
    rng = np.random.default_rng(1)
    smooth = resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (120, 160))
    sample = Sample(smooth, np.array(BOXES, np.float32), np.array(LABELS), 1)
    for seed in range(40):
        image, boxes, labels = run([ZoomOut(), IouCrop()], sample, seed)
        fused, fused_boxes, fused_labels = run([Reframe([ZoomOut(), IouCrop()], (96, 80))], sample, seed)
        assert labels == fused_labels
        expected = boxes * np.array((80 / image.shape[1], 96 / image.shape[0]) * 2)
        # The edge of a zoomed-out image lies on a whole pixel, so it may move by half a pixel.
        assert np.abs(fused_boxes - expected).max() <= 0.75, seed
        # and pixels on that edge are not mixed with the black: a few of 7680 differ
        assert np.abs(fused.astype(int) - resize(image, (96, 80))).mean() < 4, seed


def test_objects_of_which_less_than_a_pixel_is_left_are_dropped() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array([(10, 10, 10.6, 40), (10, 10, 11, 11), (0, 0, 100, 100)], np.float32)
    _, kept, labels = run([Reframe([], (400, 400))], Sample(image, boxes, np.array([0, 1, 2]), 0), 0)
    assert labels == [1, 2]
    assert np.allclose(kept, [(40, 40, 44, 44), (0, 0, 400, 400)], atol=1e-3)


def test_probability_zero_is_the_resize_alone() -> None:
    image = np.random.default_rng(2).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    sample = Sample(image, np.array([(1, 2, 30, 40)], np.float32), np.array([0]), 0)
    for seed in range(5):
        done, boxes, _ = run([Reframe([ZoomOut(p=0), IouCrop(p=0)], (64, 64))], sample, seed)
        assert np.array_equal(done, resize(image, (64, 64)))
        assert np.allclose(boxes, [(64 / 90, 128 / 70, 30 * 64 / 90, 40 * 64 / 70)], atol=1e-4)
