"""Precision, recall and F1 over score thresholds at IoU 0.50, and the threshold with the best F1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.average_precision import class_starts
from dfine_cli.evaluation.matching import Matching

GRID: NDArray[np.float64] = np.linspace(0, 1, 101)
"""[S] thresholds at which curves are read."""


class OperatingPoint(NamedTuple):
    """The threshold with the best F1, and what it gives: detections with this score or more are kept."""

    threshold: float
    precision: float
    recall: float
    f1: float


class Curves(NamedTuple):
    """Precision and recall at each threshold of ``GRID``; NaN where nothing is kept or nothing is to be found."""

    precision: NDArray[np.float64]
    """[S]"""
    recall: NDArray[np.float64]
    """[S]"""

    @property
    def f1(self) -> NDArray[np.float64]:
        """[S] harmonic mean of the two, NaN where one is."""
        total = self.precision + self.recall
        return np.divide(2 * self.precision * self.recall, total, out=np.zeros_like(total), where=total != 0)


class Thresholds(NamedTuple):
    """Curves and operating points of all classes together and of each."""

    curves: Curves
    best: OperatingPoint | None
    """All classes pooled; None if no detection is right."""
    class_curves: tuple[Curves, ...]
    """K of them."""
    class_best: tuple[OperatingPoint | None, ...]
    """K of them; None for a class without a correct detection."""


def sweep(matching: Matching) -> Thresholds:
    """Precision and recall over all thresholds. Detections on crowds count neither way."""
    found, positives = matching.detections, matching.positives[:, 0]
    kept = np.flatnonzero(matching.counted)
    right, scores = matching.correct[kept], found.scores[kept]
    starts = class_starts(found.classes[kept], len(positives))
    order = np.argsort(-scores, kind="stable")
    parts = [(scores[order], right[order], int(positives.sum()))]
    parts += [
        (scores[starts[k] : starts[k + 1]], right[starts[k] : starts[k + 1]], int(count))
        for k, count in enumerate(positives)
    ]
    curves, best = [_curves(*part) for part in parts], [_best(*part) for part in parts]
    return Thresholds(curves[0], best[0], tuple(curves[1:]), tuple(best[1:]))


def _curves(scores: NDArray[np.float64], right: NDArray[np.bool_], positives: int) -> Curves:
    """Curves of detections in descending order of score."""
    kept = len(scores) - np.searchsorted(scores[::-1], GRID, side="left")
    correct = np.concatenate(([0], right.cumsum()))[kept]
    nan = np.full(len(GRID), np.nan)
    precision = np.divide(correct, kept, out=nan.copy(), where=kept > 0)
    return Curves(precision, correct / positives if positives else nan)


def _best(scores: NDArray[np.float64], right: NDArray[np.bool_], positives: int) -> OperatingPoint | None:
    """The highest threshold of all that give the best F1; it lies half-way to the next lower score."""
    if not right.any() or not positives:
        return None
    correct, kept = right.cumsum(), np.arange(1, len(scores) + 1)
    last_of_ties = np.append(scores[1:] < scores[:-1], True)
    f1 = np.where(last_of_ties, 2 * correct / (kept + positives), -1)
    i = int(np.argmax(f1))
    below = scores[i + 1] if i + 1 < len(scores) else 0.0
    return OperatingPoint(
        threshold=float((scores[i] + below) / 2),
        precision=float(correct[i] / kept[i]),
        recall=float(correct[i] / positives),
        f1=float(f1[i]),
    )
