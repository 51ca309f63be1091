"""How far the detections of two detectors are from each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from dfine_cli.types import Detections

SURE = 0.5
"""Detections are compared that have this share of the best score on their image, or more: those below are many,
say nothing, and change places at the smallest rounding."""
MOST_COMPARED = 100
"""Detections of an image that are compared at most."""
SAME_IOU = 0.5
"""Two detections of a class that overlap this much are of one thing, and their differences are told."""
LEAST_FOUND = 0.95
"""Share that must be found again: of scores that are nearly equal a rounding may choose others."""
_APART = 1e6


class Limits(NamedTuple):
    """How near a detection must be to be found again."""

    score: float
    """Largest difference of the scores."""
    overlap: float
    """Least overlap of the boxes, which is the same for large images and small ones."""


LIMITS: Final = {"fp32": Limits(1e-3, 0.95), "fp16": Limits(0.05, 0.75), "int8": Limits(0.2, SAME_IOU)}
"""By precision, well above what rounding does: on blood cells (D-FINE-N, 1400 to 1750 detections) scores differ by
8e-6 in fp32 and 0.009 in fp16, edges by 0.0002 and 0.6 pixels; in int8 by 0.02 and, at an input of 64x64, 14 pixels."""


def limits_of(precision: str, on_gpu: bool) -> Limits:
    """The limits for a file; products of fp32 may be computed in TF32 on a GPU, whose steps are those of fp16."""
    return LIMITS["fp16" if precision == "fp32" and on_gpu else precision]


class Agreement(NamedTuple):
    """What a comparison found."""

    compared: int
    """Detections of the first that were looked for."""
    missed: int
    """Those of them that the second does not have, within the limits."""
    box_px: float
    """Largest difference of a coordinate, in pixels of the original image."""
    score: float
    """Largest difference of a score."""
    not_numbers: int = 0
    """Detections of the second with a score or a coordinate that is not a finite number."""

    @property
    def holds(self) -> bool:
        """Whether the second says what the first says."""
        return not self.not_numbers and self.missed <= (1 - LEAST_FOUND) * self.compared

    def told(self) -> str:
        """What speaks against it, in words."""
        if self.not_numbers:
            return f"{self.not_numbers} detections of the file hold something that is no number"
        return (
            f"{self.missed} of {self.compared} detections are not found again; of those of the same class and place "
            f"scores differ by up to {self.score:.4f}, edges by up to {self.box_px:.2f} pixels"
        )


def compare(pairs: Iterable[tuple[Detections, Detections]], limits: Limits) -> Agreement:
    """What the first detectors of the pairs are sure of, against what the second ones found on the same image."""
    compared = missed = not_numbers = 0
    box_px = score = 0.0
    for right, found in pairs:
        rows, columns = pair_detections(right, found)
        sure = sure_of(right)
        overlap = _iou(right.boxes[rows], found.boxes[columns])
        apart = np.abs(right.scores[rows] - found.scores[columns])
        there = (overlap >= SAME_IOU) & (right.labels[rows] == found.labels[columns]) & np.isfinite(apart)
        again = there & (overlap >= limits.overlap) & (apart <= limits.score)
        compared += sure
        missed += sure - int(again.sum())
        not_numbers += int((~np.isfinite(np.column_stack((found.boxes, found.scores))).all(1)).sum())
        if there.any():
            edges = np.abs(right.boxes[rows[there]] - found.boxes[columns[there]])
            box_px, score = max(box_px, float(edges.max())), max(score, float(apart[there].max()))
    return Agreement(compared, missed, box_px, score, not_numbers)


def sure_of(detections: Detections) -> int:
    """How many of the first detections count, see ``SURE``."""
    if not len(detections.scores):
        return 0
    return min(int((detections.scores >= SURE * detections.scores[0]).sum()), MOST_COMPARED)


def pair_detections(right: Detections, found: Detections) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Each sure detection of ``right`` with the one of ``found`` of its class and place.

    Pairs are those with the least difference of coordinates in all, so that equal scores may change places.

    Returns:
        Positions in ``right`` and in ``found``, a pair at each index.
    """
    sure = sure_of(right)
    if not sure or not len(found.scores):
        nothing = np.zeros(0, np.intp)
        return nothing, nothing
    cost = np.abs(right.boxes[:sure, None] - found.boxes[None]).max(-1).astype(np.float64)
    cost += np.abs(right.scores[:sure, None] - found.scores[None])
    cost = np.nan_to_num(cost, nan=_APART, posinf=_APART).clip(max=_APART)
    cost[right.labels[:sure, None] != found.labels[None]] = 2 * _APART
    rows, columns = linear_sum_assignment(cost)
    return rows, columns


def _iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Overlap [N] of xyxy boxes; boxes without area overlap with themselves."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    shared = np.prod((high - low).clip(min=0), 1)
    areas = [np.prod((boxes[:, 2:] - boxes[:, :2]).clip(min=0), 1) for boxes in (first, second)]
    union = areas[0] + areas[1] - shared
    overlap: NDArray[np.float64] = shared / np.where(union > 0, union, 1)
    return np.where(union > 0, overlap, np.abs(first - second).max(1) < 1)
