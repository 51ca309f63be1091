"""COCO results in, COCO's twelve numbers and per-class AP out: pycocotools' numbers to the last digit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.average_precision import Scores, accumulate, mean_defined
from dfine_cli.evaluation.matching import AREAS, Matching, match_results
from dfine_cli.evaluation.results import Results, require_known_ids, to_columns
from dfine_cli.evaluation.truth import Source, read_truth
from dfine_cli.types import JsonDict

MAX_DETS = (1, 10, 100)
"""Detections of an image and class that count, in COCO's own numbers."""


class ClassResult(NamedTuple):
    """Scores of one class."""

    category_id: int
    name: str
    ap: float
    """AP at IoU 0.50:0.95; ``UNDEFINED`` without ground truth."""
    ap50: float
    """AP at IoU 0.50."""
    images: int
    """Images that have an object of this class."""
    boxes: int
    """Ground-truth boxes, crowds included."""
    detections: int
    """Results given for this class."""
    areas: tuple[float, ...] = ()
    """AP of small, medium and large objects."""


@dataclass(frozen=True)
class EvalResult:
    """COCO scores of one set of results.

    Attributes:
        numbers: The twelve numbers by name: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm,
            ARl, in [0, 1], ``UNDEFINED`` where there is no ground truth. The numbers in the AR names are
            those of ``max_dets``.
        classes: One row per category of the ground truth, by category id; empty if not asked for.
        images: Images in the ground truth.
        boxes: Ground-truth boxes.
        detections: Results given.
    """

    numbers: dict[str, float]
    classes: tuple[ClassResult, ...]
    images: int
    boxes: int
    detections: int

    @property
    def ap(self) -> float:
        """AP at IoU 0.50:0.95."""
        return self.numbers["AP"]

    @property
    def ap50(self) -> float:
        """AP at IoU 0.50."""
        return self.numbers["AP50"]


def evaluate(
    ground_truth: Source,
    results: Sequence[JsonDict] | NDArray[np.float64] | Results,
    *,
    max_dets: tuple[int, ...] = MAX_DETS,
    per_class: bool = True,
) -> EvalResult:
    """Score COCO results against COCO annotations.

    Args:
        ground_truth: Annotation file, or its content. It is not changed.
        results: Mappings with ``image_id``, ``category_id``, ``bbox`` (xywh in pixels) and ``score``; or rows
            [N, 7] of (image id, x, y, w, h, score, category id); or columns.
        max_dets: Detections per image and class that count, ascending; the last one is used for AP.
        per_class: Also score each class.

    Raises:
        DfineError: The annotations or results are not COCO's, or the results name images or categories
            that the annotations do not have.
    """
    truth = read_truth(ground_truth)
    columns = to_columns(results)
    require_known_ids(columns, truth)
    return score(match_results(truth, columns, max_dets[-1]), max_dets, per_class=per_class)


def score(matching: Matching, max_dets: tuple[int, ...] = MAX_DETS, *, per_class: bool = True) -> EvalResult:
    """The numbers of detections that have been matched; the arguments are those of ``evaluate``."""
    scores = accumulate(matching, max_dets)
    return EvalResult(
        numbers=_numbers(scores, max_dets),
        classes=_classes(scores, matching) if per_class else (),
        images=len(matching.truth.image_ids),
        boxes=len(matching.truth.images),
        detections=int(matching.given_per_class.sum()),
    )


def _numbers(scores: Scores, max_dets: tuple[int, ...]) -> dict[str, float]:
    precision, recall = scores
    return {
        "AP": mean_defined(precision[..., 0]),
        "AP50": mean_defined(precision[0, ..., 0]),
        "AP75": mean_defined(precision[5, ..., 0]),
        **{f"AP{area[0]}": mean_defined(precision[..., a]) for a, area in enumerate(AREAS) if a},
        **{f"AR{count}": mean_defined(recall[..., 0, m]) for m, count in enumerate(max_dets)},
        **{f"AR{area[0]}": mean_defined(recall[..., a, -1]) for a, area in enumerate(AREAS) if a},
    }


def _classes(scores: Scores, matching: Matching) -> tuple[ClassResult, ...]:
    """One row per category, in the order of ids."""
    truth, precision = matching.truth, scores.precision
    count = len(truth.category_ids)
    boxes = np.bincount(truth.classes, minlength=count)
    pairs = np.unique(np.stack((truth.classes, truth.images)), axis=1)
    images = np.bincount(pairs[0], minlength=count)
    return tuple(
        ClassResult(
            category_id=int(truth.category_ids[k]),
            name=name,
            ap=mean_defined(precision[:, :, k, 0]),
            ap50=mean_defined(precision[0, :, k, 0]),
            images=int(images[k]),
            boxes=int(boxes[k]),
            detections=int(matching.given_per_class[k]),
            areas=tuple(mean_defined(precision[:, :, k, a]) for a in range(1, len(AREAS))),
        )
        for k, name in enumerate(truth.names)
    )
