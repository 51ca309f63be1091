"""Photometric distortion (SSD, Liu et al., 2016) as one Albumentations transform on 8-bit RGB.

Brightness, contrast, saturation and the order of channels are affine maps of a colour (R, G, B, 1), so they are
multiplied as 4x4 matrices and the pixels are touched once, or twice around a turn of the hue.
"""

import os
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

BRIGHTNESS = (0.875, 1.125)
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE = (-0.05, 0.05)
"""Share of the colour circle."""
GREY = np.array((0.299, 0.587, 0.114, 0.0))
"""Brightness of a colour."""

Matrix = NDArray[np.float64]


class PhotometricDistort(A.ImageOnlyTransform):
    """Brightness, contrast, saturation, hue and order of channels, each with its own draw.

    Contrast comes before or after saturation and hue, with equal probability.
    # published: values are rounded and clipped after every part, here at the end and before the hue.

    Args:
        each: Probability of each part.
        swap: Whether the order of the channels is one of them.
    """

    def __init__(self, each: float = 0.5, swap: bool = True) -> None:
        super().__init__(p=1.0)
        self.each = each
        self.swap = swap

    def get_params(self) -> dict[str, Any]:
        """What each part does; 1, or 0 for the hue, where it is left out."""
        draw = self.random_generator
        brightness, contrast, saturation, hue = (
            float(draw.uniform(*limits)) if draw.random() < self.each else neutral
            for limits, neutral in ((BRIGHTNESS, 1.0), (CONTRAST, 1.0), (SATURATION, 1.0), (HUE, 0.0))
        )
        early = draw.random() < 0.5
        order = draw.permutation(3).tolist() if self.swap and draw.random() < self.each else [0, 1, 2]
        return {
            "brightness": brightness,
            "contrasts": (contrast, 1.0) if early else (1.0, contrast),
            "saturation": saturation,
            "hue": hue,
            "order": order,
        }

    def apply(
        self,
        img: NDArray[np.uint8],
        brightness: float,
        contrasts: tuple[float, float],
        saturation: float,
        hue: float,
        order: list[int],
        **_: Any,
    ) -> NDArray[np.uint8]:
        """The distorted image [H, W, 3]."""
        matrix = np.diag((brightness, brightness, brightness, 1.0))
        matrix = _contrast(contrasts[0], matrix, img) @ matrix
        matrix = _saturation(saturation) @ matrix
        if hue:
            img, matrix = _turn_hue(_transform(img, matrix), hue), np.eye(4)
        matrix = _contrast(contrasts[1], matrix, img) @ matrix
        return _transform(img, matrix[[*order, 3]])


def _contrast(factor: float, matrix: Matrix, img: NDArray[np.uint8]) -> Matrix:
    """Every value away from the mean grey, or towards it; the mean is that of ``img`` after ``matrix``."""
    result = np.diag((factor, factor, factor, 1.0))
    if factor != 1:
        mean = np.array((*cv2.mean(img)[:3], 1.0))
        result[:3, 3] = (1 - factor) * (GREY @ matrix @ mean)
    return result


def _saturation(factor: float) -> Matrix:
    """Every colour away from its own grey, or towards it."""
    result = np.diag((factor, factor, factor, 1.0))
    result[:3] += (1 - factor) * GREY
    return result


def _transform(img: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    if np.array_equal(matrix, np.eye(4)):
        return img
    return cv2.transform(img, matrix[:3].astype(np.float32)).astype(np.uint8, copy=False)


def _turn_hue(img: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """The hue of every pixel turned by a share of the circle, in steps of 1/256."""
    hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV_FULL).astype(np.uint8, copy=False)
    hsv[..., 0] += np.uint8(round(share * 256) % 256)  # wraps, as the circle does
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL).astype(np.uint8, copy=False)
