"""COCO results in, COCO's twelve numbers and per-class AP out; the arithmetic is pycocotools'."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dfine_cli.errors import DfineError
from dfine_cli.types import JsonDict

AREAS = ("all", "small", "medium", "large")
"""Ranges of object area in the order of pycocotools: up to 32², 32² to 96², above, in pixels of the original."""
UNDEFINED = -1.0
"""pycocotools' value of a mean over nothing: no ground truth of that class or area."""


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


class _Results(NamedTuple):
    """Results as columns, checked."""

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]


def evaluate(
    ground_truth: Path | Mapping[str, Any],
    results: Sequence[JsonDict] | NDArray[np.float64],
    *,
    max_dets: tuple[int, int, int] = (1, 10, 100),
    per_class: bool = True,
) -> EvalResult:
    """Score COCO results against COCO annotations.

    Args:
        ground_truth: Annotation file, or its content. It is not changed.
        results: Mappings with ``image_id``, ``category_id``, ``bbox`` (xywh in pixels) and ``score``; or rows
            [N, 7] of (image id, x, y, w, h, score, category id).
        max_dets: Detections per image and class that count; the last one is used for AP.
        per_class: Also score each class.

    Raises:
        DfineError: The annotations or results are not COCO's, or the results name images or categories
            that the annotations do not have.
    """
    truth = _check_ground_truth(ground_truth)
    columns = _columns(results)
    _check_ids("image", columns.image_ids, truth["images"])
    _check_ids("category", columns.category_ids, truth["categories"])
    run = _run(truth, columns, max_dets)
    return EvalResult(
        numbers=_numbers(run.eval, max_dets),
        classes=_classes(run.eval, truth, columns) if per_class else (),
        images=len(truth["images"]),
        boxes=len(truth["annotations"]),
        detections=len(columns.scores),
    )


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DfineError: It cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DfineError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DfineError(
            f"{path}: not a JSON file ({error})", "an interrupted write leaves such a file"
        ) from error


