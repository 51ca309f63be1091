"""Is this gain real? The AP of two sets of results, with a confidence interval by bootstrap over images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.average_precision import RECALLS, UNDEFINED, class_starts
from dfine_cli.evaluation.matching import IOUS, Matching
from dfine_cli.evaluation.per_image import PerImage

RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 0
FEWEST_IMAGES = 10
"""Fewer images with a class are too alike for draws among them to say how another sample would differ."""
_ROUNDING = 1e-9
_CHUNK = 20_000_000
"""Numbers held at a time, which bounds the memory."""


class Difference(NamedTuple):
    """AP at IoU 0.50:0.95 of the two, and the interval of their difference."""

    name: str
    before: float
    after: float
    low: float
    """Bounds of the difference after - before; NaN if no resample has an object of the class."""
    high: float
    images: int
    """Images with objects of the class."""

    @property
    def change(self) -> float:
        """After - before."""
        return self.after - self.before

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where the interval leaves 0 out, else ``unclear``; or ``too few`` images."""
        if self.images < FEWEST_IMAGES:
            return "too few"
        if self.low > _ROUNDING:
            return "better"
        return "worse" if self.high < -_ROUNDING else "unclear"


class ChangedImage(NamedTuple):
    """An image with its errors, wrong and missed together, before and after."""

    image: int
    """Position in ``Truth.image_ids``."""
    before: int
    after: int


class Comparison(NamedTuple):
    """What changed from one set of results to another."""

    ap: Difference
    """Mean over classes."""
    classes: tuple[Difference, ...]
    """Classes with ground truth, by category id."""
    images: tuple[ChangedImage, ...]
    """Images whose number of errors changed, most changed first."""
    resamples: int
    confidence: float


def compare(
    before: Matching,
    after: Matching,
    images: tuple[PerImage, PerImage],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
) -> Comparison:
    """Compare two sets of results on the same ground truth.

    Images are drawn with replacement, the same for both, and AP is computed anew for each draw: the percentiles
    of its difference are the interval. It says how the gain depends on the images, not on the training seed.

    Args:
        before: Results to compare with.
        after: Results in question.
        images: Counts per image of the two, each at its own threshold.
        resamples: Draws.
        confidence: Share of draws inside the interval.
        seed: Seed of the draws.
    """
    count = len(after.truth.image_ids)
    draws = np.ones((count, 1 + resamples), np.int32)  # the first column is the data as it is
    if count:
        draws[:, 1:] = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples).T
    scores = [weighted_ap(matching, draws) for matching in (before, after)]
    names = after.truth.names
    with_objects = _images_with_objects(after)
    rows = [
        _difference(names[k], scores[0][k], scores[1][k], confidence, len(with_objects[k]))
        for k in range(len(names))
    ]
    before_mean, after_mean = (_mean_over_classes(s) for s in scores)
    changed = images[1].errors - images[0].errors
    order = [int(i) for i in np.argsort(-np.abs(changed), kind="stable") if changed[i]]
    return Comparison(
        ap=_difference("all classes", before_mean, after_mean, confidence, len(set().union(*with_objects))),
        classes=tuple(row for row in rows if row.before != UNDEFINED),
        images=tuple(ChangedImage(i, int(images[0].errors[i]), int(images[1].errors[i])) for i in order),
        resamples=resamples,
        confidence=confidence,
    )


def weighted_ap(matching: Matching, weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """AP [K, R] at IoU 0.50:0.95 if image i occurred ``weights[i, r]`` times; NaN for a class without objects.

    The average over recall levels is COCO's: a level counts with the best precision at its recall or above.

    Args:
        matching: Detections and their objects.
        weights: [I, R]
    """
    found, truth = matching.detections, matching.truth
    rows, objects = matching.matches
    count = len(truth.category_ids)
    starts, ends = class_starts(found.classes, count), class_starts(found.classes[rows], count)
    ap = np.full((count, weights.shape[1]), np.nan)
    for k in range(count):
        of_class = truth.images[(truth.classes == k) & ~truth.crowd]
        if not len(of_class):
            continue
        here = slice(ends[k], ends[k + 1])
        images = found.images[starts[k] : starts[k + 1]]
        hits = objects[here, 0]  # [n, T]
        on_crowd = np.zeros(hits.shape, np.bool_)
        on_crowd[hits >= 0] = truth.crowd[hits[hits >= 0]]
        step = max(1, _CHUNK // max(1, len(images)))
        for first in range(0, weights.shape[1], step):
            part = weights[:, first : first + step]
            ap[k, first : first + step] = _class_ap(
                part, images, rows[here] - starts[k], (hits >= 0) & ~on_crowd, on_crowd, part[of_class].sum(0)
            )
    return ap


def _class_ap(
    weights: NDArray[np.int32],
    images: NDArray[np.int64],
    places: NDArray[np.int64],
    right: NDArray[np.bool_],
    on_crowd: NDArray[np.bool_],
    positives: NDArray[np.int64],
) -> NDArray[np.float64]:
    """AP [R] of one class.

    Args:
        weights: [I, R]
        images: [n] image of each detection, best first.
        places: [m] those of them that found anything.
        right: [m, T] found an object that counts.
        on_crowd: [m, T] found a crowd, and do not count.
        positives: [R] objects to find.
    """
    last = places[right.any(1)].max(initial=-1) + 1
    kept = weights[images[:last]].cumsum(0, dtype=np.int32)
    total = np.zeros(weights.shape[1])
    for t in range(len(IOUS)):
        hits = places[right[:, t]]
        if not len(hits):
            continue
        counted = kept[hits]
        crowd = places[on_crowd[:, t]]
        if len(crowd):
            left_out = np.concatenate(
                (np.zeros((1, weights.shape[1]), np.int32), weights[images[crowd]].cumsum(0))
            )
            counted = counted - left_out[np.searchsorted(crowd, hits)]
        correct = weights[images[hits]].cumsum(0, dtype=np.int32)
        precision = correct / np.maximum(counted, 1)
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        reached = np.searchsorted(RECALLS, correct / np.maximum(positives, 1), side="right")
        levels = np.where(correct > 0, reached, 0)
        total += (precision * np.diff(levels, axis=0, prepend=0)).sum(0) / len(RECALLS)
    return np.where(positives > 0, total / len(IOUS), np.nan)


def _images_with_objects(matching: Matching) -> list[set[int]]:
    """For each class the images that have an object of it that counts."""
    found: list[set[int]] = [set() for _ in matching.truth.names]
    counts = ~matching.truth.crowd
    for k, image in zip(
        matching.truth.classes[counts].tolist(), matching.truth.images[counts].tolist(), strict=True
    ):
        found[k].add(image)
    return found


def _mean_over_classes(ap: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R] mean of [K, R] over the classes that have objects; NaN where none has."""
    defined = (~np.isnan(ap)).sum(0)
    mean: NDArray[np.float64] = np.where(defined > 0, np.nansum(ap, 0) / np.maximum(defined, 1), np.nan)
    return mean


def _difference(
    name: str, before: NDArray[np.float64], after: NDArray[np.float64], confidence: float, images: int
) -> Difference:
    """Both APs as they are (the first column), and the interval over the draws (the others)."""
    if np.isnan(before[0]):
        return Difference(name, UNDEFINED, UNDEFINED, np.nan, np.nan, images)
    draws = (after - before)[1:]
    draws = draws[~np.isnan(draws)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, (tail, 1 - tail)).tolist() if len(draws) else (np.nan, np.nan)
    return Difference(name, float(before[0]), float(after[0]), low, high, images)
