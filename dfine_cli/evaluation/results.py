"""COCO results as columns of numbers, from a file or from memory, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from dfine_cli.errors import CheckError, UsageError
from dfine_cli.evaluation.truth import Truth
from dfine_cli.types import JsonDict

_FORM = (
    "COCO results are a JSON list of objects with image_id, category_id, bbox [x, y, width, height] and score"
)


class Results(NamedTuple):
    """N results as columns."""

    image_ids: NDArray[np.int64]
    """[N]"""
    category_ids: NDArray[np.int64]
    """[N]"""
    boxes_xywh: NDArray[np.float64]
    """[N, 4] in pixels of the original image."""
    scores: NDArray[np.float64]
    """[N]"""

    def where(self, mask: NDArray[np.bool_]) -> Results:
        """The results that ``mask`` [N] selects."""
        return Results(
            self.image_ids[mask], self.category_ids[mask], self.boxes_xywh[mask], self.scores[mask]
        )


class _Entry(msgspec.Struct, gc=False):
    """One result, as in the file; other keys are passed over."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


def read_results(path: Path) -> Results:
    """Results from a file.

    Raises:
        UsageError: There is no such file.
        CheckError: It is empty, not JSON, or not COCO results; the message says where.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", "give a file of COCO results") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "give a file of COCO results") from error
    if not text.strip():
        raise CheckError(
            f"{path}: the file is empty", "an interrupted write leaves such a file; [] is no results"
        )
    try:
        entries = msgspec.json.decode(text, type=list[_Entry])
    except msgspec.ValidationError as error:
        raise CheckError(f"{path}: not COCO results: {error}", _FORM) from error
    except msgspec.DecodeError as error:
        raise CheckError(
            f"{path}: not a JSON file ({error})",
            "an interrupted write leaves such a file, and NaN is not JSON",
        ) from error
    count = len(entries)
    return _finite(
        Results(
            np.fromiter((e.image_id for e in entries), np.int64, count),
            np.fromiter((e.category_id for e in entries), np.int64, count),
            np.fromiter((v for e in entries for v in e.bbox), np.float64, 4 * count).reshape(-1, 4),
            np.fromiter((e.score for e in entries), np.float64, count),
        )
    )


def to_columns(results: Sequence[JsonDict] | NDArray[np.float64] | Results) -> Results:
    """Results in memory as columns, all finite.

    Args:
        results: Mappings with ``image_id``, ``category_id``, ``bbox`` (xywh in pixels) and ``score``; or rows
            [N, 7] of (image id, x, y, w, h, score, category id).

    Raises:
        CheckError: They are something else.
    """
    if isinstance(results, Results):
        return results
    return _finite(_from_rows(results) if isinstance(results, np.ndarray) else _from_mappings(results))


def require_known_ids(results: Results, truth: Truth) -> None:
    """Refuse results for images or categories that the annotations do not have.

    Raises:
        CheckError: With the first ids, and the likely reason.
    """
    for kind, used, known in (
        ("image", results.image_ids, truth.image_ids),
        ("category", results.category_ids, truth.category_ids),
    ):
        missing = np.setdiff1d(used, known)
        if len(missing):
            shown = ", ".join(str(i) for i in missing[:3]) + (", …" if len(missing) > 3 else "")
            indices = kind == "category" and len(known) > 0 and 0 in missing and used.max() < len(known)
            raise CheckError(
                f"results have {len(missing)} {kind} id(s) that the annotations do not have: {shown}",
                f"they look like class indices 0 to {len(known) - 1}: write the ids of `categories` instead"
                if indices
                else "were these results made for another dataset or split?",
            )


def _finite(results: Results) -> Results:
    finite = np.isfinite(results.boxes_xywh).all(1) & np.isfinite(results.scores)
    if not finite.all():
        raise CheckError(f"result {int(np.argmin(finite))} has a box or a score that is not a finite number")
    return results


def _from_rows(rows: NDArray[np.float64]) -> Results:
    if rows.ndim != 2 or rows.shape[1] != 7:
        raise CheckError(f"results have shape {rows.shape}", "expected [N, 7]")
    return Results(rows[:, 0].astype(np.int64), rows[:, 6].astype(np.int64), rows[:, 1:5], rows[:, 5])


def _from_mappings(results: Sequence[JsonDict]) -> Results:
    if isinstance(results, (Mapping, str)):
        raise CheckError("results are not a list", _FORM)
    try:
        image_ids = np.array([r["image_id"] for r in results], np.int64)
        category_ids = np.array([r["category_id"] for r in results], np.int64)
        boxes_xywh = np.array([r["bbox"] for r in results], np.float64)
        scores = np.array([r["score"] for r in results], np.float64)
    except KeyError as error:
        raise CheckError(f"a result has no {error}", _FORM) from error
    except (TypeError, ValueError) as error:
        raise CheckError(f"results are not COCO results: {error}", _FORM) from error
    if len(results) and boxes_xywh.shape != (len(results), 4):
        raise CheckError("results have a bbox without four numbers", _FORM)
    return Results(image_ids, category_ids, boxes_xywh.reshape(-1, 4), scores)