def _check_ground_truth(source: Path | Mapping[str, Any]) -> JsonDict:
    """Annotations with what pycocotools needs: own copies, ids 1..N, ``area`` and ``iscrowd`` filled in."""
    where, content = (str(source), read_json(source)) if isinstance(source, Path) else ("annotations", source)
    if not isinstance(content, Mapping):
        raise DfineError(
            f"{where}: not COCO annotations", "expected an object with images, annotations, categories"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DfineError(f"{where}: not COCO annotations, `{key}` is missing or not a list")
    try:
        annotations = [
            {
                "id": number,  # pycocotools takes a match with an object of id 0 for a miss
                "image_id": a["image_id"],
                "category_id": a["category_id"],
                "bbox": a["bbox"],
                "area": a.get("area", a["bbox"][2] * a["bbox"][3]),
                "iscrowd": int(a.get("iscrowd", 0)),
            }
            for number, a in enumerate(content["annotations"], start=1)
        ]
    except KeyError as error:
        raise DfineError(
            f"{where}: an annotation has no {error}", "it is not a detection annotation"
        ) from error
    return {"images": content["images"], "categories": content["categories"], "annotations": annotations}


def _columns(results: Sequence[JsonDict] | NDArray[np.float64]) -> _Results:
    """Results as columns of numbers, all finite."""
    columns = _from_rows(results) if isinstance(results, np.ndarray) else _from_mappings(results)
    finite = np.isfinite(columns.boxes_xywh).all(1) & np.isfinite(columns.scores)
    if not finite.all():
        raise DfineError(f"result {int(np.argmin(finite))} has a box or a score that is not a finite number")
    return columns


def _from_rows(rows: NDArray[np.float64]) -> _Results:
    if rows.ndim != 2 or rows.shape[1] != 7:
        raise DfineError(f"results have shape {rows.shape}", "expected [N, 7]")
    return _Results(rows[:, 0].astype(np.int64), rows[:, 6].astype(np.int64), rows[:, 1:5], rows[:, 5])


def _from_mappings(results: Sequence[JsonDict]) -> _Results:
    if isinstance(results, (Mapping, str)):
        raise DfineError("results are not a list", "COCO results are a JSON list of objects")
    try:
        image_ids = np.array([r["image_id"] for r in results], np.int64)
        category_ids = np.array([r["category_id"] for r in results], np.int64)
        boxes_xywh = np.array([r["bbox"] for r in results], np.float64)
        scores = np.array([r["score"] for r in results], np.float64)
    except KeyError as error:
        raise DfineError(
            f"a result has no {error}", "each needs image_id, category_id, bbox, score"
        ) from error
    except (TypeError, ValueError) as error:
        raise DfineError(
            f"results are not COCO results: {error}", "bbox is four numbers, the rest one"
        ) from error
    if len(results) and boxes_xywh.shape != (len(results), 4):
        raise DfineError("results have a bbox without four numbers", "bbox is [x, y, width, height]")
    return _Results(image_ids, category_ids, boxes_xywh.reshape(-1, 4), scores)


def _check_ids(kind: str, used: NDArray[np.int64], known: Sequence[JsonDict]) -> None:
    missing = np.setdiff1d(used, np.array([entry["id"] for entry in known], np.int64))
    if len(missing):
        shown = ", ".join(str(i) for i in missing[:3]) + (", …" if len(missing) > 3 else "")
        raise DfineError(
            f"results have {len(missing)} {kind} id(s) that the annotations do not have: {shown}",
            "were these results made for another dataset or split?",
        )


def _run(truth: JsonDict, results: _Results, max_dets: tuple[int, int, int]) -> Any:
    """COCOeval after ``accumulate``. It reports on stdout, which belongs to the caller."""
    detections = [
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, "score": score}
        for number, (image, category, box, area, score) in enumerate(
            zip(
                results.image_ids.tolist(),
                results.category_ids.tolist(),
                results.boxes_xywh.tolist(),
                (results.boxes_xywh[:, 2] * results.boxes_xywh[:, 3]).tolist(),
                results.scores.tolist(),
                strict=True,
            ),
            start=1,
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(_indexed(truth), _indexed({**truth, "annotations": detections}), "bbox")
        run.params.maxDets = list(max_dets)
        run.evaluate()
        run.accumulate()
    return run


def _indexed(dataset: JsonDict) -> Any:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco


def _numbers(scored: Mapping[str, NDArray[np.float64]], max_dets: tuple[int, int, int]) -> dict[str, float]:
    """The twelve numbers from ``precision`` [T, R, K, A, M] and ``recall`` [T, K, A, M].

    T IoU thresholds, R recall levels, K classes, A areas, M ``max_dets``.
    """
    precision, recall = scored["precision"], scored["recall"]
    return {
        "AP": _mean(precision[..., 0, -1]),
        "AP50": _mean(precision[0, ..., 0, -1]),
        "AP75": _mean(precision[5, ..., 0, -1]),
        **{f"AP{area[0]}": _mean(precision[..., a, -1]) for a, area in enumerate(AREAS) if a},
        **{f"AR{count}": _mean(recall[..., 0, m]) for m, count in enumerate(max_dets)},
        **{f"AR{area[0]}": _mean(recall[..., a, -1]) for a, area in enumerate(AREAS) if a},
    }


def _classes(
    scored: Mapping[str, NDArray[np.float64]], truth: JsonDict, results: _Results
) -> tuple[ClassResult, ...]:
    """One row per category, in the order of ids, which is the order of K."""
    boxes = Counter(a["category_id"] for a in truth["annotations"])
    images = Counter(c for c, _ in {(a["category_id"], a["image_id"]) for a in truth["annotations"]})
    detections = Counter(results.category_ids.tolist())
    names = {c["id"]: str(c.get("name", c["id"])) for c in truth["categories"]}
    return tuple(
        ClassResult(
            category_id=c,
            name=names[c],
            ap=_mean(scored["precision"][:, :, k, 0, -1]),
            ap50=_mean(scored["precision"][0, :, k, 0, -1]),
            images=images[c],
            boxes=boxes[c],
            detections=detections[c],
        )
        for k, c in enumerate(sorted(names))
    )


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of the defined values, as pycocotools takes it."""
    defined = values[values > UNDEFINED]
    return float(defined.mean()) if defined.size else UNDEFINED
