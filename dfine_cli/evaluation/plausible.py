"""Results of other tools: are the scores probabilities, and the boxes what COCO says they are?"""

import numpy as np
from numpy.typing import NDArray

from dfine_cli.errors import CheckError
from dfine_cli.evaluation.matching import find_pairs
from dfine_cli.evaluation.results import Results
from dfine_cli.evaluation.truth import Truth

_PROBED = 2000
"""Best results that are compared with the ground truth to find out how their boxes are written."""
_FITS_BETTER = 0.2
"""How much higher the mean overlap must be under another reading of the boxes before it is believed."""


def check_values(results: Results, truth: Truth) -> None:
    """Look for scores that are none and boxes in another format; for results of other tools.

    Ids must be known. Boxes are taken for another format only if all of them can be read so and the best of
    them then lie much better on the ground truth.

    Raises:
        CheckError: Scores outside [0, 1], boxes written as corners, or as fractions of the image.
    """
    outside = (results.scores < 0) | (results.scores > 1)
    if outside.any():
        first = int(np.argmax(outside))
        raise CheckError(
            f"{int(outside.sum())} of {len(outside)} scores are outside 0..1, the first is "
            f"{results.scores[first]:g} at result {first}",
            "scores are probabilities: apply the sigmoid to logits, divide percentages by 100",
        )
    if not len(results.scores) or not len(truth.images):
        return
    best = np.argsort(-results.scores, kind="stable")[:_PROBED]
    boxes, images = results.boxes_xywh[best], np.searchsorted(truth.image_ids, results.image_ids[best])
    as_given = _mean_overlap(boxes, images, truth)
    if (results.boxes_xywh[:, 2:] >= results.boxes_xywh[:, :2]).all():
        corners = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1)
        if _mean_overlap(corners, images, truth) > as_given + _FITS_BETTER:
            raise CheckError(
                "the boxes are [x1, y1, x2, y2], not [x, y, width, height]: read so they lie on the objects",
                "subtract x1 and y1 from x2 and y2 before you write them",
            )
    if np.abs(results.boxes_xywh).max() <= 2 and (truth.sizes > 0).all():
        scale = np.tile(truth.sizes[images][:, ::-1], 2)
        if _mean_overlap(boxes * scale, images, truth) > as_given + _FITS_BETTER:
            raise CheckError(
                "the boxes are fractions of the image: scaled to its pixels they lie on the objects",
                "multiply x and width by the width, y and height by the height of the original image",
            )


def _mean_overlap(boxes_xywh: NDArray[np.float64], images: NDArray[np.int64], truth: Truth) -> float:
    """Mean over boxes of the best IoU with any object of their image."""
    pairs = find_pairs(boxes_xywh, images, truth)
    best = np.zeros(len(boxes_xywh))
    np.maximum.at(best, pairs.detections, pairs.ious)
    return float(best.mean())
