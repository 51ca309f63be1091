"""The two crops that Albumentations lacks, as its transforms: zoom-out and the IoU crop of SSD.

Both draw from the generators that Albumentations seeds, so a pipeline with a seed repeats itself.
"""

import os
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for updates at import

import albumentations as A
import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
"""[T, 4 or more] xyxy as fractions of the image; further columns are carried along."""


class ZoomOut(A.DualTransform):
    """The image somewhere on a larger black canvas of the same shape.

    Args:
        most: Largest side of the canvas, as a multiple of the image's.
        p: Probability.
    """

    def __init__(self, most: float = 4.0, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.most = most

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Canvas and place of the image on it, in pixels."""
        height, width = params["shape"][:2]
        factor, right, down = self.random_generator.random(3)
        factor = 1 + factor * (self.most - 1)
        canvas = int(height * factor), int(width * factor)
        return {
            "canvas": canvas,
            "top": int((canvas[0] - height) * down),
            "left": int((canvas[1] - width) * right),
        }

    def apply(
        self, img: NDArray[np.uint8], canvas: tuple[int, int], top: int, left: int, **_: Any
    ) -> NDArray[np.uint8]:
        """The canvas [h, w, 3]."""
        height, width = img.shape[:2]
        picture = np.zeros((*canvas, 3), np.uint8)
        picture[top : top + height, left : left + width] = img
        return picture

    def apply_to_bboxes(
        self, bboxes: Boxes, canvas: tuple[int, int], top: int, left: int, shape: tuple[int, ...], **_: Any
    ) -> Boxes:
        """The boxes as fractions of the canvas."""
        moved: Boxes = bboxes.copy()
        moved[:, [0, 2]] = (bboxes[:, [0, 2]] * shape[1] + left) / canvas[1]
        moved[:, [1, 3]] = (bboxes[:, [1, 3]] * shape[0] + top) / canvas[0]
        return moved


class IouCrop(A.DualTransform):
    """A part of the image that overlaps some object by at least a drawn IoU (SSD, Liu et al., 2016).

    Objects stay if their centre is inside. An overlap is drawn, then up to 40 crops are tried; if none
    overlaps enough, another overlap is drawn. An overlap of 1 keeps the whole image.

    Args:
        p: Probability.
    """

    OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    TRIALS = 40
    SIDES = (0.3, 1.0)
    ASPECTS = (0.5, 2.0)
    DRAWS = 50
    """Draws of an overlap before the image stays whole; the whole image is drawn long before."""

    def __init__(self, p: float = 0.8) -> None:
        super().__init__(p=p)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Crop in whole pixels as (x1, y1, x2, y2), and which boxes stay."""
        height, width = params["shape"][:2]
        boxes = np.asarray(data["bboxes"], np.float64).reshape(
            -1, np.shape(data["bboxes"])[-1] if len(data["bboxes"]) else 4
        )
        boxes_px = boxes[:, :4] * (width, height, width, height)
        whole = {"crop": (0, 0, width, height), "stays": np.ones(len(boxes_px), bool)}
        if not len(boxes_px):
            return whole
        for _ in range(self.DRAWS):
            overlap = self.OVERLAPS[self.random_generator.integers(len(self.OVERLAPS))]
            if overlap >= 1:
                return whole
            crops = self._draw(height, width)
            inside, ious = _overlaps(crops, boxes_px)
            good = inside.any(1) & (np.where(inside, ious, 0).max(1) >= overlap)
            if good.any():
                first = int(good.argmax())
                x1, y1, x2, y2 = crops[first].astype(int).tolist()
                return {"crop": (x1, y1, x2, y2), "stays": inside[first]}
        return whole

    def _draw(self, height: int, width: int) -> NDArray[np.float64]:
        """Up to ``TRIALS`` crops [n, 4] xyxy in whole pixels with a legal aspect ratio."""
        low, high = self.SIDES
        u = self.random_generator.random((self.TRIALS, 4))
        w, h = (
            np.floor(width * (low + (high - low) * u[:, 0])),
            np.floor(height * (low + (high - low) * u[:, 1])),
        )
        w, h = np.maximum(w, 1), np.maximum(h, 1)
        x, y = np.floor((width - w) * u[:, 2]), np.floor((height - h) * u[:, 3])
        legal = (w / h >= self.ASPECTS[0]) & (w / h <= self.ASPECTS[1])
        crops = np.stack((x, y, x + w, y + h), 1)
        return crops[legal] if legal.any() else np.array([[0.0, 0.0, width, height]])

    def apply(self, img: NDArray[np.uint8], crop: tuple[int, int, int, int], **_: Any) -> NDArray[np.uint8]:
        """The part of the image."""
        x1, y1, x2, y2 = crop
        return img[y1:y2, x1:x2]

    def apply_to_bboxes(
        self,
        bboxes: Boxes,
        crop: tuple[int, int, int, int],
        stays: NDArray[np.bool_],
        shape: tuple[int, ...],
        **_: Any,
    ) -> Boxes:
        """Boxes that stay, clipped, as fractions of the crop."""
        x1, y1, x2, y2 = crop
        kept: Boxes = bboxes[stays].copy()
        kept[:, [0, 2]] = ((kept[:, [0, 2]] * shape[1] - x1) / (x2 - x1)).clip(0, 1)
        kept[:, [1, 3]] = ((kept[:, [1, 3]] * shape[0] - y1) / (y2 - y1)).clip(0, 1)
        return kept


def _overlaps(
    crops: NDArray[np.float64], boxes: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which box centres are inside which crops, and their IoU, both [n, T]; all xyxy."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = np.logical_and.reduce((centre > crops[:, None, :2]) & (centre < crops[:, None, 2:]), -1)
    size = (np.minimum(crops[:, None, 2:], boxes[:, 2:]) - np.maximum(crops[:, None, :2], boxes[:, :2])).clip(
        0
    )
    intersection = size.prod(-1)
    areas = (crops[:, 2:] - crops[:, :2]).prod(-1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return inside, intersection / np.maximum(areas - intersection, 1e-9)
