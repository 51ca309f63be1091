"""Whether a score means what it says: of detections with score 0.7, seven of ten should be right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.matching import Matching

BINS = 10
MIN_SCORE = 0.05
"""Lower scores are left out: a detector with a fixed number of queries gives hundreds near 0, all of them wrong,
which would hide how the rest is."""


class Calibration(NamedTuple):
    """Reliability over ``BINS`` bins of equal width on [0, 1], at IoU 0.50."""

    counts: NDArray[np.int64]
    """[bins] detections."""
    confidence: NDArray[np.float64]
    """[bins] mean score, NaN in an empty bin."""
    precision: NDArray[np.float64]
    """[bins] share that is right, NaN in an empty bin."""
    ece: float
    """Expected calibration error: mean of |precision - confidence|, weighted by count; NaN without detections."""
    bias: float
    """Mean of confidence - precision: above 0 the detector is too sure of itself; NaN without detections."""


def calibrate(matching: Matching) -> Calibration:
    """Compare scores with the share that is right. Detections on crowds count neither way."""
    scores = matching.detections.scores
    kept = matching.counted & (scores >= MIN_SCORE)
    scores, right = scores[kept], matching.correct[kept]
    bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    empty = np.full(BINS, np.nan)
    confidence, precision = (
        np.divide(np.bincount(bins, values, BINS), counts, out=empty.copy(), where=counts > 0)
        for values in (scores, right)
    )
    if not len(scores):
        return Calibration(counts, confidence, precision, float("nan"), float("nan"))
    gap = np.nan_to_num(confidence - precision) * counts / len(scores)
    return Calibration(counts, confidence, precision, float(np.abs(gap).sum()), float(gap.sum()))
