"""What happens to a training sample in each phase of a run, as a table of Albumentations pipelines."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from dfine_cli.config import schema
from dfine_cli.data.crops import MIN_SIDE, IouCrop, Reframe, WindowTransform, ZoomOut
from dfine_cli.data.mosaic import make_mosaic
from dfine_cli.data.photometric import PhotometricDistort
from dfine_cli.phases import Phase
from dfine_cli.types import Samples, Size


class Augmented(NamedTuple):
    """A sample as the network gets it."""

    image: NDArray[np.uint8]
    """[3, H, W] RGB."""
    boxes: NDArray[np.float32]
    """[T, 4] cxcywh, fractions of the image."""
    labels: NDArray[np.int64]
    """[T] class index."""
    image_id: int
    original_size: Size
    """(height, width) of the file in pixels."""


class Steps(NamedTuple):
    """What happens to an image before resize and flip, in this order."""

    colours: Sequence[A.ImageOnlyTransform] = ()
    windows: Sequence[WindowTransform] = ()


def _nothing(_: schema.Augment) -> Steps:
    return Steps()


def _usual(a: schema.Augment) -> Steps:
    return Steps(
        [PhotometricDistort(a.photometric, a.channel_swap)], [ZoomOut(p=a.zoom_out), IouCrop(p=a.iou_crop)]
    )


def _after_mosaic(a: schema.Augment) -> Steps:
    # A mosaic is the other branch of zoom-out and crop: it does what both do.
    return Steps([PhotometricDistort(a.photometric, a.channel_swap)])


SINGLE: dict[Phase, Callable[[schema.Augment], Steps]] = {
    Phase.WARM: _nothing,
    Phase.DENSE: _usual,
    Phase.PLAIN: _usual,
    Phase.REFINE: _nothing,
}
"""Steps of a single image in each phase; resize, flip and the removal of tiny boxes always follow."""


class Augment:
    """The training transforms: a function of phase, index and seed.

    Args:
        samples: The data set; mosaics draw from all of it.
        knobs: Probabilities.
        size: (height, width) of the network input in pixels.
    """

    def __init__(self, samples: Samples, knobs: schema.Augment, size: Size) -> None:
        self.samples = samples
        self.knobs = knobs
        self.size = size
        self._single = {phase: self._compose(make(knobs)) for phase, make in SINGLE.items()}
        self._mosaic = self._compose(_after_mosaic(knobs))

    def __call__(self, phase: Phase, index: int, seed: int) -> Augmented:
        """Sample ``index`` transformed as ``phase`` says; the same for the same arguments."""
        rng = np.random.default_rng(seed)
        sample = self.samples[index]
        original_size = (sample.image.shape[0], sample.image.shape[1])
        pipeline = self._single[phase]
        if phase is Phase.DENSE and rng.random() < self.knobs.mosaic:
            others = rng.integers(len(self.samples), size=3).tolist()
            sample = make_mosaic([sample, *(self.samples[i] for i in others)], self.size, rng)
            pipeline = self._mosaic
        # One state for all transforms: ``set_random_seed`` would give each the same draws, so that an image is
        # flipped exactly when it is zoomed out.
        pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        done = pipeline(image=sample.image, bboxes=sample.boxes, labels=sample.labels)
        boxes_xyxy = np.asarray(done["bboxes"], np.float32).reshape(-1, 4)
        labels = np.asarray(done["labels"], np.int64).reshape(-1)
        return Augmented(
            image=np.ascontiguousarray(done["image"].transpose(2, 0, 1)),
            boxes=_to_fractions(boxes_xyxy, self.size),
            labels=labels,
            image_id=sample.image_id,
            original_size=original_size,
        )

    def _compose(self, steps: Steps) -> A.Compose:
        boxes = A.BboxParams(
            format="pascal_voc",
            label_fields=["labels"],
            min_width=MIN_SIDE,
            min_height=MIN_SIDE,
            clip=True,
            filter_invalid_bboxes=True,
            check_each_transform=False,
        )
        flips = [A.HorizontalFlip(p=self.knobs.flip), A.VerticalFlip(p=self.knobs.flip_vertical)]
        transforms = [*steps.colours, Reframe(steps.windows, self.size), *flips]
        return A.Compose(transforms, bbox_params=boxes)


def _to_fractions(boxes_xyxy: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    height, width = size
    scaled = boxes_xyxy / np.array((width, height, width, height), np.float32)
    low, high = scaled[:, :2], scaled[:, 2:]
    return np.concatenate(((low + high) / 2, high - low), 1)
