"""Samples to a batch, and the sizes of multi-scale training."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dfine_cli.data.augment import Augmented
from dfine_cli.types import Batch, Size, Target

STEP = 32


def scales(size: Size, repeats: int) -> list[Size]:
    """Sizes that multi-scale training draws from, all with equal probability.

    From three quarters of ``size`` up to it, ``repeats`` times itself, and from one and a quarter times it down
    to it, in steps of 32 of the longer side; the shorter side follows in proportion, in multiples of 32. The
    published list for 640 is 480 to 800.

    Args:
        size: (height, width) in pixels.
        repeats: How often ``size`` itself is listed; 0 gives ``[size]``.
    """
    if not repeats:
        return [size]
    longer = max(size)
    lowest, highest = int(0.75 * longer / STEP) * STEP, int(1.25 * longer / STEP) * STEP
    count = (longer - lowest) // STEP
    sides = [lowest + STEP * i for i in range(count)]
    sides += [longer] * repeats + [highest - STEP * i for i in range(count)]
    return [_in_proportion(size, side / longer) for side in sides]


def _in_proportion(size: Size, factor: float) -> Size:
    height, width = (max(STEP, round(side * factor / STEP) * STEP) for side in size)
    return height, width


class Packed(NamedTuple):
    """A batch on its way from a worker: three tensors instead of two per image, and a byte per value."""

    images: Tensor
    """[B, 3, H, W] uint8."""
    boxes: Tensor
    """[N, 4] cxcywh, fractions of the network input, of all images in order."""
    labels: Tensor
    """[N] class index."""
    counts: list[int]
    """Objects in each image."""
    image_ids: list[int]
    original_sizes: list[Size]

    def unpack(self) -> Batch:
        """The batch."""
        parts = torch.split(self.labels, self.counts), torch.split(self.boxes, self.counts)
        targets = map(Target, *parts, self.image_ids, self.original_sizes)
        return Batch(self.images, list(targets))


def collate(samples: Sequence[Augmented], size: Size, mode: Literal["nearest", "bilinear"]) -> Packed:
    """Samples of one size as a batch; fractions of boxes do not change.

    Args:
        samples: What ``Augment`` gave.
        size: (height, width) of the batch in pixels.
        mode: Interpolation where that is another size. # published: nearest
    """
    images = torch.from_numpy(np.stack([s.image for s in samples]))
    if images.shape[2:] != size:
        images = F.interpolate(images, size, mode=mode)
    return Packed(
        images,
        torch.from_numpy(np.concatenate([s.boxes for s in samples])),
        torch.from_numpy(np.concatenate([s.labels for s in samples])),
        [len(s.labels) for s in samples],
        [s.image_id for s in samples],
        [s.original_size for s in samples],
    )
