"""The proof of an export: the same images through the checkpoint and through the file, compared."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from dfine_cli.backends.detector import Detector
from dfine_cli.data.preprocess import resize
from dfine_cli.errors import CheckError
from dfine_cli.evaluation.predict import Progress
from dfine_cli.evaluation.score import score_detector
from dfine_cli.export.proof_images import ProofImages, drawn_pictures
from dfine_cli.types import Detections

SURE = 0.5
"""Detections are compared that have this share of the best score on their image, or more: those below are many,
say nothing, and change places at the smallest rounding."""
MOST_COMPARED = 100
"""Detections of an image that are compared at most."""
SAME_IOU = 0.5
"""A detection is found again if the file has one of the same class that overlaps this much."""
LEAST_FOUND = 0.95
"""Share that must be found again on pictures without annotations, where there is no AP."""
_APART = 1e6
LEAST_AP = 0.01
"""AP (0 to 1) below which a difference of AP says little."""


class Agreement(NamedTuple):
    """How far the detections of two detectors are from each other."""

    compared: int
    """Detections of the first that were looked for."""
    missed: int
    """Those of them that the second does not have."""
    box_px: float
    """Largest difference of a coordinate, in pixels of the original image."""
    score: float
    """Largest difference of a score."""


class Proof(NamedTuple):
    """What a proof found."""

    told: str
    """What the pictures are, in words."""
    images: int
    """How many there are."""
    agreement: Agreement
    ap: float | None
    """AP of the checkpoint, 0 to 1; None without annotations."""
    ap_artefact: float | None
    """AP of the file."""
    max_drop: float
    """How much less AP is accepted, 0 to 1."""

    @property
    def drop(self) -> float | None:
        """AP that is lost; below 0 if some is won."""
        return None if self.ap is None or self.ap_artefact is None else self.ap - self.ap_artefact

    @property
    def holds(self) -> bool:
        """Whether the file says what the checkpoint says."""
        if self.drop is not None:
            return self.drop <= self.max_drop + 1e-12
        compared, missed = self.agreement.compared, self.agreement.missed
        return missed <= (1 - LEAST_FOUND) * compared

    @property
    def says_little(self) -> bool:
        """Whether the checkpoint finds next to nothing on these images, so that there is no AP to lose."""
        return self.ap is not None and self.ap < LEAST_AP

    def require(self, kept: object) -> None:
        """Fail unless the proof holds.

        Args:
            kept: Where the file is kept that failed.

        Raises:
            CheckError: It does not hold.
        """
        if self.holds:
            return
        if self.drop is None:
            found = f"{self.agreement.missed} of {self.agreement.compared} detections are not found again"
        else:
            found = f"{100 * self.drop:.2f} AP less than the checkpoint, allowed are {100 * self.max_drop:g}"
        raise CheckError(
            f"the exported file does not say what the checkpoint says: {found}",
            f"it is kept as {kept}; try --precision fp32, or allow more with --max-ap-drop",
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a description or ``--json``."""
        return {
            "images": self.images,
            "data": self.told,
            **self.agreement._asdict(),
            "ap": self.ap,
            "ap_artefact": self.ap_artefact,
            "ap_drop": self.drop,
            "max_ap_drop": self.max_drop,
            "holds": self.holds,
        }


def prove(
    checkpoint: Detector,
    artefact: Detector,
    images: ProofImages,
    *,
    max_drop: float,
    on_progress: Progress | None = None,
) -> Proof:
    """Compare two detectors of the same classes and input size.

    Args:
        checkpoint: What is right.
        artefact: What is to be proven.
        images: The pictures.
        max_drop: How much less AP is accepted, 0 to 1.
        on_progress: Told of the images that are done, over both detectors.

    Raises:
        CheckError: The data has errors.
        DfineError: The data cannot be read.
    """
    with images.taken() as files:
        if files is None:
            first, second = (_detect_drawn(detector) for detector in (checkpoint, artefact))
            return Proof(
                images.told, len(first), compare(zip(first, second, strict=True)), None, None, max_drop
            )

        def progress(before: int) -> Progress:
            def tell(done: int, total: int) -> None:
                if on_progress:
                    on_progress(before * total + done, 2 * total)

            return tell

        scored = [
            score_detector(detector, files, batch=1, workers=0, on_progress=progress(number))
            for number, detector in enumerate((checkpoint, artefact))
        ]
        found = [entry.detections for entry in scored]
        ap, ap_artefact = (_known(entry.result.ap) for entry in scored)
        agreement = compare((found[0][key], found[1][key]) for key in found[0])
        return Proof(images.told, len(found[0]), agreement, ap, ap_artefact, max_drop)


def compare(pairs: Iterable[tuple[Detections, Detections]]) -> Agreement:
    """What the first detectors of the pairs are sure of, against what the second ones found on the same image."""
    compared = missed = 0
    box_px = score = 0.0
    for right, found in pairs:
        rows, columns = pair_detections(right, found)
        sure = sure_of(right)
        overlap = _iou(right.boxes[rows], found.boxes[columns])
        again = (overlap >= SAME_IOU) & (right.labels[rows] == found.labels[columns])
        compared += sure
        missed += sure - int(again.sum())
        if again.any():
            rows, columns = rows[again], columns[again]
            box_px = max(box_px, float(np.abs(right.boxes[rows] - found.boxes[columns]).max()))
            score = max(score, float(np.abs(right.scores[rows] - found.scores[columns]).max()))
    return Agreement(compared, missed, box_px, score)


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


def _detect_drawn(detector: Detector) -> list[Detections]:
    pictures = drawn_pictures()
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    ready = [resize(picture, detector.input_size) for picture in pictures]
    return [detector.detect(image[None], [size])[0] for image, size in zip(ready, sizes, strict=True)]


def _known(ap: float) -> float | None:
    """An AP; None where there is no object, for which COCO has -1."""
    return None if math.isnan(ap) or ap < 0 else ap
