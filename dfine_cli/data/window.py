"""Windows into an image: what zoom-out, crop, mosaic tile and resize have in common.

A window is a rectangle in the plane of an image and may reach beyond it. Windows are composed as numbers and
the pixels are resampled once, so a canvas four times as large as the image is never built. Boxes go through
the mapping that the pixels go through, roundings included, so they stay exact.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from dfine_cli.types import Size

Boxes = NDArray[np.floating[Any]]
"""[T, 4] xyxy in pixels."""


class Window(NamedTuple):
    """A rectangle in pixels of an image; the image itself begins at (0, 0)."""

    left: int
    top: int
    width: int
    height: int

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.height, self.width

    def inner(self, window: "Window") -> "Window":
        """A window whose place is measured from the corner of this one, measured from the image's."""
        return window._replace(left=self.left + window.left, top=self.top + window.top)


class View:
    """An image seen through a window.

    Args:
        image_size: (height, width) of the image in pixels.
        window: What is seen.
        size: (height, width) of the result in pixels.
    """

    def __init__(self, image_size: Size, window: Window, size: Size) -> None:
        x, self._target_x = _overlap(window.left, window.width, image_size[1], size[1])
        y, self._target_y = _overlap(window.top, window.height, image_size[0], size[0])
        self._source_x, self._source_y = x, y
        self.size = size

    def render(self, image: NDArray[np.uint8], fill: int = 0) -> NDArray[np.uint8]:
        """The result [h, w, 3], with ``fill`` beyond the image; may be a view of ``image``."""
        target = self._target_y.stop - self._target_y.start, self._target_x.stop - self._target_x.start
        if target == self.size:
            return resize(image[self._source_y, self._source_x], target)
        picture = np.full((*self.size, 3), fill, np.uint8)
        if min(target) > 0:
            picture[self._target_y, self._target_x] = resize(image[self._source_y, self._source_x], target)
        return picture

    def move(self, boxes_xyxy: Boxes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes in pixels of the result, [T, 4] xyxy, before and after they are clipped to what is seen."""
        x, y, to_x, to_y = self._source_x, self._source_y, self._target_x, self._target_y
        moved = (boxes_xyxy - np.array((x.start, y.start) * 2)) * np.array(self.scale * 2)
        moved += (to_x.start, to_y.start) * 2
        return moved, moved.clip((to_x.start, to_y.start) * 2, (to_x.stop, to_y.stop) * 2)

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the result per pixel of the image, along x and along y."""
        return _ratio(self._source_x, self._target_x), _ratio(self._source_y, self._target_y)


def resize(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """An image [H, W, 3] stretched to (height, width), with the antialiased bilinear filter of evaluation.

    PyTorch's kernel for bytes gives Pillow's pixels in a quarter of the time.
    """
    if image.shape[:2] == size:
        return image
    pixels = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    resized = F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    result: NDArray[np.uint8] = resized[0].permute(1, 2, 0).numpy()
    return result


def _overlap(start: int, extent: int, length: int, result: int) -> tuple[slice, slice]:
    """Along one axis, the part of the image in the window and where it lies in the result, in whole pixels."""
    low, high = max(0, start), min(length, start + extent)
    if high <= low:
        return slice(0, 0), slice(0, 0)
    to_low = min(round((low - start) * result / extent), result - 1)
    to_high = max(round((high - start) * result / extent), to_low + 1)
    return slice(low, high), slice(to_low, to_high)


def _ratio(source: slice, target: slice) -> float:
    return float((target.stop - target.start) / max(source.stop - source.start, 1))
