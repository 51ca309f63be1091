"""Figures of an annotation file that decide how to train on it: counts, and how large objects will be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfine_cli.data.coco import CocoFile
from dfine_cli.types import Size

_SMALL_PX2, _MEDIUM_PX2 = 32.0**2, 96.0**2  # COCO's limits of small and medium areas


@dataclass(frozen=True)
class ClassCount:
    """How often a class occurs."""

    name: str
    category_id: int
    boxes: int
    images: int
    """Images with at least one."""


@dataclass(frozen=True)
class Summary:
    """An annotation file in figures; crowd regions and boxes without area are not counted."""

    images: int
    boxes: int
    boxes_per_image: float
    """Mean over all images."""
    most_boxes: int
    """In one image."""
    images_without_boxes: int
    classes: tuple[ClassCount, ...]
    """By ascending category id, the order of class indices."""
    input_size: Size
    small: float
    """Share of boxes under 32x32 pixels when the image is stretched to ``input_size``."""
    medium: float
    """Share of boxes from 32x32 to 96x96 pixels."""
    large: float
    """Share of boxes of 96x96 pixels and more."""
    median_side_px: float
    """Median of the square root of the area, in pixels at ``input_size``; 0 without boxes."""
    smallest_image: Size
    """By area, (height, width); (0, 0) if no image has a size in the file."""
    median_image: Size
    largest_image: Size

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def summarise(file: CocoFile, input_size: Size) -> Summary:
    """The figures of ``file`` for a network input of (height, width) ``input_size`` pixels."""
    boxes_wh = file.annotations.boxes_xywh[:, 2:]
    counted = ~file.annotations.crowd & (file.image_rows >= 0) & np.all(boxes_wh > 0, axis=1)
    rows = file.image_rows[counted]
    per_image = np.bincount(rows, minlength=len(file.images))
    image_sizes = np.array([(image.height, image.width) for image in file.images], np.int64).reshape(-1, 2)
    areas_px2 = _areas_at(input_size, boxes_wh[counted], image_sizes[rows])
    smallest, median, largest = _typical(image_sizes[np.all(image_sizes > 0, axis=1)])
    return Summary(
        images=len(file.images),
        boxes=len(rows),
        boxes_per_image=len(rows) / max(len(file.images), 1),
        most_boxes=int(per_image.max(initial=0)),
        images_without_boxes=int((per_image == 0).sum()),
        classes=_count_classes(file, file.annotations.category_ids[counted], rows),
        input_size=input_size,
        small=_share(areas_px2 < _SMALL_PX2),
        medium=_share((areas_px2 >= _SMALL_PX2) & (areas_px2 < _MEDIUM_PX2)),
        large=_share(areas_px2 >= _MEDIUM_PX2),
        median_side_px=float(np.median(np.sqrt(areas_px2))) if len(areas_px2) else 0.0,
        smallest_image=smallest,
        median_image=median,
        largest_image=largest,
    )


def _areas_at(
    size: Size, boxes_wh: NDArray[np.float64], image_sizes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Areas in pixels once images are stretched to ``size``, of boxes in images of known size."""
    image_areas = image_sizes.prod(axis=1)
    known = image_areas > 0
    areas: NDArray[np.float64] = boxes_wh[known].prod(axis=1) * (size[0] * size[1]) / image_areas[known]
    return areas


def _count_classes(
    file: CocoFile, category_ids: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[ClassCount, ...]:
    pairs = sorted((category["id"], category["name"]) for category in file.categories)
    return tuple(
        ClassCount(name, i, int((category_ids == i).sum()), len(np.unique(rows[category_ids == i])))
        for i, name in pairs
    )


def _typical(sizes: NDArray[np.int64]) -> tuple[Size, Size, Size]:
    """Sizes (height, width) of the smallest, the middle and the largest image by area."""
    if not len(sizes):
        return (0, 0), (0, 0), (0, 0)
    order = np.argsort(sizes.prod(axis=1), kind="stable")
    low, middle, high = (sizes[order[position]].tolist() for position in (0, len(order) // 2, -1))
    return (low[0], low[1]), (middle[0], middle[1]), (high[0], high[1])


def _share(chosen: NDArray[np.bool_]) -> float:
    return float(chosen.mean()) if len(chosen) else 0.0
