"""Results of other tools: are the scores probabilities, and the boxes what COCO says they are?"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfine_cli.errors import CheckError, naming
from dfine_cli.evaluation.matching import find_pairs
from dfine_cli.evaluation.results import Results, read_results, require_known_ids
from dfine_cli.evaluation.truth import Truth

_PROBED = 2000
"""Best results that are compared with the ground truth to find out how their boxes are written."""
_MANY = 0.1
"""Share of boxes that reach out of their images, or have no area, from which on something is wrong with all."""
_ALL = 0.99
"""Share of boxes from which on all are taken to be written alike: a few degenerate ones are in every large file."""
_FAR = 1e9
"""Pixels that no image has on a side; areas of boxes a good deal larger overflow."""
_FITS_BETTER = 0.2
"""How much higher the mean overlap must be under another reading of the boxes before it is believed."""


def read_checked(path: Path, truth: Truth) -> Results:
    """Results from a file of any tool, after a look at what may be wrong with them.

    Raises:
        DfineError: They cannot be read, or are not for this data.
        CheckError: Their scores or boxes are not what COCO says they are.
    """
    results = read_results(path)
    with naming(path):
        require_known_ids(results, truth)
        check_values(results, truth)
    return results


def check_values(results: Results, truth: Truth) -> None:
    """Look for scores that are none, boxes that are none and boxes in another format; for results of other tools.

    Ids must be known. Boxes are taken for another format only if nearly all of them can be read so and the best of
    these then lie much better on the ground truth. Some without an area are in every large file, most of all among
    low scores, where padding is.

    Raises:
        CheckError: Scores outside [0, 1], boxes beyond any image, many of the best without an area, boxes written as
            corners, or as fractions of the image.
    """
    _refuse_any(
        (results.scores < 0) | (results.scores > 1),
        "scores are outside 0..1",
        lambda result: f"{results.scores[result]:g}",
        "scores are probabilities: apply the sigmoid to logits, divide percentages by 100",
    )
    _refuse_any(
        np.any(np.abs(results.boxes_xywh) > _FAR, axis=1),
        "boxes reach beyond any image",
        lambda result: _listed(results.boxes_xywh[result]),
        "boxes are [x, y, width, height] in pixels of the original image",
    )
    if not len(results.scores) or not len(truth.images):
        return
    boxes, _ = _best(results, truth)
    flat: NDArray[np.bool_] = np.any(boxes[:, 2:] <= 0, axis=1)
    if flat.mean() > _MANY:
        raise CheckError(
            f"{int(flat.sum())} of the {len(flat)} best boxes have no width or height, such as "
            f"{_listed(boxes[np.argmax(flat)])}",
            "boxes are [x, y, width, height], x and y of the upper left corner",
        )
    as_corners: NDArray[np.bool_] = np.all(results.boxes_xywh[:, 2:] >= results.boxes_xywh[:, :2], axis=1)
    if as_corners.mean() >= _ALL:
        boxes, images = _best(results.where(as_corners), truth)
        corners = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1)
        if _mean_overlap(corners, images, truth) > _mean_overlap(boxes, images, truth) + _FITS_BETTER:
            raise CheckError(
                "the boxes are [x1, y1, x2, y2], not [x, y, width, height]: read so they lie on the objects",
                "subtract x1 and y1 from x2 and y2 before you write them",
            )
    as_shares: NDArray[np.bool_] = np.all(np.abs(results.boxes_xywh) <= 2, axis=1)
    if as_shares.mean() >= _ALL and (truth.sizes > 0).all():
        boxes, images = _best(results.where(as_shares), truth)
        scale = np.tile(truth.sizes[images][:, ::-1], 2)
        if _mean_overlap(boxes * scale, images, truth) > _mean_overlap(boxes, images, truth) + _FITS_BETTER:
            raise CheckError(
                "the boxes are fractions of the image: scaled to its pixels they lie on the objects",
                "multiply x and width by the width, y and height by the height of the original image",
            )


def written_as_corners(truth: Truth) -> bool:
    """Whether the boxes of annotations are [x1, y1, x2, y2], by all that can be seen without a picture.

    As [x, y, width, height] a good part of them reaches out of the image; as corners nearly all are boxes inside it.
    """
    sizes_wh = truth.sizes[truth.images][:, ::-1]
    low, last = truth.boxes_xywh[:, :2], truth.boxes_xywh[:, 2:]
    if not len(last) or not (sizes_wh > 0).all():
        return False
    outside = (low + last > sizes_wh + 1).any(1)
    inside = ((last > low) & (last <= sizes_wh + 1)).all(1)
    return bool(outside.mean() > _MANY and inside.mean() >= _ALL)


def _refuse_any(wrong: NDArray[np.bool_], what: str, shown: Callable[[int], str], hint: str) -> None:
    """Refuse results of which any is ``wrong``, with the first of them as ``shown``."""
    if wrong.any():
        first = int(np.argmax(wrong))
        raise CheckError(
            f"{int(wrong.sum())} of {len(wrong)} {what}, the first is {shown(first)} at result {first}", hint
        )


def _listed(box: NDArray[np.float64]) -> str:
    return f"[{', '.join(f'{value:g}' for value in box)}]"


def _best(results: Results, truth: Truth) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Boxes of the best results, and the positions of their images."""
    best = np.argsort(-results.scores, kind="stable")[:_PROBED]
    return results.boxes_xywh[best], np.searchsorted(truth.image_ids, results.image_ids[best])


def _mean_overlap(boxes_xywh: NDArray[np.float64], images: NDArray[np.int64], truth: Truth) -> float:
    """Mean over boxes of the best IoU with any object of their image."""
    pairs = find_pairs(boxes_xywh, images, truth)
    best = np.zeros(len(boxes_xywh))
    np.maximum.at(best, pairs.detections, pairs.ious)
    return float(best.mean())
