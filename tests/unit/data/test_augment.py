"""What each phase does to a sample."""

from collections.abc import Callable

import numpy as np
import pytest

from dfine_cli.config.schema import Augment as Knobs
from dfine_cli.data.augment import Augment, Augmented
from dfine_cli.data.window import resize
from dfine_cli.phases import Phase
from dfine_cli.types import Sample, Size

BOXES = [(10, 20, 60, 70), (90, 15, 150, 60), (30, 80, 120, 110)]
NO_COLOURS = Knobs(photometric=0)
NOTHING = Knobs(photometric=0, zoom_out=0, iou_crop=0, flip=0)


class Images(list[Sample]):
    """A data set in memory."""


@pytest.fixture
def images(draw: Callable[..., Sample]) -> Images:
    return Images(draw((120, 160), BOXES, [0, 1, 2], image_id=i) for i in range(4))


def pixels(boxes_cxcywh: np.ndarray, size: Size) -> np.ndarray:
    centre, half = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:] / 2
    return np.concatenate((centre - half, centre + half), 1) * np.array((size[1], size[0]) * 2)


def picture(done: Augmented) -> np.ndarray:
    return done.image.transpose(1, 2, 0)


def same(a: Augmented, b: Augmented) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("size", [(96, 96), (64, 160), (160, 96), (320, 320)])
@pytest.mark.parametrize("phase", list(Phase))
def test_boxes_stay_on_their_objects(
    phase: Phase, size: Size, images: Images, find: Callable[..., np.ndarray]
) -> None:
    augment, seen = Augment(images, NO_COLOURS, size), 0
    for seed in range(25):
        done = augment(phase, seed % 4, seed)
        assert done.image.shape == (3, *size) and done.image.dtype == np.uint8
        assert done.boxes.dtype == np.float32 and done.labels.dtype == np.int64
        for box, label in zip(pixels(done.boxes, size), done.labels.tolist(), strict=True):
            if min(box[2:] - box[:2]) >= 3:
                assert np.abs(find(picture(done), label) - box).max() <= 1.2, (seed, label)
                seen += 1
    assert seen > 25


@pytest.mark.parametrize("phase", list(Phase))
def test_no_box_leaves_the_image(phase: Phase, draw: Callable[..., Sample]) -> None:
    borders = [(0, 0, 2, 2), (158, 118, 160, 120), (0, 0, 160, 120), (0, 119, 160, 120)]
    images = Images([draw((120, 160), borders, [0, 1, 2, 3])] * 4)
    augment = Augment(images, Knobs(mosaic=0.5), (64, 96))
    for seed in range(60):
        boxes = augment(phase, 0, seed).boxes
        corners = pixels(boxes, (1, 1))
        assert corners.min(initial=0) >= -1e-6 and corners.max(initial=1) <= 1 + 1e-6  # float32 of a half
        sides = boxes[:, 2:] * (96, 64)
        assert (sides >= 1 - 1e-3).all(), "sanitised"


@pytest.mark.parametrize("phase", [Phase.WARM, Phase.REFINE])
def test_phases_without_augmentation_resize_and_flip(phase: Phase, images: Images) -> None:
    augment = Augment(images, Knobs(photometric=1, zoom_out=1, iou_crop=1, mosaic=1), (96, 96))
    plain = resize(images[0].image, (96, 96))
    flips = [np.array_equal(picture(augment(phase, 0, seed)), plain[:, ::-1]) for seed in range(100)]
    stays = [np.array_equal(picture(augment(phase, 0, seed)), plain) for seed in range(100)]
    assert all(a != b for a, b in zip(flips, stays, strict=True))
    assert 30 <= sum(flips) <= 70  # four standard deviations around 50


def test_all_probabilities_zero_are_the_resize(images: Images) -> None:
    augment = Augment(images, NOTHING, (96, 128))
    for seed in range(5):
        done = augment(Phase.PLAIN, 1, seed)
        assert np.array_equal(picture(done), resize(images[1].image, (96, 128)))
        expected = np.array(BOXES) * np.array((128 / 160, 96 / 120) * 2)
        assert np.allclose(pixels(done.boxes, (96, 128)), expected, atol=1e-3)
        assert done.labels.tolist() == [0, 1, 2]
        assert (done.image_id, done.original_size) == (1, (120, 160))


