"""COCO's interpolated average precision, from how many detections were right so far."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.matching import AREAS, IOUS, Matching, in_range

UNDEFINED = -1.0
"""pycocotools' value of a mean over nothing: no ground truth of that class or area."""
RECALLS: NDArray[np.float64] = np.linspace(0, 1, 101)
"""Recall levels at which precision is read."""


class Scores(NamedTuple):
    """What pycocotools accumulates, T IoUs, R recall levels, K classes, A areas; ``UNDEFINED`` where no object is."""

    precision: NDArray[np.float64]
    """[T, R, K, A] at the most detections that count."""
    recall: NDArray[np.float64]
    """[T, K, A, M] for each number of detections that count."""


def accumulate(matching: Matching, max_dets: tuple[int, ...]) -> Scores:
    """Precision and recall of every class, area and IoU.

    Args:
        matching: Detections and their objects.
        max_dets: Detections of an image and class that count; the last is that of ``matching``.
    """
    classes, positives = len(matching.truth.category_ids), matching.positives
    levels = (len(IOUS), len(AREAS))
    precision = np.full((len(IOUS), len(RECALLS), classes, len(AREAS)), UNDEFINED)
    recall = np.full((len(IOUS), classes, len(AREAS), len(max_dets)), UNDEFINED)
    for k, (right, counted, ranks) in enumerate(_by_class(matching)):
        defined = positives[k] > 0
        columns = positives[k].repeat(len(IOUS))
        flat = (len(right), len(columns))
        read = precision_at_recalls(right.cumsum(0).reshape(flat), counted.reshape(flat), columns)
        read = read.reshape(len(RECALLS), *levels[::-1])  # [R, A, T]
        precision[:, :, k, defined] = read.transpose(2, 0, 1)[..., defined]
        for m, limit in enumerate(max_dets):
            hits = right[ranks < limit].sum(0).T  # [T, A]
            recall[:, k, defined, m] = hits[:, defined] / positives[k, defined]
    return Scores(precision, recall)


def precision_at_recalls(
    right: NDArray[np.int64], counted: NDArray[np.int64], positives: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Interpolated precision [R, C] at ``RECALLS``: the best at this recall or above, 0 where it is not reached.

    Places in the ranking where nothing new is right may be left out: precision is lower there.

    Args:
        right: [n, C] correct detections up to and including each place, in descending order of score.
        counted: [n, C] detections up to each place that are right or wrong.
        positives: [C] objects to find.
    """
    precision = right / (counted + np.spacing(1))  # the last digit of pycocotools
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    recall = right / np.maximum(positives, 1)
    read = np.zeros((len(RECALLS), right.shape[1]))
    for column in range(right.shape[1]):
        places = np.searchsorted(recall[:, column], RECALLS, side="left")
        reached = places < len(right)
        read[reached, column] = precision[places[reached], column]
    return read


def mean_defined(values: NDArray[np.float64]) -> float:
    """Mean of the values that are not ``UNDEFINED``, as pycocotools takes it."""
    defined = values[values > UNDEFINED]
    return float(defined.mean()) if defined.size else UNDEFINED


def class_starts(classes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """[K + 1] where each class begins in an ascending column of classes."""
    return np.searchsorted(classes, np.arange(count + 1))


def _by_class(
    matching: Matching,
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]]:
    """Of the detections of each class that found anything: right [n, A, T], counted so far [n, A, T], rank [n].

    A detection that found nothing counts as wrong if its own size is in the range.
    """
    found = matching.detections
    rows, objects = matching.matches
    count = len(matching.truth.category_ids)
    sized = in_range(found.boxes_xywh[:, 2] * found.boxes_xywh[:, 3])
    before = np.concatenate((np.zeros((1, len(AREAS)), np.int64), sized.cumsum(0)))  # [N + 1, A]
    starts, ends = class_starts(found.classes, count), class_starts(found.classes[rows], count)
    area = np.arange(len(AREAS))[:, None]
    for k in range(count):
        here = slice(ends[k], ends[k + 1])
        mine = rows[here]
        hit = objects[here] >= 0
        right = hit.copy()
        right[hit] = ~matching.ignored[objects[here], area][hit]
        counts = np.where(hit, right, sized[mine][..., None])
        shift = (counts.astype(np.int64) - sized[mine][..., None]).cumsum(0)
        counted = (before[mine + 1] - before[starts[k]])[..., None] + shift
        yield right, counted, found.ranks[mine]
