"""The two crops that Albumentations lacks, as its transforms: zoom-out and the IoU crop of SSD.

Both only draw a window; ``Reframe`` puts windows one into another and resizes, touching the pixels once.
"""

import os
import random
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for updates at import

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from dfine_cli.data.window import View, Window
from dfine_cli.types import Size

MIN_SIDE = 1.0
"""Objects of which less is left than this, in pixels along a side, are dropped."""
EPSILON = 1e-3
"""Pixels that a side may lack through the rounding of float32 fractions."""


class Cut(NamedTuple):
    """A window and the objects that stay in it."""

    window: Window
    stays: NDArray[np.bool_]
    """[T]"""


class WindowTransform(A.DualTransform):
    """A transform that shows a window of the image, black beyond it."""

    @abstractmethod
    def draw(self, size: Size, boxes_xyxy: NDArray[np.float64]) -> Cut:
        """A random window.

        Args:
            size: (height, width) of the image in pixels.
            boxes_xyxy: [T, 4] objects in pixels.
        """

    def result_size(self, window: Window) -> Size:
        """(height, width) that the window becomes."""
        return window.size

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """The window, and which boxes stay."""
        size = params["shape"][:2]
        boxes = np.asarray(data["bboxes"])[:, :4] if len(data["bboxes"]) else np.zeros((0, 4))
        return {"cut": self.draw(size, boxes * _pixels(size))}

    def apply(self, img: NDArray[np.uint8], cut: Cut, **_: Any) -> NDArray[np.uint8]:
        """What the window shows, [h, w, 3]."""
        return View(img.shape[:2], cut.window, self.result_size(cut.window)).render(img)

    def apply_to_bboxes(
        self, bboxes: NDArray[np.float32], cut: Cut, shape: tuple[int, ...], **_: Any
    ) -> NDArray[np.float32]:
        """Boxes that stay, clipped to the window; xyxy as fractions, further columns are carried along."""
        view = View((shape[0], shape[1]), cut.window, self.result_size(cut.window))
        moved = view.move(bboxes[:, :4] * _pixels((shape[0], shape[1])))[1]
        sides = (moved[:, 2:] - moved[:, :2]) / view.scale
        stays = cut.stays & (sides >= MIN_SIDE - EPSILON).all(1)
        return np.concatenate((moved / _pixels(view.size), bboxes[:, 4:]), 1)[stays].astype(np.float32)


class ZoomOut(WindowTransform):
    """The image somewhere on a larger black canvas of the same shape.

    Args:
        most: Largest side of the canvas, as a multiple of the image's.
        p: Probability.
    """

    def __init__(self, most: float = 4.0, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.most = most

    def draw(self, size: Size, boxes_xyxy: NDArray[np.float64]) -> Cut:
        """The canvas; every object stays."""
        height, width = size
        factor, right, down = self.random_generator.random(3)
        factor = 1 + factor * (self.most - 1)
        canvas_height, canvas_width = int(height * factor), int(width * factor)
        left, top = int((canvas_width - width) * right), int((canvas_height - height) * down)
        return Cut(Window(-left, -top, canvas_width, canvas_height), np.ones(len(boxes_xyxy), bool))


class IouCrop(WindowTransform):
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

    def draw(self, size: Size, boxes_xyxy: NDArray[np.float64]) -> Cut:
        """The crop, and the objects with their centre in it."""
        whole = Cut(Window(0, 0, size[1], size[0]), np.ones(len(boxes_xyxy), bool))
        for _ in range(self.DRAWS if len(boxes_xyxy) else 0):
            overlap = self.OVERLAPS[self.random_generator.integers(len(self.OVERLAPS))]
            if overlap >= 1:
                break
            crops = self._crops(size)
            inside, ious = _overlaps(crops, boxes_xyxy)
            good = inside.any(1) & (np.where(inside, ious, 0).max(1) >= overlap)
            if good.any():
                first = int(good.argmax())
                x1, y1, x2, y2 = crops[first].astype(int).tolist()
                return Cut(Window(x1, y1, x2 - x1, y2 - y1), inside[first])
        return whole

    def _crops(self, size: Size) -> NDArray[np.float64]:
        """Up to ``TRIALS`` crops [n, 4] xyxy in whole pixels, those with a legal aspect ratio."""
        (low, high), (wide, tall) = self.SIDES, self.ASPECTS
        limits = np.array((size[1], size[0]))
        u = self.random_generator.random((self.TRIALS, 4))
        sides = np.maximum(np.floor(limits * (low + (high - low) * u[:, :2])), 1)
        corners = np.floor((limits - sides) * u[:, 2:])
        corners_xyxy = np.concatenate((corners, corners + sides), 1)
        aspects = sides[:, 0] / sides[:, 1]
        legal: NDArray[np.float64] = corners_xyxy[(aspects >= wide) & (aspects <= tall)]
        return legal


class Reframe(WindowTransform):
    """Windows one in another, then the resize to the network's input.

    The same as its parts and a resize in a row, but for interpolation at the border of a zoomed-out image.

    Args:
        parts: Drawn in this order, each with its own probability.
        size: (height, width) of the result in pixels.
    """

    def __init__(self, parts: Sequence[WindowTransform], size: Size) -> None:
        super().__init__(p=1.0)
        self.parts = parts
        self.size = size

    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None:
        """Share the generators with the parts."""
        super().set_random_state(random_generator, py_random)
        for part in self.parts:
            part.set_random_state(random_generator, py_random)

    def draw(self, size: Size, boxes_xyxy: NDArray[np.float64]) -> Cut:
        """The innermost window; objects must stay in every part."""
        window, stays = Window(0, 0, size[1], size[0]), np.ones(len(boxes_xyxy), bool)
        for part in self.parts:
            if part.should_apply():
                rows = np.flatnonzero(stays)
                cut = part.draw(window.size, boxes_xyxy[rows] - (window.left, window.top) * 2)
                window, stays[rows] = window.inner(cut.window), cut.stays
        return Cut(window, stays)

    def result_size(self, window: Window) -> Size:
        """The input size, whatever the window."""
        return self.size


def _pixels(size: Size) -> NDArray[np.float64]:
    """What turns fractions into pixels of an xyxy box."""
    return np.array((size[1], size[0]) * 2, np.float64)


def _overlaps(
    crops: NDArray[np.float64], boxes: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which box centres are inside which crops, and their IoU, both [n, T]; all xyxy."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = np.all((centre > crops[:, None, :2]) & (centre < crops[:, None, 2:]), -1)
    low, high = np.maximum(crops[:, None, :2], boxes[:, :2]), np.minimum(crops[:, None, 2:], boxes[:, 2:])
    intersection = (high - low).clip(0).prod(-1)
    areas = (crops[:, 2:] - crops[:, :2]).prod(-1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return inside, intersection / np.maximum(areas - intersection, 1e-9)
