"""Ground truth of an evaluation as columns: image and class of every object as positions, not ids."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfine_cli.errors import CheckError, UsageError

Source = Path | Mapping[str, Any]
"""A COCO annotation file, or its content."""


@dataclass(frozen=True, eq=False)
class Truth:
    """I images, K classes and G objects. Objects of images or categories that are not listed are left out.

    Attributes:
        image_ids: [I] ascending.
        file_names: Name of each image's file; empty where the annotations do not say.
        sizes: [I, 2] (height, width) in pixels, 0 where the annotations do not say.
        category_ids: [K] ascending.
        names: Name of each class.
        ids: [G] id of the annotation, as in the file.
        images: [G] position in ``image_ids``.
        classes: [G] position in ``category_ids``.
        boxes_xywh: [G, 4] in pixels.
        areas: [G] area of the object in square pixels, which for COCO is that of its mask.
        crowd: [G] True for regions of many objects: what is found there is neither right nor wrong.
    """

    image_ids: NDArray[np.int64]
    file_names: tuple[str, ...]
    sizes: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    names: tuple[str, ...]
    ids: NDArray[np.int64]
    images: NDArray[np.int64]
    classes: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]


def read_truth(source: Source) -> Truth:
    """Ground truth from COCO annotations; ``area`` and ``iscrowd`` may be absent.

    Raises:
        CheckError: The file cannot be read or is not COCO's; the message says what is missing.
    """
    where, content = (
        (str(source), _read_json(source)) if isinstance(source, Path) else ("annotations", source)
    )
    if not isinstance(content, Mapping):
        raise CheckError(
            f"{where}: not COCO annotations", "expected an object with images, annotations, categories"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise CheckError(f"{where}: not COCO annotations, `{key}` is missing or not a list")
    try:
        return _columns(content)
    except KeyError as error:
        raise CheckError(f"{where}: an entry has no {error}", "it is not a detection annotation") from error
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise CheckError(
            f"{where}: not COCO annotations: {error}", "ids are whole numbers, bbox is four numbers"
        ) from error


def positions(ids: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N] position of each id in ``known``, which is ascending; -1 where it is not there."""
    if not len(known):
        return np.full(len(ids), -1)
    found = np.searchsorted(known, ids).clip(max=len(known) - 1)
    return np.where(known[found] == ids, found, -1)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "give a file of COCO annotations") from error
    except ValueError as error:
        raise CheckError(
            f"{path}: not a JSON file ({error})", "an interrupted write leaves such a file"
        ) from error


def _columns(content: Mapping[str, Any]) -> Truth:
    images = {image["id"]: image for image in content["images"]}
    names = {category["id"]: str(category.get("name", category["id"])) for category in content["categories"]}
    image_ids, category_ids = (np.array(sorted(ids), np.int64) for ids in (images, names))
    entries = content["annotations"]
    image_rows = positions(np.array([a["image_id"] for a in entries], np.int64), image_ids)
    class_rows = positions(np.array([a["category_id"] for a in entries], np.int64), category_ids)
    boxes = _boxes(entries)
    areas = [a.get("area", a["bbox"][2] * a["bbox"][3]) for a in entries]
    kept = np.flatnonzero((image_rows >= 0) & (class_rows >= 0))
    in_order = [images[i] for i in image_ids.tolist()]
    return Truth(
        image_ids=image_ids,
        file_names=tuple(str(image.get("file_name", "")) for image in in_order),
        sizes=np.array([(i.get("height", 0), i.get("width", 0)) for i in in_order], np.int64).reshape(-1, 2),
        category_ids=category_ids,
        names=tuple(names[i] for i in category_ids.tolist()),
        ids=np.array([a.get("id", n) for n, a in enumerate(entries, 1)], np.int64)[kept],
        images=image_rows[kept],
        classes=class_rows[kept],
        boxes_xywh=boxes[kept],
        areas=np.array(areas, np.float64)[kept],
        crowd=np.array([bool(a.get("iscrowd", 0)) for a in entries], np.bool_)[kept],
    )


def _boxes(entries: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """[A, 4] as in the file.

    Raises:
        ValueError: A box is not four finite numbers; the message names the annotation.
    """
    listed = [entry["bbox"] for entry in entries]
    if not listed:
        return np.zeros((0, 4))
    with contextlib.suppress(ValueError):  # of lists of different lengths
        boxes = np.array(listed)
        if boxes.dtype.kind in "iuf" and boxes.shape == (len(listed), 4) and np.isfinite(boxes).all():
            return boxes.astype(np.float64)
    row = next((r for r, box in enumerate(listed) if not _is_box(box)), None)
    if row is None:  # whole numbers beyond 64 bits, or other kinds of numbers
        return np.array(listed, np.float64)
    raise ValueError(f"annotations[{row}] (id {entries[row].get('id')}): bbox = {listed[row]!r}")


def _is_box(box: Any) -> bool:
    four = isinstance(box, Sequence) and not isinstance(box, str) and len(box) == 4
    return four and all(isinstance(value, Real) and math.isfinite(value) for value in box)
