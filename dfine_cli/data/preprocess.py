"""What happens to an image before the network sees it, in evaluation and everywhere a model is run.

The rule is that of the published weights: RGB, stretched to the input size with Pillow's antialiased bilinear
filter, without keeping the aspect ratio, divided by 255 and not normalised further.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dfine_cli.types import Size


@dataclass(frozen=True)
class Preprocessing:
    """The rule for one input size.

    Args:
        size: (height, width) of the network input in pixels.
    """

    size: Size

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Network input [3, H, W] in [0, 1] for an image [H', W', 3] uint8 RGB."""
        return to_unit(resize(image, self.size))

    def describe(self) -> dict[str, Any]:
        """Plain values that tell another program how to prepare an image."""
        return {
            "size": list(self.size),
            "channels": "RGB",
            "layout": "CHW",
            "resize": "bilinear, antialiased (Pillow)",
            "keep_aspect_ratio": False,
            "divide_by": 255,
        }


def resize(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """An image [H', W', 3] RGB stretched to [3, H, W]: a byte per value, as images travel between processes.

    Args:
        image: The image; a box in fractions of it is the same box in fractions of the result.
        size: (height, width) of the result in pixels.
    """
    height, width = size
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(resized.transpose(2, 0, 1))


def to_unit(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes of any shape as float32 in [0, 1]."""
    scaled: NDArray[np.float32] = np.divide(images, 255, dtype=np.float32)
    return scaled
