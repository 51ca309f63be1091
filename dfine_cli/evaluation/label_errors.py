"""Likely errors in the labels: where a good detector and the ground truth contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.error_types import BACKGROUND, CLASSIFICATION, Errors
from dfine_cli.evaluation.matching import IOUS, Matching, find_pairs

KINDS = {
    "no label": "a confident detection where no object is labelled",
    "other class": "a confident detection of another class on a labelled object",
    "not found": "a labelled object with no detection on it, of any class",
    "two labels": "two labels on what looks like one object",
}
"""What can be wrong, most telling first."""
SAME_PLACE = 0.8
"""IoU from which two labels are taken for one object."""
LARGE = 96.0
"""Side in pixels from which an object cannot have been missed for its size."""
DOUBT = 0.5
"""Least suspicion of an object that was not found."""


class Suspect(NamedTuple):
    """A likely label error."""

    kind: str
    """A key of ``KINDS``."""
    image: int
    """Position in ``Truth.image_ids``."""
    box_xywh: tuple[float, float, float, float]
    """In pixels: the label where there is one, else the detection."""
    label: str
    """Class in the annotations; empty without a label."""
    found: str
    """Class of the detection, or of the second label; empty without one."""
    suspicion: float
    """0 to 1: the score of the detection, the overlap of the labels, or how little was found."""
    annotations: tuple[int, ...]
    """Ids of the annotations in question."""


def find_label_errors(matching: Matching, errors: Errors, threshold: float) -> tuple[Suspect, ...]:
    """Likely label errors, the most suspicious first.

    Args:
        matching: Detections and their objects.
        errors: The kind of each detection's error.
        threshold: Score from which a detection is believed.
    """
    parts = (
        _unlabelled(matching, errors, threshold),
        _other_class(matching, errors, threshold),
        _not_found(matching, threshold),
        _two_labels(matching),
    )
    return tuple(sorted((s for part in parts for s in part), key=lambda s: -s.suspicion))


def _unlabelled(matching: Matching, errors: Errors, threshold: float) -> Iterator[Suspect]:
    truth, found = matching.truth, matching.detections
    believed = (errors.kinds == BACKGROUND) & (found.scores >= threshold)
    believed[matching.pairs.detections[truth.crowd[matching.pairs.objects]]] = False
    for n in np.flatnonzero(believed).tolist():
        name, score = truth.names[found.classes[n]], float(found.scores[n])
        yield Suspect("no label", int(found.images[n]), _box(found.boxes_xywh[n]), "", name, score, ())


def _other_class(matching: Matching, errors: Errors, threshold: float) -> Iterator[Suspect]:
    """Only objects that no detection of their own class finds with a better score."""
    truth, found = matching.truth, matching.detections
    own = np.zeros(len(truth.crowd))
    own[matching.found[matching.correct]] = found.scores[matching.correct]
    rows = np.flatnonzero((errors.kinds == CLASSIFICATION) & (found.scores >= threshold))
    rows = rows[np.argsort(-found.scores[rows], kind="stable")]
    _, first = np.unique(errors.objects[rows], return_index=True)
    for n in rows[first].tolist():
        g, score = int(errors.objects[n]), float(found.scores[n])
        if score > own[g]:
            names = truth.names[truth.classes[g]], truth.names[found.classes[n]]
            box = _box(truth.boxes_xywh[g])
            yield Suspect("other class", int(truth.images[g]), box, *names, score, (int(truth.ids[g]),))


def _not_found(matching: Matching, threshold: float) -> Iterator[Suspect]:
    """Objects without a detection; the smaller the object, the less suspicious."""
    truth, pairs = matching.truth, matching.pairs
    near = pairs.where(pairs.ious >= IOUS[0])
    best = np.zeros(len(truth.crowd))
    np.maximum.at(best, near.objects, matching.detections.scores[near.detections])
    size = np.minimum(np.sqrt(np.maximum(truth.areas, 0)) / LARGE, 1)
    doubt = (1 - best / max(threshold, 1e-9)) * size
    for g in np.flatnonzero((doubt > DOUBT) & ~truth.crowd).tolist():
        name, image, box = truth.names[truth.classes[g]], int(truth.images[g]), _box(truth.boxes_xywh[g])
        yield Suspect("not found", image, box, name, "", float(doubt[g]), (int(truth.ids[g]),))


def _two_labels(matching: Matching) -> Iterator[Suspect]:
    truth = matching.truth
    pairs = find_pairs(truth.boxes_xywh, truth.images, truth)
    twice = pairs.where((pairs.detections < pairs.objects) & (pairs.ious >= SAME_PLACE))
    for a, b, iou in zip(twice.detections.tolist(), twice.objects.tolist(), twice.ious.tolist(), strict=True):
        if not truth.crowd[a] and not truth.crowd[b]:
            names = truth.names[truth.classes[a]], truth.names[truth.classes[b]]
            ids = int(truth.ids[a]), int(truth.ids[b])
            yield Suspect("two labels", int(truth.images[a]), _box(truth.boxes_xywh[a]), *names, iou, ids)


def _box(xywh: NDArray[np.float64]) -> tuple[float, float, float, float]:
    x, y, width, height = xywh.tolist()
    return x, y, width, height
