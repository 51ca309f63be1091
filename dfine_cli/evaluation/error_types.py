"""Where AP is lost: TIDE's six kinds of error (Bolya et al., 2020, sections 2.2 and 2.3)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.average_precision import (
    UNDEFINED,
    class_starts,
    mean_defined,
    precision_at_recalls,
)
from dfine_cli.evaluation.matching import IOUS, MIN_IOU, NOTHING, Matching, Pairs

KINDS = {
    "classification": "on an object of another class",
    "localisation": f"right class, but IoU between {MIN_IOU:.1f} and 0.5",
    "both": f"another class, and IoU between {MIN_IOU:.1f} and 0.5",
    "duplicate": "on an object that a better detection has found",
    "background": f"on no object, IoU below {MIN_IOU:.1f} with all",
    "missed": "object that no detection finds or nearly finds",
}
"""Kinds of error and what they mean, in the order of the paper."""
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND = range(5)
NONE = -1
"""Kind of a detection that is right or does not count."""


class Errors(NamedTuple):
    """Every error, and what each kind costs."""

    kinds: NDArray[np.int64]
    """[N] position in ``KINDS`` of each detection that is wrong, else ``NONE``."""
    objects: NDArray[np.int64]
    """[N] object that a classification or localisation error is about, else ``NOTHING``."""
    missed: NDArray[np.bool_]
    """[G]"""
    counts: dict[str, int]
    """Errors of each kind, at any score."""
    lost: dict[str, float]
    """AP50 that is gained where only this kind is put right, in [0, 1]. The gains do not add up."""


class _Best(NamedTuple):
    """The candidate that each detection overlaps most."""

    ious: NDArray[np.float64]
    """[N] 0 without one."""
    objects: NDArray[np.int64]
    """[N] ``NOTHING`` without one."""


def explain_errors(matching: Matching) -> Errors:
    """Give every wrong detection its kind, and measure what each kind costs.

    A kind is put right by its oracle: a classification or localisation error becomes a true positive, or is
    dropped if its object has been found or a better one is put right with it; other wrong detections are
    dropped; missed objects are no longer asked for.
    """
    kinds, objects = _classify(matching)
    repaired = _repaired(matching, objects)
    missed = ~matching.truth.crowd
    missed[matching.found[matching.correct]] = False
    missed[objects[repaired]] = False
    counts = [int(n) for n in np.bincount(kinds[kinds >= 0], minlength=5)] + [int(missed.sum())]
    before = _ap50(matching)
    after = [_ap50(matching, kinds == kind, repaired & (kinds == kind), objects) for kind in range(5)]
    after.append(_ap50(matching, without=missed))
    lost = [max(0.0, value - before) if before != UNDEFINED else UNDEFINED for value in after]
    return Errors(
        kinds, objects, missed, dict(zip(KINDS, counts, strict=True)), dict(zip(KINDS, lost, strict=True))
    )


def _classify(matching: Matching) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Kind [N] and object [N] of each wrong detection."""
    truth, found = matching.truth, matching.detections
    count = len(found.scores)
    pairs = matching.pairs.where(~truth.crowd[matching.pairs.objects])
    same = found.classes[pairs.detections] == truth.classes[pairs.objects]
    used = np.zeros(len(truth.crowd), np.bool_)
    used[matching.found[matching.correct]] = True
    own, other = _best(pairs.where(same), count), _best(pairs.where(~same), count)
    taken = _best(pairs.where(same & used[pairs.objects]), count)
    conditions = {  # in this order: the first that holds
        LOCALISATION: (own.ious >= MIN_IOU) & (own.ious < IOUS[0]),
        CLASSIFICATION: other.ious >= IOUS[0],
        DUPLICATE: taken.ious >= IOUS[0],
        BOTH: other.ious >= MIN_IOU,
        BACKGROUND: np.ones(count, np.bool_),
    }
    kinds = np.select(list(conditions.values()), list(conditions), NONE)
    kinds[~matching.counted | matching.correct] = NONE
    objects = np.select(
        [kinds == LOCALISATION, kinds == CLASSIFICATION], [own.objects, other.objects], NOTHING
    )
    return kinds, objects


def _best(pairs: Pairs, count: int) -> _Best:
    order = np.lexsort((-pairs.objects, pairs.ious, pairs.detections))  # the last pair of each detection wins
    best = _Best(np.zeros(count), np.full(count, NOTHING))
    best.ious[pairs.detections[order]] = pairs.ious[order]
    best.objects[pairs.detections[order]] = pairs.objects[order]
    return best


def _repaired(matching: Matching, objects: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[N] errors whose object is free, the best of each object."""
    free = np.ones(len(matching.truth.crowd), np.bool_)
    free[matching.found[matching.correct]] = False
    repaired = objects >= 0
    repaired[repaired] = free[objects[repaired]]
    rows = np.flatnonzero(repaired)
    by_score = rows[np.argsort(-matching.detections.scores[rows], kind="stable")]
    _, first = np.unique(objects[by_score], return_index=True)
    repaired[:] = False
    repaired[by_score[first]] = True
    return repaired


def _ap50(
    matching: Matching,
    dropped: NDArray[np.bool_] | None = None,
    repaired: NDArray[np.bool_] | None = None,
    objects: NDArray[np.int64] | None = None,
    without: NDArray[np.bool_] | None = None,
) -> float:
    """AP50 after repairs.

    Args:
        matching: Detections and their objects.
        dropped: [N] detections left out, but for those in ``repaired``.
        repaired: [N] detections that count as right.
        objects: [N] whose class they then have.
        without: [G] objects that are not asked for.
    """
    truth, found = matching.truth, matching.detections
    kept, right, classes = matching.counted.copy(), matching.correct.copy(), found.classes
    if dropped is not None and repaired is not None and objects is not None:
        kept &= ~dropped | repaired
        right |= repaired
        classes = np.where(repaired, truth.classes[objects], classes) if len(truth.classes) else classes
    asked = positives = matching.positives[:, 0]
    if without is not None:
        positives = asked - np.bincount(truth.classes[without], minlength=len(positives))
    rows = np.flatnonzero(kept)
    rows = rows[np.lexsort((-found.scores[rows], classes[rows]))]
    starts = class_starts(classes[rows], len(positives))
    precision = np.full((len(positives), 101), UNDEFINED)
    for k in np.flatnonzero(asked).tolist():
        mine = rows[starts[k] : starts[k + 1]]
        if not positives[k] and not len(mine):
            continue  # as TIDE has it: a class of missed objects only scores 0 if it has detections
        hits = np.flatnonzero(right[mine])
        correct, counted = np.arange(1, len(hits) + 1)[:, None], hits[:, None] + 1
        precision[k] = precision_at_recalls(correct, counted, positives[k : k + 1])[:, 0]
    return mean_defined(precision.T)
