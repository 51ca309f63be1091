"""Which class is taken for which, with background: objects nobody found, and detections where nothing is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.matching import IOUS, Matching, match_greedily

MOST_CLASSES = 30
"""Classes of a matrix that is shown; of more, those that are confused most."""


def confusion_matrix(matching: Matching, threshold: float) -> NDArray[np.int64]:
    """Counts [K + 1, K + 1] at IoU 0.50: rows are the class of the object, columns that of the detection.

    The last row is background taken for an object, the last column objects that were missed. The diagonal
    holds COCO's true positives, so that it agrees with precision and recall at the same threshold; what is
    left over is assigned across classes by the same greedy rule. Crowds count neither way.

    Args:
        matching: Detections and their objects.
        threshold: Lowest score of a detection that is kept.
    """
    truth, found = matching.truth, matching.detections
    kept = matching.counted & (found.scores >= threshold)
    right = kept & matching.correct
    open_objects = ~truth.crowd
    open_objects[matching.found[right]] = False
    wrong = kept & ~right
    pairs = matching.pairs
    left = wrong[pairs.detections] & open_objects[pairs.objects] & (pairs.ious >= IOUS[0])
    crossed = match_greedily(
        pairs.where(left),
        groups=found.images,
        ignored=np.zeros((len(truth.crowd), 1), np.bool_),
        crowd=truth.crowd,
        ious=IOUS[:1],
        scores=found.scores,
    )
    objects = crossed.objects[:, 0, 0]
    rows, columns = crossed.detections[objects >= 0], objects[objects >= 0]
    wrong[rows] = open_objects[columns] = False
    size = len(truth.category_ids) + 1
    matrix = np.zeros((size, size), np.int64)
    np.add.at(matrix, (found.classes[right], found.classes[right]), 1)
    np.add.at(matrix, (truth.classes[columns], found.classes[rows]), 1)
    np.add.at(matrix[-1], found.classes[wrong], 1)
    np.add.at(matrix[:, -1], truth.classes[open_objects], 1)
    return matrix


def confused_pairs(matrix: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(class, taken for, count) of all confusions of two classes, background left out, most frequent first."""
    between = matrix[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    rows, columns = np.nonzero(between)
    order = np.argsort(-between[rows, columns], kind="stable")
    return [(int(rows[i]), int(columns[i]), int(between[rows[i], columns[i]])) for i in order]


def most_confused(matrix: NDArray[np.int64]) -> list[int]:
    """Rows of a matrix that are shown: those of all classes, or of those that are confused most; background last."""
    classes = len(matrix) - 1
    chosen = list(range(classes))
    if classes > MOST_CLASSES:
        involved = [k for a, b, _ in confused_pairs(matrix) for k in (a, b)]
        frequent = np.argsort(-matrix[:-1].sum(1), kind="stable").tolist()
        chosen = sorted(list(dict.fromkeys([*involved, *frequent]))[:MOST_CLASSES])
    return [*chosen, classes]
