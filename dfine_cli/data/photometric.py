"""Photometric distortion (SSD, Liu et al., 2016) as one Albumentations transform on 8-bit RGB."""

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


class PhotometricDistort(A.ImageOnlyTransform):
    """Brightness, contrast, saturation, hue and order of channels, each with its own draw.

    Contrast comes before or after saturation and hue, with equal probability.

    Args:
        each: Probability of each part.
    """

    def __init__(self, each: float = 0.5) -> None:
        super().__init__(p=1.0)
        self.each = each

    def get_params(self) -> dict[str, Any]:
        """What each part does; None for one that is left out."""
        draw = self.random_generator
        brightness, contrast, saturation, hue = (
            float(draw.uniform(*limits)) if draw.random() < self.each else None
            for limits in (BRIGHTNESS, CONTRAST, SATURATION, HUE)
        )
        early = bool(draw.random() < 0.5)
        order = draw.permutation(3) if draw.random() < self.each else None
        return {
            "brightness": brightness,
            "contrast": contrast,
            "saturation": saturation,
            "hue": hue,
            "early": early,
            "order": order,
        }

    def apply(
        self,
        img: NDArray[np.uint8],
        brightness: float | None,
        contrast: float | None,
        saturation: float | None,
        hue: float | None,
        early: bool,
        order: NDArray[np.int64] | None,
        **_: Any,
    ) -> NDArray[np.uint8]:
        """The distorted image [H, W, 3]."""
        if brightness is not None:
            img = cv2.LUT(img, _scaled(brightness)).astype(np.uint8, copy=False)
        if contrast is not None and early:
            img = _contrasted(img, contrast)
        if saturation is not None or hue is not None:
            img = _recoloured(img, saturation or 1.0, hue or 0.0)
        if contrast is not None and not early:
            img = _contrasted(img, contrast)
        return img if order is None else np.ascontiguousarray(img[..., order])


def _scaled(factor: float, offset: float = 0.0) -> NDArray[np.uint8]:
    """Table of ``factor * value + offset``, rounded and clipped."""
    return (np.arange(256) * factor + offset + 0.5).clip(0, 255).astype(np.uint8)


def _contrasted(img: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Every value moved away from the mean grey of the image, or towards it."""
    red, green, blue = cv2.mean(img)[:3]
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return cv2.LUT(img, _scaled(factor, (1 - factor) * grey)).astype(np.uint8, copy=False)


def _recoloured(img: NDArray[np.uint8], saturation: float, hue: float) -> NDArray[np.uint8]:
    """Saturation scaled and hue turned, in one trip through HSV (hue in steps of 2 degrees)."""
    steps = round(hue * 180)
    table = np.stack(((np.arange(256) + steps) % 180, _scaled(saturation), np.arange(256)), -1).astype(
        np.uint8
    )[None]
    hsv = cv2.LUT(cv2.cvtColor(img, cv2.COLOR_RGB2HSV), table)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.uint8, copy=False)
