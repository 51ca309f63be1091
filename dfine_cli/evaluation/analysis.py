"""Everything that is known about a set of results: scores, thresholds, errors, calibration, likely label errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.calibration import Calibration, calibrate
from dfine_cli.evaluation.coco_eval import MAX_DETS, EvalResult, score
from dfine_cli.evaluation.confusion import confusion_matrix
from dfine_cli.evaluation.error_types import Errors, explain_errors
from dfine_cli.evaluation.label_errors import Suspect, find_label_errors
from dfine_cli.evaluation.matching import IOUS, Matching, match_results
from dfine_cli.evaluation.per_image import PerImage, count_per_image
from dfine_cli.evaluation.results import Results, require_known_ids
from dfine_cli.evaluation.thresholds import Thresholds, sweep
from dfine_cli.evaluation.truth import Truth

FALLBACK_THRESHOLD = 0.5
"""Where no detection is right and no threshold is better than another."""
_MANY = 0.5
"""Share of the detections from which a note is worth while."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """What ``analyse`` finds.

    Attributes:
        matching: Detections and their objects.
        max_dets: Detections of an image and class that count.
        result: COCO's numbers.
        thresholds: Precision and recall over thresholds, operating points.
        threshold: The operating point of all classes together; what follows is at this threshold.
        confusion: [K + 1, K + 1] with background last, rows are the truth.
        errors: Where AP is lost.
        calibration: What scores mean.
        suspects: Likely label errors, most suspicious first.
        images: Right, wrong and missed of each image.
        notes: What looks odd about the results as a whole.
    """

    matching: Matching
    max_dets: tuple[int, ...]
    result: EvalResult
    thresholds: Thresholds
    threshold: float
    confusion: NDArray[np.int64]
    errors: Errors
    calibration: Calibration
    suspects: tuple[Suspect, ...]
    images: PerImage
    notes: tuple[str, ...]


def analyse(truth: Truth, results: Results, max_dets: tuple[int, ...] = MAX_DETS) -> Analysis:
    """Match results with the ground truth and look at them from all sides.

    Args:
        truth: The ground truth.
        results: What was found.
        max_dets: Detections per image and class that count, ascending; the last one is used for AP and all else.

    Raises:
        DfineError: The results name images or categories that the ground truth does not have.
    """
    require_known_ids(results, truth)
    matching = match_results(truth, results, max_dets[-1])
    thresholds = sweep(matching)
    threshold = thresholds.best.threshold if thresholds.best else FALLBACK_THRESHOLD
    errors = explain_errors(matching)
    return Analysis(
        matching=matching,
        max_dets=max_dets,
        result=score(matching, max_dets),
        thresholds=thresholds,
        threshold=threshold,
        confusion=confusion_matrix(matching, threshold),
        errors=errors,
        calibration=calibrate(matching),
        suspects=find_label_errors(matching, errors, threshold),
        images=count_per_image(matching, threshold),
        notes=tuple(_notes(matching)),
    )


def choose_max_dets(most: int) -> tuple[int, ...]:
    """COCO's 1, 10 and 100 detections per image and class, with ``most`` in place of 100."""
    return (*(n for n in MAX_DETS[:-1] if n < most), most)


def _notes(matching: Matching) -> list[str]:
    notes = []
    counted = len(matching.detections.scores)
    given = int(matching.given_per_class.sum())
    if not given:
        notes.append("there are no detections")
    if given - counted > _MANY * given:
        notes.append(
            f"{given - counted} of {given} detections do not count: too many of one class on an image"
        )
    if not len(matching.truth.images):
        notes.append("the ground truth has no objects: nothing can be scored")
    share = _share_on_other_classes(matching)
    if share > _MANY:
        notes.append(
            f"{share:.0%} of the best detections lie on objects of another class: "
            "do the category ids of the results mean the same classes?"
        )
    return notes


def _share_on_other_classes(matching: Matching) -> float:
    """Of as many best detections as there are objects, the share that lies on objects of other classes only."""
    found, pairs = matching.detections, matching.pairs
    count = int(matching.positives[:, 0].sum())
    if not count or not len(found.scores):
        return 0.0
    best = np.zeros(len(found.scores), np.bool_)
    best[np.argsort(-found.scores, kind="stable")[:count]] = True
    near = pairs.where(pairs.ious >= IOUS[0])
    same = found.classes[near.detections] == matching.truth.classes[near.objects]
    on_any, on_own = np.zeros_like(best), np.zeros_like(best)
    on_any[near.detections] = True
    on_own[near.detections[same]] = True
    return float((best & on_any & ~on_own).sum() / best.sum())
