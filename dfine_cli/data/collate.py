"""Samples to a batch, and the sizes of multi-scale training."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F

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


def collate(samples: Sequence[Augmented], size: Size, mode: Literal["nearest", "bilinear"]) -> Batch:
    """Samples of one size as a batch of images [B, 3, H, W] uint8; fractions of boxes do not change.

    Args:
        samples: What ``Augment`` gave.
        size: (height, width) of the batch in pixels.
        mode: Interpolation where that is another size. # published: nearest
    """
    images = torch.stack([torch.from_numpy(s.image) for s in samples])
    if images.shape[2:] != size:
        images = F.interpolate(images, size, mode=mode)
    targets = [
        Target(torch.from_numpy(s.labels), torch.from_numpy(s.boxes), s.image_id, s.original_size)
        for s in samples
    ]
    return Batch(images, targets)
