"""How each image fares at a threshold: what to look at first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.matching import Matching


class PerImage(NamedTuple):
    """Counts at IoU 0.50, each [I] in the order of ``Truth.image_ids``. Crowds count neither way."""

    correct: NDArray[np.int64]
    """True positives."""
    wrong: NDArray[np.int64]
    """False positives."""
    missed: NDArray[np.int64]
    """False negatives."""

    @property
    def errors(self) -> NDArray[np.int64]:
        """[I] wrong and missed together."""
        return self.wrong + self.missed

    def worst(self, count: int) -> list[int]:
        """Positions of images with errors, most errors first; of equal ones the one with the fewest correct."""
        order = np.lexsort((self.correct, -self.errors))[:count]
        return [int(i) for i in order if self.errors[i]]


def count_per_image(matching: Matching, threshold: float) -> PerImage:
    """Count right, wrong and missed on every image with detections of at least ``threshold``."""
    images, count = matching.detections.images, len(matching.truth.image_ids)
    kept = matching.counted & (matching.detections.scores >= threshold)
    correct = np.bincount(images[kept & matching.correct], minlength=count)
    wrong = np.bincount(images[kept & ~matching.correct], minlength=count)
    objects = np.bincount(matching.truth.images[~matching.truth.crowd], minlength=count)
    return PerImage(correct, wrong, objects - correct)
