"""Whether an engine says what ONNX Runtime said about the same images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.errors import CheckError

Outputs = Mapping[str, NDArray[Any]]
"""``labels`` [B, K], ``boxes`` [B, K, 4] xyxy in pixels and ``scores`` [B, K]."""

SURE = 0.3
"""Detections below this score may be others: many are near each other there."""
SCORE_LIMITS = {"fp32": 0.02, "fp16": 0.05, "int8": 0.2}
"""Largest difference of a score by precision; an FP32 engine may compute products in TF32."""
SAME_IOU = 0.7
"""Least overlap of two boxes that are the same."""


class Agreement(NamedTuple):
    """How two answers compare."""

    compared: int
    """Detections that were expected."""
    missed: int
    """Those without one of the same class and place."""
    score: float
    """Largest difference of a score."""
    box: float
    """Largest difference of an edge, in pixels."""


def compare(expected: Outputs, found: Outputs) -> Agreement:
    """Look for each expected detection that is sure, or for the best of an image if none is."""
    missed, scores, boxes = 0, [0.0], [0.0]
    compared = 0
    for image in range(len(expected["scores"])):
        for row in _rows(expected["scores"][image]):
            compared += 1
            box = expected["boxes"][image, row].astype(np.float64)
            same = np.flatnonzero(found["labels"][image] == expected["labels"][image, row])
            overlaps = _iou(box, found["boxes"][image, same].astype(np.float64))
            if not len(same) or overlaps.max() < SAME_IOU:
                missed += 1
                continue
            match = same[overlaps.argmax()]
            scores.append(abs(float(found["scores"][image, match]) - float(expected["scores"][image, row])))
            boxes.append(float(np.abs(found["boxes"][image, match] - box).max()))
    return Agreement(compared, missed, float(np.max(scores)), float(np.max(boxes)))  # NaN stays NaN


def require(agreement: Agreement, precision: str) -> None:
    """Refuse an engine that says something else.

    Raises:
        CheckError: A detection is missing, or a score differs more than ``precision`` explains.
    """
    limit = SCORE_LIMITS[precision]
    if agreement.missed or not agreement.score <= limit:
        raise CheckError(
            f"the engine does not say what ONNX Runtime says: {agreement.missed} of {agreement.compared} detections "
            f"are missing, scores differ by up to {agreement.score:.3f} (limit {limit})",
            "do not use it; try the newest TensorRT of this GPU, or export with --precision fp32",
        )


def _rows(scores: NDArray[Any]) -> NDArray[np.int64]:
    sure = np.flatnonzero(scores >= SURE)
    return sure if len(sure) else np.array([scores.argmax()])


def _iou(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    corner, far = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(far - corner, 0, None).prod(axis=1)
    area, areas = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1)
    overlaps: NDArray[np.float64] = shared / np.maximum(area + areas - shared, 1e-9)
    return overlaps