def test_zoom_out_crop_and_flip_are_drawn_independently() -> None:
    halves = np.full((60, 80, 3), (200, 100, 100), np.uint8)
    halves[:, 40:] = (100, 200, 100)
    sample = Sample(halves, np.array([(5, 5, 75, 55)], np.float32), np.array([0]), 0)
    knobs = Knobs(photometric=0, zoom_out=0.5, iou_crop=0.5, flip=0.5)
    augment, events = Augment(Images([sample]), knobs, (64, 64)), []
    for seed in range(600):
        done = augment(Phase.PLAIN, 0, seed)
        image = picture(done).astype(int)
        redness = (image[..., 0] - image[..., 1])[image.sum(-1) > 0]
        columns = np.broadcast_to(np.arange(64), (64, 64))[image.sum(-1) > 0]
        zoomed = (image.sum(-1) == 0).any()
        events.append((zoomed, np.cov(redness, columns)[0, 1] > 0))
    zoomed, flipped = np.transpose(events)
    # Crops of a zoomed-out image may cut all the black off, hence a little less than 0.5.
    assert 0.36 < zoomed.mean() < 0.56 and 0.42 < flipped.mean() < 0.58
    assert abs(np.corrcoef(zoomed, flipped)[0, 1]) < 0.16  # four standard errors


def test_the_same_arguments_give_the_same_sample_whatever_ran_before(images: Images) -> None:
    one, two = (Augment(images, Knobs(mosaic=0.5), (96, 96)) for _ in range(2))
    first = {(phase, seed): one(phase, seed % 4, seed) for phase in Phase for seed in range(8)}
    for (phase, seed), sample in reversed(first.items()):
        assert same(two(phase, seed % 4, seed), sample)
    assert not same(one(Phase.PLAIN, 0, 0), one(Phase.PLAIN, 0, 1))


def test_samples_are_not_written_to(images: Images) -> None:
    before = [Sample(s.image.copy(), s.boxes.copy(), s.labels.copy(), s.image_id) for s in images]
    for size in ((120, 160), (96, 96)):
        augment = Augment(images, Knobs(mosaic=0.5), size)
        for phase in Phase:
            for seed in range(10):
                augment(phase, seed % 4, seed).image[:] = 0
    for sample, copy in zip(images, before, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(sample, copy, strict=True))


@pytest.mark.parametrize("phase", list(Phase))
def test_images_without_objects(phase: Phase, draw: Callable[..., Sample]) -> None:
    augment = Augment(Images([draw((50, 70))]), Knobs(mosaic=0.5), (64, 64))
    for seed in range(10):
        done = augment(phase, 0, seed)
        assert done.boxes.shape == (0, 4) and done.labels.shape == (0,)


def test_mosaic_has_its_probability_and_only_in_the_dense_phase(draw: Callable[..., Sample]) -> None:
    images = Images(draw((64, 64), [(2, 2, 62, 62)], [i]) for i in range(6))
    augment = Augment(images, Knobs(photometric=0, zoom_out=0, iou_crop=0, mosaic=0.5), (64, 64))

    def share(phase: Phase) -> float:
        return float(np.mean([len(augment(phase, 0, seed).labels) > 1 for seed in range(200)]))

    assert 0.36 < share(Phase.DENSE) < 0.64  # four standard errors
    assert share(Phase.PLAIN) == share(Phase.WARM) == share(Phase.REFINE) == 0


def test_photometric_distortion_leaves_the_zoomed_out_border_black(images: Images) -> None:
    augment = Augment(images, Knobs(photometric=1, zoom_out=1, iou_crop=0), (96, 96))
    for seed in range(10):
        corners = augment(Phase.PLAIN, 0, seed).image[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corners.max(0) == 0).sum() >= 3  # the image can touch one corner
